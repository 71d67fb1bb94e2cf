"""A server on a real socket over a real data plane, and a client that sends bytes exactly as told.

Every test runs with the hot path on and off: the answers must be the same.
"""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field

import pytest
import uvloop

from gateway.dataplane.admission import AdmissionSettings
from gateway.dataplane.service import InferenceService
from gateway.dataplane.version_stack import VersionStack
from gateway.models.lifecycle import ModelManager
from gateway.models.repository import ModelRepository
from gateway.models.settings import ModelsSettings
from gateway.protocols.exchange import Exchange
from gateway.protocols.http import http_app
from gateway.protocols.http_door import HttpDoor
from gateway.protocols.http_server import GatewayServer
from gateway.protocols.http_settings import HttpSettings
from gateway.routing.router import Router, RouteTable
from runtimes import open_runtime

WAIT_S = 10  # a hang fails here, with a stack that names the await
INFER = "/v2/models/echo/infer"


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


class Gate:
    """An echo instance with one slot that answers when told. `rows` and `executions` count what began."""

    def __init__(self, inner):
        self.inner = inner
        self.signature = inner.signature
        self.slots = 1
        self.held = []
        self.executions = 0
        self.rows = 0

    def submit(self, call, done):
        self.executions += 1
        self.rows += len(next(iter(call.inputs.values())))
        self.held.append(lambda: self.inner.submit(call, done))
        return lambda: None

    def release(self):
        held, self.held = self.held, []
        for answer in held:
            answer()

    async def close(self):
        self.release()


class Runtime:
    """The echo runtime; the model `gate` is held."""

    def __init__(self, kind, **options):
        self._inner = open_runtime(kind, **options)
        self.inspect, self.close = self._inner.inspect, self._inner.close

    def load(self, source, options):
        instance = self._inner.load(source, options)
        return Gate(instance) if source.model == "gate" else instance


class Plane:
    """A data plane as the application composes it."""

    def __init__(self, repository, admission):
        self.records = []
        self.arrived = 0
        self.router = Router()
        self.models = ModelManager(
            ModelRepository(repository), Runtime, self._build, ModelsSettings(drain_timeout_s=0.05)
        )
        self.models.on_change = self._publish
        self.service = InferenceService(self.router, self.models, admission)
        infer = self.service.infer

        def counted(request):
            self.arrived += 1
            request.on_finished.append(lambda finished: self.records.append(finished.record()))
            infer(request)

        self.service.infer = counted

    def instance(self, model):
        return self.models.get(model, "1").instance

    @property
    def gate(self):
        return self.instance("gate")

    def _build(self, loaded):
        return VersionStack(loaded, on_batch=(self.service.statistics_of.observe_batch,))

    def _publish(self):
        known = {}
        for entry in self.models.index():
            known.setdefault(entry.name, {})[entry.version] = entry.state
        self.router.replace(RouteTable.of([v.stack.servable for v in self.models.ready()], known))


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    interim: list = field(default_factory=list)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The message; fails where the body is no error object."""
        assert self.headers["content-type"] == "application/json"
        document = json.loads(self.body)
        assert list(document) == ["error"], document
        return document["error"]

    @property
    def closes(self):
        return self.headers.get("connection") == "close"


class Connection:
    """A client's end: bytes out, parsed answers in."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, *parts):
        self.writer.write(b"".join(parts))

    async def answer(self, *, head=False):
        async with asyncio.timeout(WAIT_S):
            interim = []
            while True:
                block = await self.reader.readuntil(b"\r\n\r\n")
                lines = block[:-4].decode("latin-1").split("\r\n")
                protocol, status, _ = lines[0].split(" ", 2)
                assert protocol == "HTTP/1.1"
                if int(status) < 200:
                    interim.append(int(status))
                    continue
                pairs = [line.split(": ", 1) for line in lines[1:]]
                headers = dict(pairs)
                assert len(headers) == len(pairs), f"a header twice: {lines}"
                body = b"" if head else await self.reader.readexactly(int(headers["content-length"]))
                return Answer(int(status), headers, body, interim)

    async def rest(self):
        """What comes until the server closes; a reset counts as an empty end."""
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
            return b""

    async def ask(self, *parts):
        self.send(*parts)
        return await self.answer()

    def abort(self):
        self.writer.transport.abort()


class Served:
    """One running server."""

    def __init__(self, plane, settings):
        self.plane = plane
        self.service = plane.service
        exchange = Exchange(plane.service, settings.max_json_bytes)
        self.door = HttpDoor(exchange, plane.service.byte_budget, settings)
        self.server = GatewayServer(http_app(plane.service, exchange, settings), door=self.door)
        self.clients = []

    async def start(self):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        await self.server.start([listener])

    async def connect(self, **options):
        client = Connection(*await asyncio.open_connection("127.0.0.1", self.port, **options))
        self.clients.append(client)
        return client

    @property
    def connections(self):
        return self.server.server_state.connections

    def seen(self, **expected):
        """Whether a connection has these attributes."""
        return any(all(getattr(c, k) == v for k, v in expected.items()) for c in self.connections)

    def later(self, seconds):
        """Let `seconds` pass for the sweep."""
        for _ in range(seconds):
            self.door.tick += 1
            for connection in list(self.connections):
                connection.sweep(self.door.tick)

    async def until(self, condition):
        """Turn the loop until something is true."""
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 what is waited for has no event
                await asyncio.sleep(0)

    async def stop(self):
        """End clients and server; fail where a connection, a request or a byte is left."""
        try:
            for client in self.clients:
                client.abort()
            await self.until(lambda: not self.connections)
            await self.until(lambda: self.service.byte_budget.used == 0 and self.service.in_flight == 0)
        finally:
            await self.server.stop(0.1)


def _write_model(root, name, *inputs, config="max_batch_size: 8\ndynamic_batching {}\n", **script):
    folder = root / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.json").write_text(json.dumps({"inputs": inputs, **script}))
    (folder / "config.pbtxt").write_text('backend: "echo"\n' + config)
    (folder / "model.toml").write_text("warm_up = false\n")


@pytest.fixture(params=[True, False], ids=["hot", "asgi"])
def hot_path(request):
    return request.param


@pytest.fixture
def admission():
    return AdmissionSettings()


@pytest.fixture
async def plane(tmp_path, admission):
    for name in ("echo", "gate"):
        _write_model(tmp_path, name, "INPUT0:FP32:-1,4")
    _write_model(tmp_path, "words", "INPUT0:BYTES:-1", config="")
    _write_model(tmp_path, "wide", "INPUT0:FP32:-1,-1")
    plane = Plane(tmp_path, admission)
    await plane.models.load_all()
    plane.service.started = True
    assert len(plane.models.ready()) == 4, plane.models.index()
    yield plane
    await plane.service.close()
    await plane.models.close()


@pytest.fixture
async def serve(plane, hot_path):
    """Start a server with changed settings. Afterwards no connection, request or byte may be left."""
    running = []

    async def start(**changes):
        served = Served(plane, HttpSettings(hot_path=hot_path, **changes))
        running.append(served)
        await served.start()
        return served

    yield start
    plane.gate.release()
    for served in running:
        await served.stop()


@pytest.fixture
async def served(serve):
    return await serve()


@pytest.fixture
async def client(served):
    return await served.connect()


def document(*values, model_id="", width=4, **parameters):
    values = values or (1, 2, 3, 4)
    tensor = {"name": "INPUT0", "shape": [len(values) // width, width], "datatype": "FP32", "data": list(values)}
    body = {"inputs": [tensor]}
    if model_id:
        body["id"] = model_id
    if parameters:
        body["parameters"] = parameters
    return json.dumps(body).encode()


def head(*lines, path=INFER, method="POST", version="1.1"):
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: gateway", *lines, "", ""]).encode("latin-1")


def post(body, *lines, **request):
    return head(f"Content-Length: {len(body)}", *lines, **request) + body


def chunked(body, size):
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.fixture
def wire():
    """Builders of request bytes."""

    class Wire:
        GATE = "/v2/models/gate/infer"

    Wire.document, Wire.head, Wire.post, Wire.chunked = map(staticmethod, (document, head, post, chunked))
    return Wire
