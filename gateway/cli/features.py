"""Files -> input arrays, by the kind that a model's `[client.input]` names. Pure.

Featurisation is the client's work: the gateway serves tensors. Each kind is one function of (fields of
`[client.input]`, content of the file, the model's inputs as V2 metadata lists them).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.base import DTYPES

Array = npt.NDArray[Any]
Inputs = Sequence[Mapping[str, Any]]
Kind = Callable[[Mapping[str, Any], bytes, Inputs], dict[str, Array]]


class Unfit(Exception):
    """The file does not have what the kind needs; the text says what."""


def featurise(client_input: Mapping[str, Any], data: bytes, inputs: Inputs) -> dict[str, Array]:
    """Return input name -> array, first dimension rows; raise Unfit."""
    kind = str(client_input.get("kind", ""))
    if kind not in KINDS:
        raise Unfit(f"unknown kind {kind!r}; known are {', '.join(sorted(KINDS))}")
    try:
        return KINDS[kind](client_input, data, inputs)
    except (KeyError, TypeError) as error:
        raise Unfit(f"[client.input] of kind {kind!r} is incomplete or wrong: {error}") from None


def _named(client_input: Mapping[str, Any], inputs: Inputs) -> Mapping[str, Any]:
    """Return the input that `input` names, or the only one there is."""
    name = client_input.get("input")
    if name is None and len(inputs) == 1:
        return inputs[0]
    for spec in inputs:
        if spec["name"] == name:
            return spec
    raise Unfit(f"name the input to fill, one of {', '.join(spec['name'] for spec in inputs)}")


def _as_type(values: object, spec: Mapping[str, Any]) -> Array:
    """Make an array of the input's datatype; text becomes UTF-8 bytes."""
    name, datatype = spec["name"], spec["datatype"]
    try:
        if datatype == "BYTES":
            array = np.array(values, dtype=np.object_)
            flat = [v if isinstance(v, bytes) else str(v).encode() for v in array.ravel()]
            return np.array([*flat, None], dtype=np.object_)[:-1].reshape(array.shape)
        return np.asarray(values).astype(DTYPES[datatype], casting="unsafe")
    except (ValueError, TypeError) as error:
        raise Unfit(f"input {name!r}: expected values of {datatype}: {error}") from None


def _csv(client_input: Mapping[str, Any], data: bytes, inputs: Inputs) -> dict[str, Array]:
    """Read each line as one row of numbers; `columns` is how many there must be."""
    spec = _named(client_input, inputs)
    try:
        lines = data.decode("utf-8-sig").splitlines()
        rows = [[float(cell) for cell in line.split(",")] for line in lines if line.strip()]
    except ValueError as error:
        raise Unfit(f"expected lines of comma-separated numbers: {error}") from None
    columns = client_input.get("columns") or (len(rows[0]) if rows else 0)
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise Unfit(f"row {number}: expected {columns} numbers, got {len(row)}")
    if not rows:
        raise Unfit("expected at least one line of numbers")
    return {spec["name"]: _as_type(rows, spec)}


def _json(client_input: Mapping[str, Any], data: bytes, inputs: Inputs) -> dict[str, Array]:
    """Read a V2 request, or {input: nested lists}, or the nested lists of the only input."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Unfit(f"expected JSON: {error}") from None
    if not isinstance(value, dict):
        spec = _named(client_input, inputs)
        return {spec["name"]: _as_type(value, spec)}
    known = {spec["name"]: spec for spec in inputs}
    if isinstance(value.get("inputs"), list):
        shaped = {entry["name"]: np.array(entry["data"]).reshape(entry["shape"]) for entry in value["inputs"]}
    else:
        shaped = value
    unknown = sorted(set(shaped) - set(known))
    if unknown:
        raise Unfit(f"unknown input {unknown[0]!r}; the model has {', '.join(known)}")
    return {name: _as_type(entry, known[name]) for name, entry in shaped.items()}


def _npy(client_input: Mapping[str, Any], data: bytes, inputs: Inputs) -> dict[str, Array]:
    """Read one array (.npy), or several by name (.npz). Pickled objects are refused."""
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else None
    except (ValueError, OSError, EOFError) as error:
        raise Unfit(f"expected an array in numpy's format: {error}") from None
    if arrays is None:
        spec = _named(client_input, inputs)
        return {spec["name"]: _as_type(loaded, spec)}
    known = {spec["name"]: spec for spec in inputs}
    unknown = sorted(set(arrays) - set(known))
    if unknown:
        raise Unfit(f"unknown input {unknown[0]!r}; the model has {', '.join(known)}")
    return {name: _as_type(array, known[name]) for name, array in arrays.items()}


def _bytes(client_input: Mapping[str, Any], data: bytes, inputs: Inputs) -> dict[str, Array]:
    """Pass the file's bytes as they are: UINT8 [size], or one BYTES element [1]."""
    spec = _named(client_input, inputs)
    if spec["datatype"] == "BYTES":
        return {spec["name"]: np.array([data], dtype=np.object_)}
    return {spec["name"]: np.frombuffer(data, dtype=np.uint8)}


def _lines(client_input: Mapping[str, Any], data: bytes, inputs: Inputs) -> dict[str, Array]:
    """Read each line as one text: BYTES [lines, 1]."""
    spec = _named(client_input, inputs)
    try:
        lines = [line.encode() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise Unfit(f"expected UTF-8 text: {error}") from None
    if not lines:
        raise Unfit("expected at least one line of text")
    return {spec["name"]: np.array([*lines, None], dtype=np.object_)[:-1].reshape(-1, 1)}


def _file_ends(client_input: Mapping[str, Any], data: bytes, inputs: Inputs) -> dict[str, Array]:
    """Take the first and the last bytes of the file as numbers: [1, 2 * take].

    `block` bytes are looked at on each side; white space is stripped off the file's ends where `strip` is set;
    what is missing to `take` is filled with `pad`, behind the first part and in front of the last.
    """
    spec = _named(client_input, inputs)
    block, take, pad = (int(client_input[name]) for name in ("block", "take", "pad"))
    first, last = data[:block], data[-block:]
    if client_input.get("strip"):
        first, last = first.lstrip(), last.rstrip()
    numbers = np.full((1, 2 * take), pad, dtype=np.int64)
    first, last = first[:take], last[-take:]
    numbers[0, : len(first)] = np.frombuffer(first, dtype=np.uint8)
    numbers[0, 2 * take - len(last) :] = np.frombuffer(last, dtype=np.uint8)
    return {spec["name"]: _as_type(numbers, spec)}


KINDS: Mapping[str, Kind] = {
    "bytes": _bytes,
    "csv": _csv,
    "file_ends": _file_ends,
    "json": _json,
    "lines": _lines,
    "npy": _npy,
}
