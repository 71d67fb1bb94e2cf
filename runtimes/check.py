"""Say in a client's words what is wrong with a call: names, datatypes, shapes. Pure; never looks at values."""

from __future__ import annotations

from collections.abc import Sequence

from runtimes.base import DTYPES, ExecuteCall, ModelSignature, TensorSpec


def wrong_with(signature: ModelSignature, call: ExecuteCall) -> str:
    """Return the first fault of `call` against `signature`, naming the tensor; "" where there is none."""
    return _unknown_input(signature, call) or _wrong_input(signature, call) or _unknown_output(signature, call)


def _unknown_input(signature: ModelSignature, call: ExecuteCall) -> str:
    known = {spec.name for spec in signature.inputs}
    for name in call.inputs:
        if name not in known:
            return f"unknown input {name!r}; expected {_names(signature.inputs)}"
    return ""


def _wrong_input(signature: ModelSignature, call: ExecuteCall) -> str:
    for spec in signature.inputs:
        array = call.inputs.get(spec.name)
        if array is None:
            if not spec.optional:
                return f"missing input {spec.name!r}"
        elif array.dtype != DTYPES[spec.datatype]:
            return f"input {spec.name!r}: expected {spec.datatype}, got an array of {array.dtype}"
        elif not _fits(spec.shape, array.shape):
            return f"input {spec.name!r}: expected shape {list(spec.shape)}, got {list(array.shape)}"
    return ""


def _unknown_output(signature: ModelSignature, call: ExecuteCall) -> str:
    known = {spec.name for spec in signature.outputs}
    for name in call.outputs:
        if name not in known:
            return f"unknown output {name!r}; the model has {_names(signature.outputs)}"
    return ""


def _fits(expected: Sequence[int], got: Sequence[int]) -> bool:
    return len(expected) == len(got) and all(want in (-1, size) for want, size in zip(expected, got, strict=True))


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)
