"""Classification extension: the top k of an output as strings `score:index[:label]` (extension_classification.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.core.errors import GatewayError, invalid
from gateway.core.types import InferRequest, InferResponse, Outcome, Tensor


def top_k(tensor: Tensor, k: int, labels: Sequence[str], *, batched: bool) -> Tensor:
    """Return a BYTES tensor [rows, k] (or [k] without a batch dimension), best first, ties by lower index.

    k is capped at the number of elements of a row. Scores of whole numbers are whole, others have six decimals
    (as C++ `std::to_string`, which Triton uses). Raises INVALID_ARGUMENT for BYTES, BOOL and BF16 outputs.
    """
    array = tensor.array
    if tensor.datatype in {"BYTES", "BOOL", "BF16"}:
        raise invalid(f"class result not available for output due to unsupported type '{tensor.datatype}'")
    count = array.shape[0] if batched else 1
    rows = array.reshape(count, array.size // max(count, 1))
    whole = rows.dtype.kind in "iu"
    # Whole numbers are turned around exactly: a float cannot tell 2**53 from 2**53 + 1, minus overflows unsigned.
    descending = ~rows if whole else -rows.astype(np.float64)
    best = np.argsort(descending, axis=1, kind="stable")[:, :k]
    result = np.empty(best.shape, np.object_)
    for row, indices in enumerate(best):
        for place, index in enumerate(indices):
            score = rows[row, index]
            text = f"{score}:{index}" if whole else f"{float(score):f}:{index}"
            if index < len(labels):
                text = f"{text}:{labels[index]}"
            result[row, place] = text.encode()
    return Tensor("BYTES", result if batched else result[0])


def classify_outputs(request: InferRequest, outcome: Outcome) -> None:
    """Outcome hook: replace each output the client wants classified."""
    target = request.target
    if isinstance(outcome, GatewayError) or target is None:
        return
    outputs = dict(outcome.outputs)
    try:
        for wanted in request.outputs:
            if wanted.classification and wanted.name in outputs:
                labels = target.labels.get(wanted.name, ())
                tensor = outputs[wanted.name]
                batched = target.max_batch_size > 0 and tensor.array.ndim > 0
                outputs[wanted.name] = top_k(tensor, wanted.classification, labels, batched=batched)
    except GatewayError as error:
        request.replace_outcome(error)
        return
    request.replace_outcome(InferResponse(outputs, outcome.parameters))
