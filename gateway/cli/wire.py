"""V2 requests and answers as a client sees them: arrays to a binary request, a JSON answer to readable lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.base import DTYPES

Array = npt.NDArray[Any]
HEADER_LENGTH = "Inference-Header-Content-Length"


def infer_body(
    inputs: Mapping[str, tuple[str, Array]], outputs: Sequence[Mapping[str, Any]] = ()
) -> tuple[bytes, dict[str, str]]:
    """Encode a V2 request with binary inputs (name -> datatype, array); return body and headers."""
    described, blobs = [], []
    for name, (datatype, array) in inputs.items():
        blob = tensor_bytes(datatype, array)
        described.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(blob)},
            }
        )
        blobs.append(blob)
    head = json.dumps({"inputs": described} | ({"outputs": list(outputs)} if outputs else {})).encode()
    headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return head + b"".join(blobs), headers


def json_body(inputs: Mapping[str, tuple[str, Array]]) -> bytes:
    """Encode a V2 request as plain JSON; BYTES elements are sent as UTF-8 text."""
    described = [
        {"name": name, "datatype": datatype, "shape": list(array.shape), "data": _json_data(datatype, array)}
        for name, (datatype, array) in inputs.items()
    ]
    return compact({"inputs": described}).encode()


def _json_data(datatype: str, array: Array) -> list[Any]:
    if datatype == "BYTES":
        return [element.decode("utf-8", "replace") for element in array.ravel()]
    data: list[Any] = array.ravel().tolist()
    return data


def tensor_bytes(datatype: str, array: Array) -> bytes:
    """Encode elements as the binary tensor extension does; BYTES elements carry a 4-byte little-endian length."""
    if datatype == "BYTES":
        return b"".join(len(element).to_bytes(4, "little") + element for element in array.ravel())
    return np.ascontiguousarray(array, dtype=DTYPES[datatype]).tobytes()


def blank(signature: Sequence[Mapping[str, Any]], variable: int = 1) -> dict[str, tuple[str, Array]]:
    """Make a request of zeros (empty strings) for inputs as V2 metadata lists them; -1 becomes `variable`."""
    return {
        spec["name"]: (
            spec["datatype"],
            zeros(spec["datatype"], [size if size > 0 else variable for size in map(int, spec["shape"])]),
        )
        for spec in signature
    }


def zeros(datatype: str, shape: Sequence[int]) -> Array:
    """Return an array of zeros, or of empty byte strings."""
    if datatype == "BYTES":
        return np.full(shape, b"", dtype=np.object_)
    return np.zeros(shape, dtype=DTYPES[datatype])


def readable(answer: Mapping[str, Any], classified: Mapping[str, int]) -> list[str]:
    """Turn a JSON answer into lines: `label score` for outputs asked as classification, else name, shape and values.

    `classified` maps output name -> k, the classes asked for per row.
    """
    lines: list[str] = []
    for output in answer["outputs"]:
        k = classified.get(output["name"], 0)
        if k:
            lines += [_label_line(output["data"][at : at + k]) for at in range(0, len(output["data"]), k)]
        else:
            lines.append(f"{output['name']} {output['datatype']}{output['shape']}: {_values(output['data'])}")
    return lines


def _label_line(entries: Sequence[str]) -> str:
    return "  ".join(_label(entry) for entry in entries)


def _label(entry: str) -> str:
    """Read `score:index[:label]` (Triton's classification extension) as `label score`."""
    score, index, *label = entry.split(":", 2)
    return f"{label[0] if label else index} {float(score):.2f}"


def _values(data: Sequence[Any], shown: int = 8) -> str:
    text = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in data[:shown])
    return f"{text}, ... ({len(data)} values)" if len(data) > shown else text


def compact(value: Any) -> str:
    """Return JSON on one line without spaces."""
    return json.dumps(value, separators=(",", ":"))
