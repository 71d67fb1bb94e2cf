"""A real data plane with echo models, and the ASGI door over it: in process (`client`) and by sockets (`url`)."""

import asyncio
import json
import socket

import httpx
import pytest

from gateway.dataplane.admission import AdmissionSettings
from gateway.dataplane.service import InferenceService
from gateway.dataplane.version_stack import VersionStack
from gateway.models.lifecycle import ModelManager
from gateway.models.repository import ModelRepository
from gateway.models.settings import ModelsSettings
from gateway.protocols.exchange import Exchange
from gateway.protocols.http import http_app
from gateway.protocols.http_server import GatewayServer
from gateway.protocols.http_settings import HttpSettings
from gateway.routing.router import Router, RouteTable
from runtimes import open_runtime

CONFIG = 'backend: "echo"\nmax_batch_size: 8\nversion_policy { all {} }\n'
LIMITS = HttpSettings(max_body_bytes=100_000, max_json_bytes=10_000)


def write_model(root, name, *, inputs=("INPUT0:FP32:-1,4",), versions=("1",), toml="", **script):
    folder = root / name
    for version in versions:
        (folder / version).mkdir(parents=True)
        (folder / version / "model.json").write_text(json.dumps({"inputs": inputs, **script}))
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "model.toml").write_text(toml)


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path, "echo", versions=("1", "2"))
    write_model(tmp_path, "words", inputs=("INPUT0:BYTES:-1",))
    write_model(tmp_path, "stuck", toml="warm_up = false", delay_ns=3600 * 10**9)
    write_model(tmp_path, "broken", versions=("1",))
    (tmp_path / "broken" / "1" / "model.json").write_text("{")
    return tmp_path


class Plane:
    """A data plane as the application composes it; `records` are what its observers saw."""

    def __init__(self, repository):
        self.seen = []
        self.router = Router()
        self.arrived = asyncio.Event()
        self.models = ModelManager(
            ModelRepository(repository), open_runtime, self._build, ModelsSettings(drain_timeout_s=0.05)
        )
        self.models.on_change = self._publish
        self.service = InferenceService(self.router, self.models, AdmissionSettings(), observers=[self.seen.extend])

        infer = self.service.infer
        self.service.infer = lambda request: (infer(request), self.arrived.set())

    @property
    def records(self):
        self.service.flush_records()
        return self.seen

    def _build(self, loaded):
        return VersionStack(loaded, on_batch=(self.service.statistics_of.observe_batch,))

    def _publish(self):
        known = {}
        for entry in self.models.index():
            known.setdefault(entry.name, {})[entry.version] = entry.state
        self.router.replace(RouteTable.of([v.stack.servable for v in self.models.ready()], known))


@pytest.fixture
async def plane(repository):
    plane = Plane(repository)
    await plane.models.load_all()
    plane.service.started = True
    yield plane
    await plane.service.close()
    await plane.models.close()


@pytest.fixture
def app(plane):
    return http_app(plane.service, Exchange(plane.service, LIMITS.max_json_bytes), LIMITS)


@pytest.fixture
async def client(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.fixture
async def url(app):
    """Serve the app by uvicorn alone, as any ASGI server would."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = GatewayServer(app)
    await server.start([listener])
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    await server.stop(1.0)
