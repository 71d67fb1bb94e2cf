"""Models made for the tests, served by a gateway of its own beside the one with the demo models."""

import importlib
import inspect
import json

import numpy as np
import pytest
from onnx import TensorProto, helper

TYPES = {
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


def identity(datatype):
    element = TYPES[datatype]
    shape = [None, None]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
        "identity",
        [helper.make_tensor_value_info("INPUT0", element, shape)],
        [helper.make_tensor_value_info("OUTPUT0", element, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write_echo(root, name, script, pbtxt):
    folder = root / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(script))
    (folder.parent / "config.pbtxt").write_text(f'backend: "echo"\n{pbtxt}')
    (folder.parent / "model.toml").write_text("warm_up = false\ninstances = 1\n")


def write_extra(root):
    for datatype in TYPES:
        folder = root / f"identity_{datatype.lower()}" / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(identity(datatype).SerializeToString())
    one = {"inputs": ["INPUT0:FP32:-1,4"]}
    write_echo(root, "echo", one, "max_batch_size: 8\n")
    write_echo(root, "slow", {**one, "delay_ns": 100_000_000}, "max_batch_size: 1\n")
    write_echo(root, "parts", {**one, "parts": 3, "delay_ns": 1_000_000}, "max_batch_size: 8\ndynamic_batching {}\n")
    return root


@pytest.fixture(scope="session")
def extra_repository(tmp_path_factory):
    """Identity models of every datatype, and echo models: one fast, one slow (one slot), one in parts."""
    return write_extra(tmp_path_factory.mktemp("extra"))


@pytest.fixture(scope="session")
def extra(start_gateway, extra_repository):
    return start_gateway(extra_repository)


@pytest.fixture(scope="session")
def extra_native(start_gateway, extra_repository):
    """As `extra`, with the gRPC transport of the extra `fastgrpc`."""
    return start_gateway(extra_repository, "--grpc-transport", "native")


class Client:
    """One of tritonclient's four clients, unchanged. `await client(method, ...)` works for all."""

    def __init__(self, kind, module, client):
        self.kind, self.module, self.client = kind, module, client
        self.http = kind.startswith("http")

    async def __call__(self, method, *arguments, **options):
        result = getattr(self.client, method)(*arguments, **options)
        return await result if inspect.isawaitable(result) else result

    async def json(self, method, *arguments, **options):
        """The answer as a dict, whatever the protocol."""
        return await self(method, *arguments, **options, **({} if self.http else {"as_json": True}))

    def inputs(self, datatype="FP32", /, **arrays):
        made = []
        for name, array in arrays.items():
            made.append(self.module.InferInput(name, list(array.shape), datatype))
            made[-1].set_data_from_numpy(array)
        return made

    async def infer(self, model, datatype="FP32", /, *, wanted=None, outputs=None, **options):
        """infer(model, datatype, INPUT0=array, ...); `wanted` are keywords for the client's infer()."""
        arrays = {name: options.pop(name) for name in list(options) if isinstance(options[name], np.ndarray)}
        return await self("infer", model, self.inputs(datatype, **arrays), outputs=outputs, **options, **(wanted or {}))

    def output(self, name, **options):
        return self.module.InferRequestedOutput(name, **options)


@pytest.fixture(params=["http", "http.aio", "grpc", "grpc.aio"])
def kind(request):
    return request.param


@pytest.fixture
async def open_client():
    """open_client(kind, gateway) -> Client; closed afterwards."""
    opened = []

    def start(kind, gateway, **options):
        module = importlib.import_module(f"tritonclient.{kind}")
        address = gateway.http if kind.startswith("http") else gateway.grpc
        opened.append(Client(kind, module, module.InferenceServerClient(address, **options)))
        return opened[-1]

    yield start
    for client in opened:
        await client("close")


@pytest.fixture
async def client(kind, extra, open_client):
    """Each of the four clients, on the gateway with the models made for tests."""
    return open_client(kind, extra)


@pytest.fixture
async def demo_client(kind, demo, open_client):
    """Each of the four clients, on the gateway with the demo models."""
    return open_client(kind, demo)
