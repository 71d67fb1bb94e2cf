"""Many requests' tensors into one batch and one batch's outputs back into rows. Pure; nothing is modified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.core.types import InferRequest, Rows, Tensor
from runtimes.base import Array

_NO_MATTER = frozenset({"timeout", "priority", "headers", "triton_enable_empty_final_response"})


def merge(requests: Sequence[InferRequest]) -> dict[str, Array]:
    """Concatenate each input along the first axis, in the order of `requests` (>= 1, same names and row shapes).

    A single request's arrays are passed on without a copy. Ragged trailing shapes raise ValueError: the
    batcher never groups them.
    """
    first = requests[0].inputs
    if len(requests) == 1:
        return {name: tensor.array for name, tensor in first.items()}
    return {name: np.concatenate([r.inputs[name].array for r in requests]) for name in first}


def parameters_key(parameters: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What of a request's parameters may change its answer: requests with different ones do not share a batch."""
    return tuple((name, repr(parameters[name])) for name in sorted(parameters) if name not in _NO_MATTER)


def wanted_outputs(requests: Sequence[InferRequest]) -> tuple[str, ...]:
    """Union of the outputs the requests name, in first-seen order; () = all (some request wants all)."""
    names: dict[str, None] = {}
    for request in requests:
        if not request.outputs:
            return ()
        for output in request.outputs:
            names[output.name] = None
    return tuple(names)


def split(
    outputs: Mapping[str, Array], datatypes: Mapping[str, str], requests: Sequence[InferRequest]
) -> list[dict[str, Tensor]]:
    """Cut each output into the requests' rows (views, no copies), keeping only what each request wants.

    Raises ValueError where an output's first dimension is not the sum of the rows: handing out such rows
    would give callers other callers' answers.
    """
    total = sum([request.rows for request in requests])
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != total:
            raise ValueError(f"output '{name}' has shape {list(array.shape)} for a batch of {total} rows")
    items = [(name, datatypes[name], array, Rows(array)) for name, array in outputs.items()]
    parts = []
    start = 0
    for request in requests:
        stop = start + request.rows
        part = {}
        for name, datatype, array, batch in items:
            part[name] = Tensor(datatype, array[start:stop], batch, start)
        parts.append(select(part, request) if request.outputs else part)
        start = stop
    return parts


def select(outputs: dict[str, Tensor], request: InferRequest) -> dict[str, Tensor]:
    """Keep the outputs the request names, in its order; all where it names none."""
    if not request.outputs:
        return outputs
    return {wanted.name: outputs[wanted.name] for wanted in request.outputs}
