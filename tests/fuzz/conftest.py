"""The data plane in this process, on a loop of its own, so that plain Hypothesis functions can drive it."""

import asyncio
import json

import pytest

from gateway.core.clock import monotonic_ns
from gateway.core.errors import GatewayError
from gateway.dataplane.admission import AdmissionSettings
from gateway.dataplane.service import InferenceService
from gateway.dataplane.version_stack import VersionStack
from gateway.models.lifecycle import ModelManager
from gateway.models.repository import ModelRepository
from gateway.models.settings import ModelsSettings
from gateway.protocols.exchange import NO_REQUEST, Call, Exchange
from gateway.routing.router import Router, RouteTable
from runtimes import open_runtime

MODELS = {
    "many": ("F:FP32:-1,3", "I:INT64:-1,2", "U:UINT8:-1,2", "S:BYTES:-1,1", "B:BOOL:-1,1"),
    "one": ("X:FP32:-1,4",),
    "text": ("T:BYTES:-1,1",),
}


class Plane:
    """`serve` takes what a door would hand over and returns the answer a client would read."""

    def __init__(self, repository):
        self.router = Router()
        self.models = ModelManager(ModelRepository(repository), open_runtime, self._build, ModelsSettings())
        self.models.on_change = self._publish
        self.service = InferenceService(self.router, self.models, AdmissionSettings())
        self.exchange = Exchange(self.service)

    async def serve(self, path, headers, body):
        target = self.exchange.match(path)
        call = Call(target, NO_REQUEST)
        self.exchange.begin(call, headers, body, monotonic_ns())
        outcome = await self.outcome(call.request, lambda: self.exchange.dispatch(call))
        answer = self.exchange.answer(call, outcome)
        call.request.finish()
        return answer

    async def outcome(self, request, dispatch):
        done = asyncio.get_running_loop().create_future()
        request.on_outcome.append(lambda _, outcome: done.set_result(outcome))
        dispatch()
        outcome = await asyncio.wait_for(done, 10)
        return request.outcome if isinstance(request.outcome, GatewayError) else outcome

    def _build(self, loaded):
        return VersionStack(loaded)

    def _publish(self):
        known = {}
        for entry in self.models.index():
            known.setdefault(entry.name, {})[entry.version] = entry.state
        self.router.replace(RouteTable.of([v.stack.servable for v in self.models.ready()], known))


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def plane(loop, tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    for name, inputs in MODELS.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / "model.json").write_text(json.dumps({"inputs": inputs}))
        (root / name / "config.pbtxt").write_text('backend: "echo"\nmax_batch_size: 4\ndynamic_batching {}\n')

    async def start():
        plane = Plane(root)
        await plane.models.load_all()
        return plane

    async def stop(plane):
        await plane.service.close()
        await plane.models.close()

    plane = loop.run_until_complete(start())
    yield plane
    assert plane.service.in_flight == 0
    loop.run_until_complete(stop(plane))
