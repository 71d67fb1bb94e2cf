"""Nested JSON values <-> arrays, as TensorFlow Serving's REST API writes them. Pure, no I/O.

A value that does not fit is looked at element by element, to name its place in the document.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson

from gateway.core.errors import GatewayError, invalid
from runtimes.base import DTYPES, Array

MAX_DIMS = 64
"""numpy's own limit since 2.0; deeper lists are refused."""

NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""How values that JSON has no number for are written, both ways."""

_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
_QUOTED = 32  # characters of a client's value that a message repeats

Place = tuple[str, str]
"""Where a tensor's value lies: the document's key and, for rows of objects or columns, the input's name."""


def array_from_json(datatype: str, value: Any, place: Place) -> Array:
    """Read a value or nested list as an array of the Open Inference Protocol's `datatype`.

    Raises INVALID_ARGUMENT naming the place of the first element that is of another type or out of range, or of
    the first list that differs from its neighbours.
    """
    # Not np.array(value): that reads [true, 2] as [1, 2], "7" beside numbers as text of the longest one's width
    # (memory: count x width), and integers of both signs beyond 2**63 as doubles.
    nested = np.array(value, dtype=np.object_)
    flat = nested.ravel().tolist()
    try:
        array = _convert(datatype, flat)
    except (ValueError, OverflowError):
        array = None
    if array is None:
        raise _fault(datatype, nested, flat, place)
    return array.reshape(nested.shape)


def json_from_array(datatype: str, array: Array, name: str) -> Any:
    """Return what orjson (with OPT_SERIALIZE_NUMPY) writes as the array's nested list; non-finite values as strings.

    BYTES become strings, or `{"b64": ..}` where `name` ends in `_bytes` or an element is not UTF-8.
    """
    if datatype == "BYTES":
        return _nested([_json_bytes(element, name.endswith("_bytes")) for element in array.ravel().tolist()], array)
    if datatype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if datatype in _FLOATS and not np.isfinite(array).all():
        return _nested([_json_float(element) for element in array.ravel().tolist()], array)
    return np.ascontiguousarray(array) if array.ndim else array.item()


def path_of(place: Place, indices: tuple[int, ...] = ()) -> str:
    """Write where an element lies: `instances[2].x[0]`, `inputs.x[2][0]`, `instances[2][0]`."""
    key, name = place
    steps = [f"[{index}]" for index in indices]
    if name and key == "instances":
        return key + "".join(steps[:1]) + f".{name}" + "".join(steps[1:])
    return key + (f".{name}" if name else "") + "".join(steps)


def _convert(datatype: str, flat: list[Any]) -> Array | None:
    """Make the flat array; None, ValueError or OverflowError where an element does not fit."""
    kinds = set(map(type, flat))
    if datatype == "BYTES":
        array = np.empty(len(flat), np.object_)
        array[:] = [_read_bytes(element) for element in flat]
        return array
    if datatype in _FLOATS:
        return _floats(datatype, flat, kinds)
    if not kinds <= ({bool} if datatype == "BOOL" else {int}):
        return None
    return np.array(flat, DTYPES[datatype])


def _floats(datatype: str, flat: list[Any], kinds: set[type]) -> Array | None:
    """Round to the datatype; None where an element is no number or a finite one would become infinite."""
    if str in kinds:
        flat = [NON_FINITE.get(element) if type(element) is str else element for element in flat]
        kinds = set(map(type, flat))
    if not kinds <= {int, float}:
        return None
    array = np.array(flat, np.float64)
    if datatype == "FP64":
        return array
    with np.errstate(over="ignore"):
        narrow: Array = array.astype(np.float16 if datatype == "FP16" else np.float32)
    if np.isinf(narrow).any() and not np.array_equal(np.isinf(narrow), np.isinf(array)):
        return None
    if datatype != "BF16":
        return narrow
    bits = narrow.view(np.uint32)
    # Round to nearest, ties to even; a NaN keeps its upper half, where the quiet bit is.
    rounded = np.where(np.isnan(narrow), bits, bits + 0x7FFF + ((bits >> 16) & 1))
    return (rounded >> 16).astype(np.uint16)


def _fault(datatype: str, nested: Array, flat: list[Any], place: Place) -> GatewayError:
    """Find the first element that `datatype` cannot hold and say where it is and what was expected."""
    check = _CHECKS[datatype]
    for position, element in enumerate(flat):
        try:
            check(element)
        except ValueError as error:
            indices = tuple(int(index) for index in np.unravel_index(position, nested.shape))
            problem = str(error) if type(element) is not list else _uneven(element, flat, len(indices))
            return invalid(f"{path_of(place, indices)}: {problem}")
    return invalid(f"{path_of(place)}: holds a number out of range for {datatype}")


def _uneven(element: list[Any], flat: list[Any], depth: int) -> str:
    if depth >= MAX_DIMS:
        return f"lists are nested deeper than {MAX_DIMS}"
    lengths = sorted({len(other) for other in flat if type(other) is list})
    if len(lengths) > 1:
        return f"lists here must have equal lengths, they have {lengths[0]} to {lengths[-1]} elements"
    return f"a list of {len(element)} elements stands beside lists of another depth"


def _describe(value: Any) -> str:
    if type(value) in (dict, list):
        return "an object" if type(value) is dict else "a list"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "..."


def _check_float(datatype: str, value: Any) -> None:
    if type(value) not in (int, float) and not (type(value) is str and value in NON_FINITE):
        raise ValueError(f"expected a number ({datatype}), got {_describe(value)}")
    if _floats(datatype, [value], {type(value)}) is None:
        raise ValueError(f"{_describe(value)} is out of range for {datatype}")


def _check_bool(value: Any) -> None:
    if type(value) is not bool:
        raise ValueError(f"expected true or false, got {_describe(value)}")


def _check_integer(datatype: str, value: Any) -> None:
    bounds = np.iinfo(DTYPES[datatype])
    low, high = int(bounds.min), int(bounds.max)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"expected a whole number from {low} to {high} ({datatype}), got {_describe(value)}")


def _read_bytes(value: Any) -> bytes:
    if type(value) is str:
        return value.encode()
    if type(value) is dict and value.keys() == {"b64"} and type(value["b64"]) is str:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error:
            raise ValueError("'b64' does not hold valid base64") from None
    raise ValueError(f'expected a string or {{"b64": "..."}} (BYTES), got {_describe(value)}')


_CHECKS: dict[str, Callable[[Any], object]] = {
    "BOOL": _check_bool,
    "BYTES": _read_bytes,
    **{name: partial(_check_float, name) for name in _FLOATS},
    **{name: partial(_check_integer, name) for name in DTYPES if name.startswith(("INT", "UINT"))},
}


def _json_bytes(element: bytes, binary: bool) -> str | dict[str, str]:
    if not binary:
        try:
            return element.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(element).decode()}


def _json_float(value: float) -> float | str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _nested(elements: list[Any], like: Array) -> Any:
    flat = np.empty(len(elements), np.object_)
    flat[:] = elements
    return flat.reshape(like.shape).tolist()
