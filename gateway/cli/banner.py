"""What is served where, and one line per protocol to paste: printed once, when the gateway is ready."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.cli import wire
from runtimes.base import DTYPES

if TYPE_CHECKING:
    from runtimes.base import ModelSignature

EXAMPLE_ELEMENTS = 512
"""Inputs larger than this make no line that anybody pastes."""


def specs(signature: ModelSignature) -> list[dict[str, Any]]:
    """Return the inputs as V2 metadata lists them."""
    return [
        {"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in signature.inputs if not s.optional
    ]


def pick(signatures: Mapping[str, ModelSignature]) -> str:
    """Choose the model whose example is shortest; "" where none is short enough."""
    sizes = {name: _elements(specs(signature)) for name, signature in signatures.items()}
    fitting = {name: size for name, size in sizes.items() if size <= EXAMPLE_ELEMENTS}
    return min(fitting, key=lambda name: (fitting[name], name)) if fitting else ""


def lines(model: str, inputs: Sequence[Mapping[str, Any]], http: str, grpc: str) -> dict[str, str]:
    """Return protocol -> a command line that asks `model` for one prediction of zeros."""
    blank = wire.blank(inputs)
    shown = {
        "V2 JSON": f"curl -s http://{http}/v2/models/{model}/infer -d '{wire.json_body(blank).decode()}'",
        "gRPC": _tritonclient(model, inputs, grpc),
    }
    if len(inputs) == 1:
        (_, array), *_ = blank.values()
        instances = [[b.decode() for b in row] if array.dtype == object else row.tolist() for row in array]
        shown["V1"] = f"curl -s http://{http}/v1/models/{model}:predict -d '{wire.compact({'instances': instances})}'"
    return shown


def _tritonclient(model: str, inputs: Sequence[Mapping[str, Any]], grpc: str) -> str:
    steps = ["import numpy as np, tritonclient.grpc as g"]
    for at, spec in enumerate(inputs):
        shape = [size if size > 0 else 1 for size in spec["shape"]]
        array = f"np.full({shape}, b'')" if spec["datatype"] == "BYTES" else f"np.zeros({shape}, '{_numpy(spec)}')"
        steps.append(f"i{at} = g.InferInput('{spec['name']}', {shape}, '{spec['datatype']}')")
        steps.append(f"i{at}.set_data_from_numpy({array})")
    names = ", ".join(f"i{at}" for at in range(len(inputs)))
    steps.append(f"print(g.InferenceServerClient('{grpc}').infer('{model}', [{names}]).get_response())")
    return f'python -c "{"; ".join(steps)}"'


def _numpy(spec: Mapping[str, Any]) -> str:
    """Name the dtype that tritonclient wants; BF16 goes in as float32."""
    return "float32" if spec["datatype"] == "BF16" else DTYPES[spec["datatype"]].name


def _elements(inputs: Sequence[Mapping[str, Any]]) -> int:
    return sum(math.prod(size if size > 0 else 1 for size in spec["shape"]) for spec in inputs)
