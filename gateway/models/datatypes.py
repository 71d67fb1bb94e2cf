"""Names of datatypes: the protocol's (`FP32`) and config.pbtxt's (`TYPE_FP32`). They differ in BYTES/TYPE_STRING."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.oip import model_config_pb2

_PREFIX = "TYPE_"


def to_oip(data_type: int) -> str:
    """`TYPE_FP32` (its number) -> `FP32`; "" for TYPE_INVALID, which means not said."""
    name = str(model_config_pb2.DataType.Name(data_type)).removeprefix(_PREFIX)
    return {"STRING": "BYTES", "INVALID": ""}.get(name, name)


def to_proto(datatype: str) -> int:
    """`FP32` -> the number of `TYPE_FP32`."""
    return int(model_config_pb2.DataType.Value(_PREFIX + ("STRING" if datatype == "BYTES" else datatype)))


def shape_text(dims: Sequence[int]) -> str:
    """Write a shape as people and Triton do: `[-1,4]`."""
    return "[" + ",".join(str(dim) for dim in dims) + "]"
