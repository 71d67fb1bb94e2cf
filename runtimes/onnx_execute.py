"""Call a session with numpy arrays and get numpy arrays: the element types that onnxruntime's Python API mistreats.

BYTES: given `bytes` with a NUL, or that are not ASCII, the API silently makes the text of a Python literal of
them, so elements are decoded strictly as UTF-8 first. BF16 has no numpy type: it goes by OrtValue as bit patterns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto

from runtimes.base import Array, ExecutionFailed, ModelSignature

Execute = Callable[[Sequence[str], Mapping[str, Array], None], list[Array]]
"""Wanted output names, inputs, nothing -> outputs in that order. Raises ExecutionFailed or onnxruntime's own errors."""

BF16_ELEMENT = "tensor(bfloat16)"  # onnxruntime's name for it


def executor_of(session: ort.InferenceSession, signature: ModelSignature) -> Execute:
    """Choose the cheapest way to call `session` that is exact for the signature's datatypes."""
    into = {spec.datatype for spec in signature.inputs}
    out = {spec.datatype for spec in signature.outputs}
    if "BF16" in out:
        return _ValueExecute(session, signature)
    if "BF16" in into or "BYTES" in into | out:
        return _ConvertingExecute(_native_run(session), signature)
    return _native_run(session)


def _native_run(session: ort.InferenceSession) -> Execute:
    # The public `run` re-validates names in Python: 1.9 of its 8.9 us for a one-node model. The caller checks
    # the number of inputs and the native one rejects unknown names, which is the same check.
    run: Execute = getattr(session, "_sess", session).run
    return run


class _ConvertingExecute:
    """BYTES in or out, BF16 in: by `run`."""

    def __init__(self, run: Execute, signature: ModelSignature) -> None:
        self._run = run
        special = [spec for spec in signature.inputs if spec.datatype in _CONVERT]
        self._convert = tuple((spec.name, _CONVERT[spec.datatype]) for spec in special)

    def __call__(self, names: Sequence[str], inputs: Mapping[str, Array], options: None) -> list[Array]:
        feed: dict[str, Any] = dict(inputs)
        for name, convert in self._convert:
            if name in feed:
                feed[name] = convert(name, feed[name])
        return [bytes_of(value) if value.dtype.hasobject else value for value in self._run(names, feed, options)]


class _ValueExecute:
    """BF16 out: by OrtValues."""

    def __init__(self, session: ort.InferenceSession, signature: ModelSignature) -> None:
        self._session = session
        self._bf16 = frozenset(spec.name for spec in signature.inputs if spec.datatype == "BF16")

    def __call__(self, names: Sequence[str], inputs: Mapping[str, Array], options: None) -> list[Array]:
        feed = {
            name: bf16_of(name, array) if name in self._bf16 else ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in inputs.items()
        }
        return [_array_of(value) for value in self._session.run_with_ort_values(list(names), feed, options)]


def bf16_of(name: str, array: Array) -> ort.OrtValue:
    """Wrap uint16 bit patterns as BF16. Raises ExecutionFailed naming the input."""
    if array.dtype != np.uint16:
        raise ExecutionFailed(f"input {name!r}: BF16 is held as uint16, got {array.dtype}", bad_input=True)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, TensorProto.BFLOAT16)


def text_of(name: str, array: Array) -> Array:
    """Decode an object array of `bytes` for onnxruntime. Raises ExecutionFailed naming the input."""
    try:
        texts = [element.decode() for element in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise ExecutionFailed(f"input {name!r}: an element is not valid UTF-8", bad_input=True) from error
    except AttributeError as error:
        raise ExecutionFailed(f"input {name!r}: BYTES elements must be bytes", bad_input=True) from error
    for text in texts:
        if "\0" in text:  # operators that go through C strings would cut it here
            raise ExecutionFailed(
                f"input {name!r}: an element holds a NUL byte, which ONNX strings cannot carry", bad_input=True
            )
    return _objects(texts, array.shape)


def bytes_of(array: Array) -> Array:
    """Encode an object array of `str` back to an object array of `bytes`."""
    return _objects([text.encode() for text in array.reshape(-1).tolist()], array.shape)


def _objects(elements: list[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)


def _array_of(value: ort.OrtValue) -> Array:
    if value.data_type() == BF16_ELEMENT:
        bits = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
        return np.frombuffer(bits, np.dtype("<u2")).reshape(value.shape())
    array: Array = value.numpy()
    return bytes_of(array) if array.dtype.hasobject else array


_CONVERT: Mapping[str, Callable[[str, Array], Any]] = MappingProxyType({"BYTES": text_of, "BF16": bf16_of})
