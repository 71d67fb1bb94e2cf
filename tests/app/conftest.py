"""A worker in this process over tiny models of its own, on ports the system chooses."""

from __future__ import annotations

import gc
import json
import threading

import httpx
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto, helper

from gateway.app import Worker
from gateway.app import worker as worker_module
from gateway.app.sockets import bind, port_of
from gateway.config import load

TYPES = {"FP32": TensorProto.FLOAT, "BOOL": TensorProto.BOOL, "INT64": TensorProto.INT64}


def identity(*inputs):
    """IN<i> -> OUT<i> for each "DATATYPE:dims", -1 = variable."""
    nodes, ins, outs = [], [], []
    for place, text in enumerate(inputs):
        kind, dims = text.split(":")
        shape = [None if dim == "-1" else int(dim) for dim in dims.split(",")]
        nodes.append(helper.make_node("Identity", [f"IN{place}"], [f"OUT{place}"]))
        ins.append(helper.make_tensor_value_info(f"IN{place}", TYPES[kind], shape))
        outs.append(helper.make_tensor_value_info(f"OUT{place}", TYPES[kind], shape))
    graph = helper.make_graph(nodes, "g", ins, outs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Folder:
    def __init__(self, root):
        self.root = root

    def onnx(self, name, *inputs, version="1"):
        target = self.root / name / version
        target.mkdir(parents=True)
        (target / "model.onnx").write_bytes(identity(*inputs).SerializeToString())

    def echo(self, name, *inputs, toml="warm_up = false\n", pbtxt="max_batch_size: 4\n", **script):
        target = self.root / name / "1"
        target.mkdir(parents=True)
        (target / "model.json").write_text(json.dumps({"inputs": inputs or ["INPUT0:FP32:-1,2"], **script}))
        (target.parent / "config.pbtxt").write_text(f'backend: "echo"\n{pbtxt}')
        (target.parent / "model.toml").write_text(toml)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()
    return Folder(root)


@pytest.fixture
def gate(monkeypatch):
    """Holds the loads of every runtime opened from now on until it is set."""
    opened = threading.Event()
    real = worker_module.open_runtime

    def opening(kind, **options):
        runtime = real(kind, **options)
        inspect = runtime.inspect

        def held(source, load_options):
            assert opened.wait(60)
            return inspect(source, load_options)

        runtime.inspect = held
        return runtime

    monkeypatch.setattr(worker_module, "open_runtime", opening)
    yield opened
    opened.set()


class Serving:
    """A worker and clients of both its doors."""

    def __init__(self, worker, listener):
        self.worker = worker
        self.http_port = port_of(listener)
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.http_port}", timeout=60)

    def grpc(self):
        return triton.InferenceServerClient(f"127.0.0.1:{self.worker.grpc_port}")


def settings_of(folder, **flags):
    """As the command line makes them; no port is fixed and a drain is short."""
    given = {"model_repository": folder.root, "http_port": 0, "grpc_port": 0, "admin_port": 0, "drain_timeout_s": 20}
    return load(flags={**given, **flags}, environment={}).settings


@pytest.fixture
def make_settings(folder):
    return lambda **flags: settings_of(folder, **flags)


@pytest.fixture
async def compose(folder):
    """Compose a worker over the folder; it is stopped afterwards. `compose()` does not start it."""
    made = []

    def make(**flags):
        listener = bind("127.0.0.1", 0, "HTTP")
        serving = Serving(Worker(settings_of(folder, **flags), listener), listener)
        made.append((serving, listener))
        return serving

    yield make
    for serving, listener in made:
        await serving.http.aclose()
        if not serving.worker.service.draining:
            await serving.worker.stop()
        listener.close()
    gc.unfreeze()


@pytest.fixture
async def start(compose):
    async def started(**flags):
        serving = compose(**flags)
        await serving.worker.start()
        return serving

    return started
