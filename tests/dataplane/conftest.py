"""Versions and requests for the stages of the data plane."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from gateway.core.oip import model_config_pb2
from gateway.core.types import InferRequest, InferResponse, RequestedOutput, ServableVersion, Tensor
from gateway.models.config import ModelConfig
from gateway.models.version import LoadedVersion
from runtimes import open_runtime
from runtimes.base import DTYPES, LoadOptions, ModelFacts, ModelSignature, ModelSource, TensorSpec


def spec(text):
    name, datatype, dims = text.split(":")
    return TensorSpec(name, datatype, tuple(int(dim) for dim in dims.split(",") if dim))


def echo_stack(request):
    request.complete(InferResponse({f"out_{name}": tensor for name, tensor in request.inputs.items()}))


def version_of(inputs=("x:FP32:-1,4",), outputs=("y:FP32:-1,4",), *, batch=8, stack=echo_stack, **fields):
    signature = ModelSignature(tuple(map(spec, inputs)), tuple(map(spec, outputs)))
    return ServableVersion(fields.pop("model", "m"), fields.pop("version", "1"), signature, batch, stack, **fields)


def request_of(*inputs, outputs=(), **fields):
    """Inputs are "name:DATATYPE:dims" texts; `outputs` are names or RequestedOutputs."""
    tensors = {}
    for text in inputs:
        name, datatype, dims = text.split(":")
        shape = tuple(int(dim) for dim in dims.split(",") if dim)
        tensors[name] = Tensor(datatype, np.zeros(shape, DTYPES[datatype]))
    wanted = tuple(RequestedOutput(out) if isinstance(out, str) else out for out in outputs)
    return InferRequest(fields.pop("model", "m"), inputs=tensors, outputs=wanted, **fields)


@pytest.fixture(scope="session")
def version():
    return version_of


@pytest.fixture(scope="session")
def request_for():
    return request_of


@pytest.fixture
def loaded(tmp_path):
    """A loaded echo version: `loaded(script={...}, max_batch_size=4, ...fields of ModelConfig)`."""

    def make(name="m", number="1", *, inputs=("INPUT0:FP32:-1,2",), script=None, costs=(), **config):
        path = tmp_path / f"{name}.{number}.json"
        path.write_text(json.dumps({"inputs": list(inputs), **(script or {})}))
        source = ModelSource(name, number, path, tmp_path)
        runtime = open_runtime("echo", executor_threads=1)
        facts = runtime.inspect(source, LoadOptions())
        assert isinstance(facts, ModelFacts)
        full = {"max_batch_size": 4, "dynamic_batching": True, **config}
        made = ModelConfig(name, "echo", model_config_pb2.ModelConfig(name=name), **full)
        return LoadedVersion(name, number, made, facts, runtime.load(source, LoadOptions()), costs)

    return make


@pytest.fixture
def seen():
    """A stage that keeps what it gets, and what became of it."""
    kept = []
    return SimpleNamespace(requests=kept, stage=kept.append)
