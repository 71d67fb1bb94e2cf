"""TensorFlow Serving's REST predict call (V1): rows `instances` -> `predictions`, columns `inputs` -> `outputs`. Pure.

Numbers follow the model's signature. NaN and the infinities are the strings "NaN", "Infinity", "-Infinity" both ways,
so that answers are valid JSON (TensorFlow Serving writes bare tokens; they are refused as broken JSON here).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson

from gateway.core.errors import GatewayError, invalid
from gateway.core.types import InferRequest, InferResponse, ServableVersion, Tensor
from gateway.protocols.v1_tensors import Place, array_from_json, json_from_array, path_of
from runtimes.base import Array, TensorSpec

_DEFAULT_SIGNATURES = ("", "serving_default")


def decode_predict(servable: ServableVersion, body: bytes | bytearray | memoryview) -> tuple[InferRequest, bool]:
    """Read a predict body against the version's signature; True = row form, which the answer must follow.

    Sets model, inputs, protocol and bytes_in. Raises INVALID_ARGUMENT naming the JSON path.
    """
    document = _document(body)
    rows = "instances" in document
    value = document["instances" if rows else "inputs"]
    columns = _columns_of_rows(servable, value) if rows else _columns(servable, value)
    inputs: dict[str, Tensor] = {}
    for spec, column, place in columns:
        array = array_from_json(spec.datatype, column, place)
        _check_shape(spec, array, place, rows=rows)
        inputs[spec.name] = Tensor(spec.datatype, array)
    request = InferRequest(servable.model, inputs=inputs, protocol="v1", bytes_in=len(body))
    return request, rows


def encode_predict(request: InferRequest, response: InferResponse, row_form: bool) -> bytes:
    """Write the answer in the form of the question; a model's single output goes without its name.

    Raises INVALID_ARGUMENT where the row form was asked of outputs that have no rows in common.
    """
    tensors = response.outputs
    values = {name: json_from_array(tensor.datatype, tensor.array, name) for name, tensor in tensors.items()}
    target = request.target
    single = len(tensors) == 1 and (target is None or len(target.signature.outputs) == 1)
    if not row_form:
        return _dump({"outputs": next(iter(values.values())) if single else values})
    counts = {tensor.array.shape[:1] for tensor in tensors.values()}
    if len(counts) != 1 or counts == {()}:
        raise invalid(
            f"the outputs of model '{request.model}' differ in their first dimension and cannot be given per row: "
            "send 'inputs' (column form) instead of 'instances'"
        )
    if single:
        return _dump({"predictions": next(iter(values.values()))})
    names = list(values)
    return _dump({"predictions": [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]})


def _dump(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _unreadable(body: bytes | bytearray | memoryview, error: orjson.JSONDecodeError) -> GatewayError:
    """Say why orjson refused the body: no JSON, or a number that no double holds, which another reader gives a path."""
    try:
        msgspec.json.decode(body)
    except msgspec.ValidationError as unfit:
        return invalid(f"the request JSON does not fit: {unfit}")
    except (ValueError, RecursionError):
        pass
    return invalid(f"the request body is not valid JSON: {error.msg} at byte {error.pos}")


def _document(body: bytes | bytearray | memoryview) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _unreadable(body, error) from None
    if type(document) is not dict:
        raise invalid("the request body must be a JSON object with 'instances' or 'inputs'")
    if ("instances" in document) == ("inputs" in document):
        raise invalid("the request must have either 'instances' (row form) or 'inputs' (column form)")
    signature = document.get("signature_name", "")
    if signature not in _DEFAULT_SIGNATURES:
        raise invalid(
            f"'signature_name' must be 'serving_default' (models have one signature), got {str(signature)[:64]!r}"
        )
    return document


Column = tuple[TensorSpec, Any, Place]


def _columns_of_rows(servable: ServableVersion, rows: Any) -> Iterable[Column]:
    """Turn rows into one list per input. A row is the only input's value, or an object by input name."""
    if type(rows) is not list or not rows:
        raise invalid(f"'instances' must be a list of at least one row for model '{servable.model}'")
    if not _is_named(servable, rows[0]):
        return [(_only_input(servable, "instances"), rows, ("instances", ""))]
    names = rows[0].keys()
    for index, row in enumerate(rows):
        if type(row) is not dict:
            raise invalid(f"instances[{index}]: expected an object by input name, as instances[0] is")
        if row.keys() != names:
            _check_names(servable, row, f"instances[{index}]")
            odd = sorted(row.keys() ^ names)[0]
            raise invalid(f"instances[{index}]: input '{odd}' must be given in all rows or in none")
    specs = _check_names(servable, rows[0], "instances[0]")
    return [(spec, [row[spec.name] for row in rows], ("instances", spec.name)) for spec in specs]


def _columns(servable: ServableVersion, value: Any) -> Iterable[Column]:
    if not _is_named(servable, value):
        return [(_only_input(servable, "inputs"), value, ("inputs", ""))]
    return [(spec, value[spec.name], ("inputs", spec.name)) for spec in _check_names(servable, value, "inputs")]


def _is_named(servable: ServableVersion, value: Any) -> bool:
    """Tell an object of inputs from the value of the only input, which may be `{"b64": ..}`."""
    if type(value) is not dict:
        return False
    return value.keys() != {"b64"} or any(spec.name == "b64" for spec in servable.signature.inputs)


def _only_input(servable: ServableVersion, key: str) -> TensorSpec:
    required = [spec for spec in servable.signature.inputs if spec.name not in servable.optional_inputs]
    if len(required) == 1:
        return required[0]
    if not required and len(servable.signature.inputs) == 1:
        return servable.signature.inputs[0]
    names = ", ".join(f"'{spec.name}'" for spec in servable.signature.inputs)
    raise invalid(f"'{key}' must name its inputs: model '{servable.model}' has {names}")


def _check_names(servable: ServableVersion, given: dict[str, Any], path: str) -> list[TensorSpec]:
    """Return the specs of the given inputs in the model's order."""
    specs = {spec.name: spec for spec in servable.signature.inputs}
    for name in given:
        if name not in specs:
            expected = ", ".join(f"'{known}'" for known in specs)
            raise invalid(f"{path}: model '{servable.model}' has no input '{name[:64]}', it has {expected}")
    for name in specs:
        if name not in given and name not in servable.optional_inputs:
            raise invalid(f"{path}: missing required input '{name}' for model '{servable.model}'")
    return [spec for name, spec in specs.items() if name in given]


def _check_shape(spec: TensorSpec, array: Array, place: Place, *, rows: bool) -> None:
    shape = array.shape
    want = spec.shape
    if len(shape) == len(want) and all(size in (-1, got) for size, got in zip(want, shape, strict=True)):
        return
    if rows:
        raise invalid(
            f"{path_of(place, (0,))}: input '{spec.name}' has rows of shape {list(shape[1:])}, "
            f"expected {list(want[1:])} ({spec.datatype}, -1 = any length)"
        )
    raise invalid(
        f"{path_of(place)}: input '{spec.name}' has shape {list(shape)}, "
        f"expected {list(want)} ({spec.datatype}, -1 = any length)"
    )
