"""The clients' view of a model where config.pbtxt asks for another one: `reshape`, and a choice of outputs.

Reshaping makes views, no copies. A model without either is not wrapped, so it pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.models.config import Proto
from gateway.models.datatypes import shape_text
from runtimes.base import (
    Array,
    Cancel,
    Done,
    ExecuteCall,
    ExecuteResult,
    ExecutionFailed,
    Instance,
    ModelSignature,
    nothing_to_cancel,
)

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


def view_of(instance: Instance, config: Proto, model: ModelSignature) -> Instance:
    """Return `instance` itself, or wrapped where the completed `config` reshapes tensors or leaves outputs out."""
    listed = {output.name for output in config.output}
    outputs = tuple(spec.name for spec in model.outputs if spec.name in listed)
    into = {t.name: (tuple(t.dims), tuple(t.reshape.shape)) for t in config.input if t.HasField("reshape")}
    back = {t.name: (tuple(t.reshape.shape), tuple(t.dims)) for t in config.output if t.HasField("reshape")}
    if not into and not back and len(outputs) == len(model.outputs):
        return instance
    return ReshapedInstance(instance, config.max_batch_size > 0, outputs, into, back)


class ReshapedInstance:
    """See `runtimes.base.Instance`. Takes and gives arrays of the configured shapes."""

    def __init__(
        self,
        inner: Instance,
        batched: bool,
        outputs: Sequence[str],
        into: Mapping[str, Shapes],
        back: Mapping[str, Shapes],
    ) -> None:
        self._inner = inner
        self._lead = 1 if batched else 0
        self._outputs = tuple(outputs)
        self._into = into
        self._back = back

    @property
    def slots(self) -> int:
        """How many calls execute at once, as the model's own instance says at the moment."""
        return self._inner.slots

    @slots.setter
    def slots(self, value: int) -> None:
        self._inner.slots = value

    def submit(self, call: ExecuteCall, done: Done) -> Cancel:
        """Reshape, submit, and reshape what comes back."""
        inner_call = self._inner_call(call, done)
        return nothing_to_cancel if inner_call is None else self._inner.submit(inner_call, self._reshaping(done))

    def submit_stream(self, call: ExecuteCall, emit: Callable[[Mapping[str, Array]], None], done: Done) -> Cancel:
        """As `submit`, for every part."""
        inner_call = self._inner_call(call, done)
        if inner_call is None:
            return nothing_to_cancel
        return self._inner.submit_stream(inner_call, lambda part: emit(self._outer(part)), self._reshaping(done))

    async def close(self) -> None:
        """Close the model's own instance."""
        await self._inner.close()

    def _inner_call(self, call: ExecuteCall, done: Done) -> ExecuteCall | None:
        try:
            inputs = {name: self._cast("input", name, array) for name, array in call.inputs.items()}
        except ValueError as error:
            done(ExecutionFailed(str(error), bad_input=True))
            return None
        outputs = call.outputs or self._outputs
        return ExecuteCall(inputs, outputs, call.parameters, call.deadline_ns, call.traceparent, call.raw)

    def _reshaping(self, done: Done) -> Done:
        def reshape(result: ExecuteResult) -> None:
            if not isinstance(result, ExecutionFailed):
                try:
                    result = self._outer(result)
                except ValueError as error:
                    result = ExecutionFailed(str(error))
            done(result)

        return reshape

    def _outer(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return {name: self._cast("output", name, array) for name, array in outputs.items()}

    def _cast(self, side: str, name: str, array: Array) -> Array:
        """Give `array` the other shape; its n-th variable dimension is the n-th there. Raises ValueError."""
        shapes = (self._into if side == "input" else self._back).get(name)
        if shapes is None:
            return array
        now, wanted = shapes
        lead, rest = array.shape[: self._lead], array.shape[self._lead :]
        fits = len(rest) == len(now) and all(dim in (-1, size) for dim, size in zip(now, rest, strict=True))
        if not fits:
            expected = shape_text((-1,) * self._lead + now)
            raise ValueError(f"{side} '{name}' has shape {shape_text(array.shape)}, expected {expected}")
        variable = iter([size for size, dim in zip(rest, now, strict=True) if dim == -1])
        return array.reshape(lead + tuple(next(variable) if dim == -1 else dim for dim in wanted))
