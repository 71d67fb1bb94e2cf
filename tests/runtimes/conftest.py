import asyncio
import json
import threading

import numpy as np
import pytest
from onnx import TensorProto, helper

from runtimes import open_runtime
from runtimes.base import DTYPES, ExecuteCall, LoadOptions, ModelSource

ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def value(name, datatype, shape):
    dims = [None if dim == -1 else dim for dim in shape]
    return helper.make_tensor_value_info(name, ELEMENTS.get(datatype, datatype), dims)


def make_model(nodes, inputs, outputs, initializers=(), *, opset=17, domains=(), **fields):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, **fields)


def identity_model(*specs):
    """INPUT<i> -> OUTPUT<i> for each (datatype, shape)."""
    return make_model(
        [helper.make_node("Identity", [f"INPUT{i}"], [f"OUTPUT{i}"]) for i in range(len(specs))],
        [value(f"INPUT{i}", datatype, shape) for i, (datatype, shape) in enumerate(specs)],
        [value(f"OUTPUT{i}", datatype, shape) for i, (datatype, shape) in enumerate(specs)],
    )


class Outcome:
    """A `done` that remembers how often, where and with what it was called."""

    def __init__(self):
        self.results = []
        self.threads = set()
        self._event = asyncio.Event()

    def __call__(self, result):
        self.results.append(result)
        self.threads.add(threading.get_ident())
        self._event.set()

    async def result(self):
        await asyncio.wait_for(self._event.wait(), 30)
        return self.results[0]


async def execute(instance, inputs, **fields):
    """Submit one call and wait for its result, an ExecutionFailed included."""
    done = Outcome()
    instance.submit(ExecuteCall(inputs, **fields), done)
    return await done.result()


@pytest.fixture
def run():
    return execute


@pytest.fixture
def outcome():
    return Outcome


@pytest.fixture
def onnx_runtime():
    runtime = open_runtime("onnx", executor_threads=2)
    yield runtime
    runtime.close()


@pytest.fixture
def build():
    """The helpers that make ONNX models, as one object."""

    class Build:
        identity = staticmethod(identity_model)
        model = staticmethod(make_model)
        value = staticmethod(value)

    return Build


@pytest.fixture
def saved(tmp_path):
    """Write a model to its own folder and return its source."""

    def save(model, name="model.onnx"):
        folder = tmp_path / "repository" / "m" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        content = model if isinstance(model, bytes) else model.SerializeToString()
        (folder / name).write_bytes(content)
        return ModelSource("m", "1", folder / name, folder)

    return save


class Kit:
    """One runtime under the conformance suite, and how to make an identity model for it."""

    def __init__(self, kind, saved):
        self.kind = kind
        self.runtime = open_runtime(kind, executor_threads=2)
        self._saved = saved

    def source(self, *specs):
        if self.kind == "onnx":
            return self._saved(identity_model(*specs))
        texts = [f"INPUT{i}:{kind}:{','.join(map(str, shape))}" for i, (kind, shape) in enumerate(specs)]
        return self._saved(json.dumps({"inputs": texts}).encode(), "model.json")

    def load(self, *specs, **options):
        return self.runtime.load(self.source(*specs), LoadOptions(**options))


@pytest.fixture(params=["onnx", "echo"])
def kit(request, saved):
    kit = Kit(request.param, saved)
    yield kit
    kit.runtime.close()


SAMPLES = {
    "BOOL": [True, False, True, True],
    "UINT8": [0, 1, 127, 255],
    "UINT16": [0, 1, 32768, 65535],
    "UINT32": [0, 1, 2**31, 2**32 - 1],
    "UINT64": [0, 1, 2**53 + 1, 2**64 - 1],
    "INT8": [-128, -1, 0, 127],
    "INT16": [-32768, -1, 0, 32767],
    "INT32": [-(2**31), -1, 0, 2**31 - 1],
    "INT64": [-(2**63), -1, 2**53 + 1, 2**63 - 1],
    "FP16": [-0.0, 65504.0, 6e-8, float("nan")],
    "BF16": [0x0000, 0x8000, 0x7FC1, 0xFFFF],  # +0, -0, a NaN with payload, all bits
    "FP32": [-0.0, 1e-45, 3.4e38, float("inf")],
    "FP64": [-0.0, 5e-324, 0.1, float("nan")],
    "BYTES": [b"", "gr\u00fc\u00df \u65e5\u672c \U0001f642".encode(), b"a" * 5000, b" \t\n"],
}


@pytest.fixture(params=sorted(SAMPLES))
def sample(request):
    """A datatype and four of its harder values in the shape (2, 2)."""
    datatype = request.param
    array = np.empty(4, DTYPES[datatype])
    array[:] = SAMPLES[datatype]
    return datatype, array.reshape(2, 2)
