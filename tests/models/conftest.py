"""A model repository in a temporary folder, real runtimes, and a manager over both."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from gateway.models.lifecycle import ModelManager
from gateway.models.repository import ModelRepository
from gateway.models.settings import ModelsSettings
from runtimes import open_runtime
from runtimes.base import ModelFacts, ModelSignature, TensorSpec


class Folder:
    """Writes model folders under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def echo(self, name, versions=(1,), *, pbtxt='backend: "echo"\n', toml="", inputs=("INPUT0:FP32:-1,4",), **script):
        for version in versions:
            self.write(f"{name}/{version}/model.json", json.dumps({"inputs": list(inputs), **script}))
        self.configure(name, pbtxt, toml)

    def onnx(self, name, versions=(1,), *, pbtxt="", toml="", model=None):
        for version in versions:
            self.write(f"{name}/{version}/model.onnx", (model or relu()).SerializeToString())
        self.configure(name, pbtxt, toml)

    def configure(self, name, pbtxt="", toml=""):
        for file, text in (("config.pbtxt", pbtxt), ("model.toml", toml)):
            if text:
                self.write(f"{name}/{file}", text)

    def write(self, path, content):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = self.root.parent / "being written"  # a load that runs meanwhile sees all of it or nothing
        beside.write_bytes(content if isinstance(content, bytes) else content.encode())
        beside.replace(target)
        return target


def graph(nodes, inputs, outputs, *, metadata=None, initializers=()):
    """Build an ONNX model; `inputs` and `outputs` map names to (element type, shape)."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        list(initializers),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="tests")
    helper.set_model_props(model, metadata or {})
    return model


def relu(rows="N", width=4, *, metadata=None):
    """A model of one input `x` and one output `y`, FP32 [rows, width]."""
    shape = [rows, width]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return graph(nodes, {"x": (TensorProto.FLOAT, shape)}, {"y": (TensorProto.FLOAT, shape)}, metadata=metadata)


class Stack:
    """A version's stack that notes when it is drained. `servable` is of no interest here."""

    servable = None

    def __init__(self, loaded, events):
        self.loaded = loaded
        self.events = events
        events.append(("built", loaded.model, loaded.version))

    async def drain(self, timeout_s):
        self.events.append(("drained", self.loaded.model, self.loaded.version))


class Watched:
    """A runtime whose loads can be held at a gate and whose instances tell when they are closed."""

    def __init__(self, runtime, events):
        self.runtime = runtime
        self.events = events
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Event()
        self.loads = []
        self.busiest = 0
        self._busy = 0
        self._lock = threading.Lock()

    def inspect(self, source, options):
        with self._lock:
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        self.at_gate.set()
        self.gate.wait(30)
        try:
            return self.runtime.inspect(source, options)
        finally:
            with self._lock:
                self._busy -= 1

    def load(self, source, options):
        instance = self.runtime.load(source, options)
        self.loads.append((source.model, source.version))
        close = instance.close

        async def closing():
            self.events.append(("closed", source.model, source.version))
            await close()

        instance.close = closing
        return instance

    def close(self):
        self.events.append(("runtime closed",))
        self.runtime.close()


@pytest.fixture
def make_graph():
    return graph


@pytest.fixture
def make_relu():
    return relu


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "models"
    root.mkdir()
    return Folder(root)


@pytest.fixture
def events():
    """What happened to stacks, instances and runtimes, in order."""
    return []


@pytest.fixture
def watched(events):
    """The runtimes the manager opened, by kind; `watched.gate` holds and lets go all of their loads."""
    opened = {}

    def opening(kind):
        opened[kind] = Watched(open_runtime(kind, executor_threads=2), events)
        return opened[kind]

    opening.opened = opened
    return opening


@pytest.fixture
async def make_manager(folder, events, watched):
    managers = []

    def make(build=None, **settings):
        stack = build or functools.partial(Stack, events=events)
        manager = ModelManager(ModelRepository(folder.root), watched, stack, ModelsSettings(**settings))
        managers.append(manager)
        return manager

    yield make
    for runtime in watched.opened.values():
        runtime.gate.set()
    for manager in managers:
        await manager.close()


@pytest.fixture
def settings():
    """Fields of ModelsSettings that a test chooses by parametrising this fixture."""
    return {}


@pytest.fixture
def manager(make_manager, settings):
    return make_manager(**settings)


@pytest.fixture
def until(manager):
    """Wait until a condition holds that can change only with the manager's states."""
    changed = asyncio.Event()
    manager.on_change = changed.set

    async def wait(condition):
        while not condition():
            changed.clear()
            await asyncio.wait_for(changed.wait(), 30)

    return wait


@pytest.fixture
def index(manager):
    """The index as {(name, version): state}."""
    return lambda: {(entry.name, entry.version): entry.state for entry in manager.index()}


@pytest.fixture
def reason(manager):
    """Why a model (its only listed version) is as it is."""
    return lambda name: next(entry.reason for entry in manager.index() if entry.name == name)


@pytest.fixture
def facts():
    """Build ModelFacts from "name:DATATYPE:DIMS" texts."""

    def spec(text):
        name, datatype, dims = text.split(":")
        return TensorSpec(
            name.rstrip("?"), datatype, tuple(map(int, filter(None, dims.split(",")))), name.endswith("?")
        )

    def make(inputs, outputs, **more):
        signature = ModelSignature(tuple(map(spec, inputs)), tuple(map(spec, outputs)))
        return ModelFacts(signature, "onnxruntime_onnx", **more)

    return make
