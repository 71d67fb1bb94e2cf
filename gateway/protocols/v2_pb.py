"""V2 gRPC messages <-> requests: the codec of the Open Inference Protocol in protobuf. Pure, no I/O, no clock.

Wording follows Triton's gRPC front end where clients know it (server/src/grpc/infer_handler.cc).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gateway.core.deadline import timeout_parameter_ns
from gateway.core.errors import GatewayError, invalid
from gateway.core.oip import service_pb2
from gateway.core.types import NO_PARAMETERS, InferRequest, InferResponse, RequestedOutput, Tensor
from gateway.protocols import tensors
from runtimes.base import DTYPES, Array

MAX_NAME = 1024
"""Characters of a model's or tensor's name: they go into messages and logs."""

MAX_TYPED_ELEMENTS = 1 << 20
"""Typed `contents` cost an object per element on the loop; larger tensors have to come raw."""

_TYPED_FIELD = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_NARROW = {"UINT8", "UINT16", "INT8", "INT16"}
_IGNORED = ("binary_data", "binary_data_size", "binary_data_output")
_SHARED_MEMORY = "shared_memory_"
_NO_OUTPUTS: tuple[RequestedOutput, ...] = ()


def decode_infer(message: service_pb2.ModelInferRequest, now_ns: int) -> InferRequest:
    """Turn a ModelInferRequest into a request; numeric tensors are read-only views. `now_ns` bases `timeout`.

    Raises INVALID_ARGUMENT and nothing else, its message behind Triton's request-id prefix.
    """
    try:
        return _decode(message, now_ns)
    except GatewayError as error:
        raise tensors.with_request_id(error, message.id) from None


def parse_infer(body: bytes | bytearray | memoryview) -> service_pb2.ModelInferRequest:
    """Parse the wire form of a ModelInferRequest; raise INVALID_ARGUMENT where it is none."""
    try:
        return service_pb2.ModelInferRequest.FromString(body)
    except Exception as error:  # protobuf.message.DecodeError; upb raises others for broken UTF-8
        raise invalid("failed to parse the request body as an inference.ModelInferRequest") from error


def encode_infer(request: InferRequest, response: InferResponse) -> service_pb2.ModelInferResponse:
    """Turn an answer into a ModelInferResponse; tensors go out in `raw_output_contents`."""
    target = request.target
    message = service_pb2.ModelInferResponse(
        model_name=request.model, model_version=request.version if target is None else target.version, id=request.id
    )
    add_output, add_raw = message.outputs.add, message.raw_output_contents.append
    for name, tensor in response.outputs.items():
        array = tensor.array
        add_output(name=name, datatype=tensor.datatype, shape=array.shape)
        add_raw(array.tobytes() if tensor.datatype != "BYTES" else tensors.packed_from_bytes(array))
    if response.parameters:
        for key, value in response.parameters.items():
            set_parameter(message.parameters[key], value)
    return message


def set_parameter(parameter: service_pb2.InferParameter, value: object) -> None:
    """Write a Python value into an InferParameter; anything but bool, int and float goes out as text."""
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        parameter.int64_param = value
    elif isinstance(value, int) and 0 <= value < 1 << 64:
        parameter.uint64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = str(value)


def _decode(message: service_pb2.ModelInferRequest, now_ns: int) -> InferRequest:
    model = message.model_name
    if len(model) > MAX_NAME:
        raise invalid(f"the model's name has {len(model)} characters, at most {MAX_NAME} are allowed")
    request = InferRequest(
        model=model,
        version=message.model_version,
        id=message.id,
        inputs=_inputs(message, model),
        outputs=_outputs(message) if message.outputs else _NO_OUTPUTS,
        parameters=_parameters(message.parameters) if message.parameters else NO_PARAMETERS,
        protocol="grpc",
    )
    timeout = request.parameters.get("timeout")
    if timeout:
        request.deadline_ns = now_ns + timeout_parameter_ns(timeout)
    return request


def _inputs(message: service_pb2.ModelInferRequest, model: str) -> dict[str, Tensor]:
    inputs: dict[str, Tensor] = {}
    raw = message.raw_input_contents
    at = 0
    for item in message.inputs:
        name = item.name
        if name in inputs or len(name) > MAX_NAME:
            raise _bad_name(name, model)
        if item.parameters:
            _no_shared_memory(item.parameters, f"input '{name}'")
        if not raw:
            inputs[name] = Tensor(item.datatype, _typed(item, name, model))
            continue
        if item.HasField("contents"):
            raise invalid(
                f"contents field must not be specified when using raw_input_contents for '{name}' for model '{model}'"
            )
        if at == len(raw):
            raise _no_data(name, model)
        datatype = item.datatype
        array = tensors.array_from_raw(datatype, tuple(item.shape), raw[at], name, model)
        inputs[name] = Tensor(datatype, array)
        at += 1
    if at != len(raw):
        raise invalid(f"expected {at} raw_input_contents for {at} inputs of model '{model}', got {len(raw)}")
    return inputs


def _bad_name(name: str, model: str) -> GatewayError:
    if len(name) > MAX_NAME:
        return invalid(f"an input of model '{model}' has a name of {len(name)} characters, at most {MAX_NAME} allowed")
    return invalid(f"input '{name}' for model '{model}' is given more than once")


def _no_data(name: str, model: str) -> GatewayError:
    return invalid(f"unable to find data for input tensor '{name}' for model '{model}' in request.")


def _typed(item: service_pb2.ModelInferRequest.InferInputTensor, name: str, model: str) -> Array:
    """Build an array from typed `contents`."""
    datatype = item.datatype
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise tensors.unknown_datatype(datatype, name, model)
    shape = tuple(item.shape)
    count = tensors.element_count(shape, name, model)
    if not item.HasField("contents"):
        raise _no_data(name, model)
    field = _TYPED_FIELD.get(datatype)
    if field is None:
        raise invalid(f"input '{name}' for model '{model}' of data-type '{datatype}' must use raw_input_contents")
    for given, _ in item.contents.ListFields():
        if given.name != field:
            raise invalid(
                f"unexpected explicit tensor data for input tensor '{name}' for model '{model}': "
                f"'{given.name}' is set, expected '{field}' for data-type '{datatype}'"
            )
    values = getattr(item.contents, field)
    _check_typed_count(datatype, dtype.itemsize, (len(values), count), name, model)
    return _typed_array(values, datatype, count, name, model).reshape(shape)


def _check_typed_count(datatype: str, itemsize: int, counts: tuple[int, int], name: str, model: str) -> None:
    got, expected = counts
    if got != expected and datatype == "BYTES":
        raise invalid(
            f"unexpected number of string elements {got} for inference input '{name}' for model '{model}', "
            f"expecting {expected}"
        )
    if got != expected:
        raise invalid(
            f"input byte size mismatch for input '{name}' for model '{model}'. "
            f"Expected {expected * itemsize}, got {got * itemsize}"
        )
    if got > MAX_TYPED_ELEMENTS:
        raise invalid(
            f"input '{name}' for model '{model}' has {got} elements in its contents field, at most "
            f"{MAX_TYPED_ELEMENTS} are accepted there; use raw_input_contents"
        )


def _typed_array(values: Any, datatype: str, count: int, name: str, model: str) -> Array:
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        array: Array = np.empty(count, dtype)
        array[:] = list(values)
        return array
    if datatype not in _NARROW:
        return np.fromiter(values, dtype, count)
    wide: Array = np.fromiter(values, np.int64, count)
    limits = np.iinfo(dtype)
    if count and not (limits.min <= wide.min() and wide.max() <= limits.max):
        raise invalid(
            f"input '{name}' for model '{model}' of data-type '{datatype}' has a value outside "
            f"{limits.min} to {limits.max}"
        )
    return wide.astype(dtype)


def _outputs(message: service_pb2.ModelInferRequest) -> tuple[RequestedOutput, ...]:
    outputs: dict[str, RequestedOutput] = {}
    for item in message.outputs:
        name = item.name
        if name in outputs:
            raise invalid(f"output '{name[:MAX_NAME]}' is requested more than once")
        classification = 0
        if item.parameters:
            _no_shared_memory(item.parameters, f"output '{name[:MAX_NAME]}'")
            classification = _classification(item.parameters, name)
        outputs[name] = RequestedOutput(name, classification=classification)
    return tuple(outputs.values())


def _classification(parameters: Any, name: str) -> int:
    if "classification" not in parameters:
        return 0
    count = parameter_value(parameters["classification"])
    if isinstance(count, bool) or not isinstance(count, int) or count <= 0:
        raise invalid(
            f"parameter 'classification' of output '{name[:MAX_NAME]}' must be a whole number above 0, "
            f"got {str(count)[:64]!r}"
        )
    return count


def _no_shared_memory(parameters: Any, where: str) -> None:
    for key in parameters:
        if key.startswith(_SHARED_MEMORY):
            raise invalid(f"parameter '{key[:64]}' of {where}: shared memory is not supported, send the data itself")


def parameter_value(parameter: service_pb2.InferParameter) -> bool | int | float | str | None:
    """Return the value of an InferParameter, None where no choice is set."""
    choice = parameter.WhichOneof("parameter_choice")
    value: bool | int | float | str | None = None if choice is None else getattr(parameter, choice)
    return value


def _parameters(given: Any) -> Mapping[str, Any]:
    parameters: dict[str, Any] = {}
    for key in given:
        value = parameter_value(given[key])
        if value is None:
            raise invalid(
                f"invalid value type for '{key[:MAX_NAME]}' parameter, expected int64_param, bool_param, "
                "string_param, double_param or uint64_param."
            )
        if key not in _IGNORED:
            parameters[key] = value
    if any(parameters.get(key) for key in ("sequence_id", "sequence_start", "sequence_end")):
        raise invalid("parameter 'sequence_id': stateful sequences are not supported by this server")
    priority = parameters.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
        raise invalid("invalid value for 'priority', expected a whole number >= 0.")
    return parameters
