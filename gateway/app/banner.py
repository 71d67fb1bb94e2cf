"""What an operator reads at start: which models are served where, and a line to paste for each protocol."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from gateway.app.worker import Worker
from gateway.config import Settings
from gateway.models.version import LoadedVersion
from runtimes.base import Array, TensorSpec


def banner(settings: Settings, worker: Worker, http_port: int, admin_port: int) -> str:
    """Return the text; `http_port` and `admin_port` are the bound ones."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{host}:{http_port}"
    lines = ["", "Models"]
    for entry in worker.models.index():
        if entry.state:
            reason = f"  {entry.reason}" if entry.reason else ""
            times = _times(worker, entry.name, entry.version)
            lines.append(f"  {entry.name:<24} {entry.version:>3}  {entry.state}{times}{reason}")
    lines += [
        "",
        f"HTTP   {base}/v2   {base}/v1",
        f"gRPC   {host}:{worker.grpc_port}   ({settings.grpc.transport})",
        f"Admin  http://{settings.admin_host}:{admin_port}   metrics at /metrics",
    ]
    sample = _smallest(worker.models.ready())
    if sample is not None:
        lines += ["", "Try it:", *_samples(sample, base, f"{host}:{worker.grpc_port}")]
    return "\n".join(lines)


def _times(worker: Worker, model: str, version: str) -> str:
    loaded = worker.models.get(model, version)
    if loaded is None:
        return ""
    return f"  loaded in {loaded.load_ns / 1e9:.2f} s, warmed up in {loaded.warm_up_ns / 1e9:.2f} s"


def _smallest(ready: list[LoadedVersion]) -> LoadedVersion | None:
    """The version whose example is shortest: numeric inputs of known size (zeros are valid), fewest elements."""
    best, best_size = None, 0
    for version in ready:
        inputs = version.facts.signature.inputs
        batched = version.config.max_batch_size > 0
        if any(spec.datatype in ("BYTES", "FP16", "BF16") or -1 in spec.shape[batched:] for spec in inputs):
            continue
        size = sum(int(np.prod(_shape(spec))) for spec in inputs)
        if best is None or size < best_size:
            best, best_size = version, size
    return best


def _shape(spec: TensorSpec) -> list[int]:
    return [1 if dim == -1 else dim for dim in spec.shape]


def _zeros(spec: TensorSpec) -> Array:
    return np.zeros(_shape(spec), bool if spec.datatype == "BOOL" else int)


def _python() -> str:
    """This interpreter, as short as it can be pasted: tritonclient is installed beside it."""
    here, executable = Path.cwd(), Path(sys.executable)
    return str(executable.relative_to(here) if executable.is_relative_to(here) else executable)


def _samples(version: LoadedVersion, base: str, grpc_address: str) -> list[str]:
    inputs = version.facts.signature.inputs
    model = version.model
    body = {
        "inputs": [
            {"name": s.name, "shape": _shape(s), "datatype": s.datatype, "data": _zeros(s).ravel().tolist()}
            for s in inputs
        ]
    }
    v1 = {"inputs": {s.name: _zeros(s).tolist() for s in inputs}}
    call = ", ".join(f"x{i}" for i in range(len(inputs)))
    build = "; ".join(
        f"x{i} = g.InferInput('{s.name}', {_shape(s)}, '{s.datatype}')"
        f"; x{i}.set_data_from_numpy(n.zeros({_shape(s)}, t('{s.datatype}')))"
        for i, s in enumerate(inputs)
    )
    script = (
        "import numpy as n, tritonclient.grpc as g; from tritonclient.utils import triton_to_np_dtype as t; "
        f"{build}; print(g.InferenceServerClient('{grpc_address}').infer('{model}', [{call}]).get_response())"
    )
    return [
        f"  curl {base}/v2/models/{model}/infer -d '{json.dumps(body)}'",
        f"  curl {base}/v1/models/{model}:predict -d '{json.dumps(v1)}'",
        f'  {_python()} -c "{script}"',
    ]
