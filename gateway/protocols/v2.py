"""V2 over HTTP <-> requests: JSON, and the binary tensor extension both ways. Pure: no I/O, no clock.

Sources: KServe "Open Inference Protocol" REST, Triton "Binary Tensor Data Extension" and "Classification
Extension". `data` is left as raw JSON by the typed decoder and read by datatype, so each byte is parsed once.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import orjson

from gateway.core.deadline import timeout_parameter_ns
from gateway.core.errors import GatewayError, invalid
from gateway.core.types import (
    NO_PARAMETERS,
    InferRequest,
    InferResponse,
    RequestedOutput,
    ServableVersion,
    Tensor,
)
from gateway.protocols import tensors, v2_known
from gateway.protocols.v2_json import SHALLOW, array_from_json, check_depth, json_from_tensor
from gateway.protocols.v2_known import Decoded
from runtimes.base import DTYPES, Array

MAX_NAME = 1024
MAX_TENSORS = 1024
_MAX_MEMO = 256

_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
_Dim = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_NO_DATA = msgspec.Raw(b"")


class _Input(msgspec.Struct, gc=False):
    name: _Name
    shape: Annotated[list[_Dim], msgspec.Meta(max_length=tensors.MAX_DIMS)]
    datatype: str
    data: msgspec.Raw = _NO_DATA
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct, gc=False):
    name: _Name
    parameters: dict[str, Any] | None = None


class _Body(msgspec.Struct, gc=False):
    inputs: Annotated[list[_Input], msgspec.Meta(max_length=MAX_TENSORS)]
    id: _Name = ""
    parameters: dict[str, Any] | None = None
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=MAX_TENSORS)] | None = None


_decoder = msgspec.json.Decoder(_Body)
_UNSUPPORTED_PARAMETERS = ("sequence_id", "sequence_start", "sequence_end")


def decode_request(model: str, version: str, body: tensors.Buffer, header_length: int | None, now_ns: int) -> Decoded:
    """Decode a V2 body; `header_length` is Inference-Header-Content-Length, None where the body is all JSON.

    Numeric tensors of the binary form are read-only views of `body`. `now_ns` bases the parameter `timeout`.
    Raises INVALID_ARGUMENT whose message names the input or holds the JSON path, where the JSON parses.
    """
    known = v2_known.decode(model, version, body, header_length)
    if known is not None:
        return known
    size = len(body)
    binary_at = size if header_length is None else header_length
    if not 0 < binary_at <= size:
        raise _no_header(header_length, size)
    parsed = _parse(body if binary_at == size and not isinstance(body, memoryview) else bytes(body[:binary_at]))
    inputs: dict[str, Tensor] = {}
    for index, item in enumerate(parsed.inputs):
        if item.name in inputs:
            raise invalid(f"input '{item.name}' is given more than once ($.inputs[{index}].name)")
        if item.parameters is None:
            array = array_from_json(item.data, item.datatype, item.shape, item.name, index)
        else:
            array, binary_at = _with_parameters(item, index, body, binary_at, model)
        inputs[item.name] = Tensor(item.datatype, array)
    if binary_at != size:
        raise invalid(f"the body has {len(body) - binary_at} bytes of binary data that no input claims")
    request = InferRequest(model, version, parsed.id, inputs)
    if parsed.outputs:
        request.outputs = _outputs(parsed.outputs)
    binary = parsed.parameters is not None and _parameters(request, parsed.parameters, now_ns)
    decoded = Decoded(request, binary)
    v2_known.learn(decoded, body, header_length, [item.data for item in parsed.inputs])
    return decoded


def _no_header(header_length: int | None, size: int) -> GatewayError:
    if header_length is None:
        return invalid("the request body is empty; expected a JSON object with inputs ($)")
    return invalid(f"Inference-Header-Content-Length {header_length} is not between 1 and the body's {size} bytes")


def _parse(text: bytes | bytearray) -> _Body:
    if len(text) >= SHALLOW:
        check_depth(text)
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        where = "" if "`$" in str(error) else " - at `$`"  # msgspec leaves the root out
        raise invalid(f"the request JSON does not fit: {error}{where}") from None
    except (ValueError, RecursionError, msgspec.DecodeError) as error:  # ValueError: UnicodeDecodeError
        reason = str(error) if isinstance(error, msgspec.DecodeError) else "not UTF-8 text"
        raise invalid(f"failed to parse the request JSON buffer: {reason[:200]}") from None


def _with_parameters(item: _Input, index: int, body: tensors.Buffer, at: int, model: str) -> tuple[Array, int]:
    parameters = item.parameters or {}
    size = parameters.get("binary_data_size")
    for key in parameters:
        if key.startswith("shared_memory_"):
            raise invalid(f"input '{item.name}': shared memory is not supported ($.inputs[{index}].parameters.{key})")
    if size is None:
        return array_from_json(item.data, item.datatype, item.shape, item.name, index), at
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise invalid(f"input '{item.name}': binary_data_size must be a whole number of bytes >= 0")
    if len(item.data):
        raise invalid(f"input '{item.name}' has both data and binary_data_size")
    if at + size > len(body):
        raise invalid(f"input '{item.name}' claims {size} bytes of binary data, the body has {len(body) - at} left")
    part = memoryview(body)[at : at + size]
    return tensors.array_from_raw(item.datatype, item.shape, part, item.name, model), at + size


def _outputs(items: list[_Output]) -> tuple[RequestedOutput, ...]:
    outputs = []
    seen = set()
    for index, item in enumerate(items):
        if item.name in seen:
            raise invalid(f"output '{item.name}' is requested more than once ($.outputs[{index}].name)")
        seen.add(item.name)
        if item.parameters is None:
            outputs.append(RequestedOutput(item.name))
            continue
        binary = item.parameters.get("binary_data")
        classes = item.parameters.get("classification", 0)
        if binary is not None and not isinstance(binary, bool):
            raise invalid(f"output '{item.name}': binary_data must be true or false")
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
            raise invalid(f"output '{item.name}': classification must be a whole number >= 0")
        for key in item.parameters:
            if key.startswith("shared_memory_"):
                raise invalid(f"output '{item.name}': shared memory is not supported")
        outputs.append(RequestedOutput(item.name, binary, classes))
    return tuple(outputs)


def _parameters(request: InferRequest, parameters: dict[str, Any], now_ns: int) -> bool:
    """Take the request parameters over; return binary_data_output."""
    for key in _UNSUPPORTED_PARAMETERS:
        if parameters.get(key):
            raise invalid(f"parameter '{key}': sequences are not supported ($.parameters.{key})")
    timeout = parameters.get("timeout")
    if timeout:
        try:
            request.deadline_ns = now_ns + timeout_parameter_ns(timeout)
        except GatewayError as error:
            raise invalid(f"{error.message} ($.parameters.timeout)") from None
    binary = parameters.pop("binary_data_output", False)
    if not isinstance(binary, bool):
        raise invalid("parameter 'binary_data_output' must be true or false ($.parameters.binary_data_output)")
    request.parameters = parameters or NO_PARAMETERS
    return binary


def decode_raw(servable: ServableVersion, version: str, body: tensors.Buffer) -> Decoded:
    """Decode a raw binary request (header length 0): the whole body is the only input, batch 1, outputs binary.

    Raises INVALID_ARGUMENT where the model has several inputs or more than one variable dimension.
    """
    inputs = servable.signature.inputs
    if len(inputs) != 1:
        raise invalid(f"raw binary requests need a model with exactly one input, '{servable.model}' has {len(inputs)}")
    spec = inputs[0]
    shape = [1 if index == 0 and servable.max_batch_size else dim for index, dim in enumerate(spec.shape)]
    if spec.datatype == "BYTES":
        shape = [1 if dim == -1 else dim for dim in shape]
        if any(dim != 1 for dim in shape):
            raise invalid(f"raw binary request: BYTES input '{spec.name}' must have shape [1]")
        part = len(body).to_bytes(4, "little") + bytes(body)
        array = tensors.array_from_raw("BYTES", shape, part, spec.name, servable.model)
    else:
        array = tensors.array_from_raw(spec.datatype, _filled(shape, spec, len(body)), body, spec.name, servable.model)
    return Decoded(InferRequest(servable.model, version, "", {spec.name: Tensor(spec.datatype, array)}), True)


def _filled(shape: list[int], spec: Any, size: int) -> list[int]:
    free = [index for index, dim in enumerate(shape) if dim == -1]
    if len(free) > 1:
        raise invalid(f"raw binary request: input '{spec.name}' has more than one variable dimension")
    if free:
        known = DTYPES[spec.datatype].itemsize
        for dim in shape:
            known *= dim if dim != -1 else 1
        shape[free[0]] = size // known if known else 0
    return shape


def encode_response(request: InferRequest, response: InferResponse, *, binary: bool) -> tuple[bytes, int | None]:
    """Encode an answer; returns the body and, where it has binary parts, the length of its JSON header.

    `binary` is the default form of outputs that did not say. Raises INVALID_ARGUMENT where an output has no
    JSON form (FP16, BF16, bytes that are no text).
    """
    target = request.target
    memo = {} if target is None else target.memo
    if request.outputs:
        binary = _any_binary(request, binary)
    outputs = response.outputs
    if len(outputs) == 1 and not (binary or request.id or response.parameters):
        ((name, tensor),) = outputs.items()
        array = tensor.array
        start = memo.get((name, array.shape, tensor.datatype)) or _single_start(request, memo, name, tensor)
        return b"".join((start, json_from_tensor(tensor, name), b"}]}")), None
    parts = [memo.get("v2_prefix") or _prefix(request, memo)]
    if request.id:
        parts.append(b',"id":' + orjson.dumps(request.id))
    if response.parameters:
        parts.append(b',"parameters":' + orjson.dumps(dict(response.parameters)))
    parts.append(b',"outputs":[')
    if binary:
        return _encode_binary(request, response, parts, memo)
    separator = b""
    for name, tensor in response.outputs.items():
        parts.append(separator)
        parts.append(_output_head(memo, name, tensor))
        parts.append(b',"data":')
        parts.append(json_from_tensor(tensor, name))
        separator = b"},"
    parts.append(b"}]}" if response.outputs else b"]}")
    return b"".join(parts), None


def _single_start(request: InferRequest, memo: dict[Any, Any], name: str, tensor: Tensor) -> bytes:
    """All that stands before the data of an only output, kept per shape within bounds."""
    start = _prefix(request, memo) + b',"outputs":[' + _output_head(memo, name, tensor) + b',"data":'
    if len(memo) < _MAX_MEMO:
        memo[name, tensor.array.shape, tensor.datatype] = start
    return start


def _encode_binary(
    request: InferRequest, response: InferResponse, parts: list[bytes], memo: dict[Any, Any]
) -> tuple[bytes, int]:
    wishes = {output.name: output.binary for output in request.outputs}
    tails: list[bytes] = []
    separator = b""
    for name, tensor in response.outputs.items():
        parts.append(separator)
        parts.append(_output_head(memo, name, tensor))
        if wishes.get(name, True) is not False:
            raw = tensors.raw_from_array(tensor.datatype, tensor.array)
            parts.append(b',"parameters":{"binary_data_size":%d}' % len(raw))
            tails.append(raw)
        else:
            parts.append(b',"data":')
            parts.append(json_from_tensor(tensor, name))
        separator = b"},"
    parts.append(b"}]}" if response.outputs else b"]}")
    head = b"".join(parts)
    return b"".join([head, *tails]), len(head)


def _any_binary(request: InferRequest, default: bool) -> bool:
    """Resolve each output's form against the default; tell whether any is binary."""
    if any(output.binary is None for output in request.outputs):
        request.outputs = tuple(
            RequestedOutput(o.name, default, o.classification) if o.binary is None else o for o in request.outputs
        )
    return any(output.binary for output in request.outputs)


def _prefix(request: InferRequest, memo: dict[Any, Any]) -> bytes:
    target = request.target
    model, version = (request.model, request.version) if target is None else (target.model, target.version)
    prefix = b'{"model_name":' + orjson.dumps(model) + b',"model_version":' + orjson.dumps(version)
    memo["v2_prefix"] = prefix
    return prefix


def _output_head(memo: dict[Any, Any], name: str, tensor: Tensor) -> bytes:
    """`{"name":..,"datatype":..,"shape":[..]`, kept per (name, datatype, shape) within bounds."""
    shape = tensor.array.shape
    key = (name, tensor.datatype, shape)
    head: bytes | None = memo.get(key)
    if head is None:
        head = b'{"name":%b,"datatype":"%b","shape":%b' % (
            orjson.dumps(name),
            tensor.datatype.encode(),
            orjson.dumps(list(shape)),
        )
        if len(memo) < _MAX_MEMO:
            memo[key] = head
    return head


def error_body(error: GatewayError) -> bytes:
    """The V2 error object."""
    return b'{"error":' + orjson.dumps(error.message, default=str) + b"}"
