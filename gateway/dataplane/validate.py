"""Hold a request against the version's signature before anything is queued. Pure but for completing the request.

The wording is Triton's, because clients grep for it (core/src/infer_request.cc).
"""

from __future__ import annotations

from gateway.core.errors import GatewayError, invalid
from gateway.core.types import InferRequest, ServableVersion, Stage, Tensor
from gateway.dataplane.classify import classify_outputs
from runtimes.base import TensorSpec


class ValidateStage:
    """First stage of a version's stack: names, datatypes, shapes, rows. Sets `rows` and `shape_key`.

    Requests above max_batch_size go to `oversize` where there is one (it divides them), else they are refused.
    """

    def __init__(self, servable: ServableVersion, inner: Stage, oversize: Stage | None = None) -> None:
        self._model = servable.model
        self._specs = {spec.name: spec for spec in servable.signature.inputs}
        self._required = frozenset(self._specs) - servable.optional_inputs
        self._outputs = frozenset(spec.name for spec in servable.signature.outputs)
        self._batched = servable.max_batch_size > 0
        self._max_rows = servable.max_batch_size
        self._oversize = oversize
        skip = 1 if self._batched else 0
        variable = any(-1 in spec.shape[skip:] for spec in servable.signature.inputs)
        self._keyed = variable or bool(servable.optional_inputs)
        # (name, datatype, row shape) of inputs whose row shape is fixed: one tuple comparison instead of a loop
        self._fixed = (
            None
            if self._keyed or not self._batched
            else [(s.name, s.datatype, s.shape[1:], len(s.shape)) for s in servable.signature.inputs]
        )
        self._inner = inner

    def __call__(self, request: InferRequest) -> None:
        """Hand a sound request on; complete any other with INVALID_ARGUMENT naming the input."""
        try:
            if self._fixed is None or not self._quick(request):
                self._check(request)
            if request.outputs:
                self._check_outputs(request)
        except GatewayError as error:
            request.complete(error)
            return
        if self._oversize is not None and request.rows > self._max_rows:
            self._oversize(request)
        else:
            self._inner(request)

    def _quick(self, request: InferRequest) -> bool:
        """Accept the common sound request cheaply; False = look again slowly, to accept or to say why not."""
        inputs = request.inputs
        fixed = self._fixed
        if fixed is None or len(inputs) != len(fixed):
            return False
        rows = -1
        for name, datatype, row_shape, ndim in fixed:
            tensor = inputs.get(name)
            if tensor is None or tensor.datatype != datatype:
                return False
            shape = tensor.array.shape
            if len(shape) != ndim or shape[1:] != row_shape:
                return False
            if rows < 0:
                rows = shape[0]
            elif rows != shape[0]:
                return False
        if rows < 1 or (rows > self._max_rows and self._oversize is None):
            return False
        request.rows = rows
        return True

    def _check(self, request: InferRequest) -> None:
        inputs = request.inputs
        if not self._required <= inputs.keys():
            self._missing(request)
        rows = -1
        key: list[object] = []
        for name, tensor in inputs.items():
            spec = self._specs.get(name)
            if spec is None:
                raise invalid(f"{_id(request)}unexpected inference input '{name}' for model '{self._model}'")
            self._check_input(request, spec, tensor)
            shape = tensor.array.shape
            if self._batched:
                if rows >= 0 and shape[0] != rows:
                    raise invalid(
                        f"{_id(request)}input '{name}' batch size does not match other inputs for '{self._model}'"
                    )
                rows = shape[0]
                shape = shape[1:]
            key.append((name, shape))
        if self._batched:
            self._check_rows(request, rows)
        if self._keyed:
            request.shape_key = tuple(sorted(key, key=str))

    def _check_input(self, request: InferRequest, spec: TensorSpec, tensor: Tensor) -> None:
        if tensor.datatype != spec.datatype:
            raise invalid(
                f"{_id(request)}inference input '{spec.name}' data-type is '{tensor.datatype}', "
                f"but model '{self._model}' expects '{spec.datatype}'"
            )
        shape = tensor.array.shape
        expected = spec.shape
        fits = len(shape) == len(expected) and all(want in (-1, got) for want, got in zip(expected, shape, strict=True))
        if not fits:
            raise invalid(
                f"{_id(request)}unexpected shape for input '{spec.name}' for model '{self._model}'. "
                f"Expected {_dims(expected)}, got {_dims(shape)}. "
            )

    def _check_rows(self, request: InferRequest, rows: int) -> None:
        if rows < 1:
            raise invalid(f"{_id(request)}inference request batch-size must be >= 1 for '{self._model}'")
        if rows > self._max_rows and self._oversize is None:
            raise invalid(f"{_id(request)}inference request batch-size must be <= {self._max_rows} for '{self._model}'")
        request.rows = rows

    def _missing(self, request: InferRequest) -> None:
        got = list(request.inputs)
        missing = [name for name in self._specs if name in self._required and name not in request.inputs]
        raise invalid(
            f"{_id(request)}expected {len(self._required)} inputs but got {len(got)} inputs for model "
            f"'{self._model}'. Got input(s) {_names(got)}, but missing required input(s) {_names(missing)}. "
            "Please provide all required input(s)."
        )

    def _check_outputs(self, request: InferRequest) -> None:
        for output in request.outputs:
            if output.name not in self._outputs:
                raise invalid(f"{_id(request)}unexpected inference output '{output.name}' for model '{self._model}'")
        if any(output.classification for output in request.outputs):
            request.on_outcome.append(classify_outputs)


def _id(request: InferRequest) -> str:
    return f"[request id: {request.id or '<id_unknown>'}] "


def _dims(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(str(dim) for dim in shape) + "]"


def _names(names: list[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names[:64]) + "]"
