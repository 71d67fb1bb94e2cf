"""Protobuf bytes <-> requests without protobuf, where the same header came before: 3 us instead of 8 per call.

All bytes of a ModelInferRequest before its raw contents (field 7), the id left out, repeat from call to call. They
are decoded once by `v2_pb`; after that equal bytes mean equal fields, and only the tensors are new, as views of the
message itself (protobuf would copy each twice). Whatever is not exactly as remembered takes the whole codec, so
there is one judge of what is valid. Wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from gateway.core.deadline import timeout_parameter_ns
from gateway.core.types import InferRequest, InferResponse, RequestedOutput, Tensor
from gateway.protocols import tensors, v2_pb
from runtimes.base import Array

MAX_PLANS = 1024
MAX_KEY = 4096
"""Bytes of a remembered header, so that strange clients cost 4 MiB at most."""

MAX_MEMO = 512

_ID, _RAW_IN, _RAW_OUT = 0x1A, 0x3A, b"\x32"
_VIEWED_FROM = 4096  # below it `tobytes` is cheaper than joining from the array's buffer


class _Input(msgspec.Struct, frozen=True, gc=False):
    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int
    prefix: bytes  # tag and length of its raw contents
    size: int


class _Plan(msgspec.Struct, frozen=True):
    """What equal header bytes decode to."""

    model: str
    version: str
    outputs: tuple[RequestedOutput, ...]
    parameters: Mapping[str, Any]
    timeout_ns: int
    inputs: tuple[_Input, ...]
    tail: int  # bytes of all raw contents with their tags


_PLANS: dict[bytes, _Plan] = {}  # used on the event loop only; cleared when full


def decode_body(body: bytes | bytearray, now_ns: int) -> InferRequest:
    """Decode a serialised ModelInferRequest; numeric tensors are read-only views. Raises INVALID_ARGUMENT only."""
    try:
        key, client_id, at = _split(body)
    except (ValueError, IndexError):  # not in the usual form, maybe not valid
        return v2_pb.decode_infer(v2_pb.parse_infer(body), now_ns)
    plan = _PLANS.get(key)
    if plan is None or len(body) - at != plan.tail:
        request = v2_pb.decode_infer(v2_pb.parse_infer(body), now_ns)
        _learn(key, request, len(body) - at)
        return request
    inputs: dict[str, Tensor] = {}
    for item in plan.inputs:
        if not body.startswith(item.prefix, at):
            return v2_pb.decode_infer(v2_pb.parse_infer(body), now_ns)
        at += len(item.prefix)
        array = np.frombuffer(body, item.dtype, item.count, at).reshape(item.shape)
        # A message gives its tensors any offset; kernels may load by whole vectors.
        inputs[item.name] = Tensor(item.datatype, array if array.flags.aligned else array.copy())
        at += item.size
    return InferRequest(
        model=plan.model,
        version=plan.version,
        id=client_id,
        inputs=inputs,
        outputs=plan.outputs,
        parameters=plan.parameters,
        protocol="grpc",
        deadline_ns=now_ns + plan.timeout_ns if plan.timeout_ns else 0,
    )


def encode_body(request: InferRequest, response: InferResponse) -> bytes:
    """Serialise an answer as a ModelInferResponse, its fields in the order protobuf writes them."""
    target = request.target
    if response.parameters or target is None:
        whole: bytes = v2_pb.encode_infer(request, response).SerializeToString()
        return whole
    outputs = response.outputs
    key = ("pb", request.model, *[(name, tensor.datatype, tensor.array.shape) for name, tensor in outputs.items()])
    head: tuple[bytes, bytes] | None = target.memo.get(key)
    if head is None:
        head = _head(request, response)
        if len(target.memo) < MAX_MEMO:
            target.memo[key] = head
    parts: list[Any] = [head[0]]
    if request.id:
        client_id = request.id.encode()
        parts += (b"\x1a", varint(len(client_id)), client_id)
    parts.append(head[1])
    for tensor in outputs.values():
        data = _data(tensor)
        parts += (_RAW_OUT, varint(data.nbytes if isinstance(data, np.ndarray) else len(data)), data)
    return b"".join(parts)


def varint(value: int) -> bytes:
    """Encode a whole number >= 0 as protobuf does."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ONE_BYTE = [bytes((value,)) for value in range(0x80)]


def _split(body: bytes | bytearray) -> tuple[bytes, str, int]:
    """Return the header without the id, the id, and where raw contents begin.

    Raises ValueError or IndexError where the header has another form than length-delimited fields 1 to 15.
    """
    size = len(body)
    at = id_at = id_end = 0
    client_id = ""
    while at < size:
        tag = body[at]
        if tag == _RAW_IN:
            break
        if tag & 0x87 != 2:
            raise ValueError
        length = body[at + 1]
        start = at + 2
        if length >= 0x80:
            high = body[start]
            if high >= 0x80:
                raise ValueError
            length = length & 0x7F | high << 7
            start += 1
        if tag == _ID:
            if id_end:
                raise ValueError
            id_at, id_end = at, start + length
            client_id = body[start:id_end].decode()
        at = start + length
    key = body[:id_at] + body[id_end:at] if id_end else body[:at]
    return bytes(key), client_id, at


def _learn(key: bytes, request: InferRequest, tail: int) -> None:
    """Remember what `key` means, where all inputs are numbers: their sizes follow from the header."""
    if len(key) > MAX_KEY:
        return
    inputs = []
    for name, tensor in request.inputs.items():
        array = tensor.array
        if tensor.datatype in ("BYTES", "BOOL") or not array.size:
            return
        prefix = b"\x3a" + varint(array.nbytes)
        inputs.append(_Input(name, tensor.datatype, array.dtype, array.shape, array.size, prefix, array.nbytes))
    if sum(len(item.prefix) + item.size for item in inputs) != tail:
        return
    if len(_PLANS) >= MAX_PLANS:
        _PLANS.clear()
    timeout = request.parameters.get("timeout")
    _PLANS[key] = _Plan(
        request.model,
        request.version,
        request.outputs,
        request.parameters,
        timeout_parameter_ns(timeout) if timeout else 0,
        tuple(inputs),
        tail,
    )


def _head(request: InferRequest, response: InferResponse) -> tuple[bytes, bytes]:
    """Return the serialised fields before and after the id, raw contents left out."""
    bare = InferRequest(model=request.model, target=request.target)
    front: bytes = v2_pb.encode_infer(bare, InferResponse({})).SerializeToString()
    message = v2_pb.encode_infer(bare, response)
    del message.raw_output_contents[:]
    return front, message.SerializeToString()[len(front) :]


def _data(tensor: Tensor) -> bytes | Array:
    array = tensor.array
    if tensor.datatype == "BYTES":
        return tensors.packed_from_bytes(array)
    return array if array.nbytes >= _VIEWED_FROM and array.flags.c_contiguous else array.tobytes()
