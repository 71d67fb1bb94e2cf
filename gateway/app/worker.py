"""The serving part of a process: models, data plane and the doors to it. Knows nothing of the admin API."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket

from gateway.config import Settings
from gateway.core.types import IndexEntry
from gateway.dataplane.service import InferenceService
from gateway.dataplane.version_stack import VersionStack
from gateway.models.lifecycle import ModelManager
from gateway.models.repository import ModelRepository
from gateway.models.version import LoadedVersion
from gateway.protocols.exchange import Exchange
from gateway.protocols.grpc import GrpcDoor
from gateway.protocols.http import http_app
from gateway.protocols.http_door import HttpDoor
from gateway.protocols.http_server import GatewayServer
from gateway.routing.router import Router, RouteTable
from gateway.telemetry.collector import Gauges
from gateway.telemetry.metrics import MetricsSink
from runtimes import open_runtime

_GATHER_S = 0.05


class Worker:
    """Loads models and serves them over HTTP and gRPC on one event loop.

    Order of a start: sockets, models' names, doors, models. So the process is live at once and answers
    NOT_READY for a model that is still loading; readiness follows when the first loading is done.
    """

    def __init__(self, settings: Settings, http_socket: socket.socket) -> None:
        self.settings = settings
        self.metrics = MetricsSink()
        self.router = Router()
        runtime = settings.runtime
        self.models = ModelManager(
            ModelRepository(settings.model_repository),
            functools.partial(
                open_runtime,
                executor_threads=runtime.executor_threads,
                intra_op_threads=runtime.intra_op_threads,
            ),
            self._build,
            settings.models,
        )
        self.models.on_change = self._publish_soon
        self.service = InferenceService(
            self.router, self.models, settings.admission, [self.metrics], required_models=settings.required_models
        )
        self.metrics.before_read = self.service.flush_records
        exchange = Exchange(self.service, settings.http.max_json_bytes)
        self.http_door = HttpDoor(exchange, self.service.byte_budget, settings.http)
        self._http_socket = http_socket
        app = http_app(self.service, exchange, settings.http)
        self._http = GatewayServer(app, door=self.http_door, backlog=settings.http.backlog)
        self._grpc = GrpcDoor(self.service, settings.grpc)
        self.grpc_port = 0
        self._publishing: asyncio.TimerHandle | None = None
        self._named = asyncio.Event()  # the repository was read: names are known

    async def start(self) -> None:
        """Open the doors and load the models. Raises OSError where the gRPC port is taken."""
        loading = asyncio.create_task(self.models.load_all(set(self.settings.load_models) or None))
        named = asyncio.create_task(self._named.wait())
        await asyncio.wait({loading, named}, return_when=asyncio.FIRST_COMPLETED)
        named.cancel()
        await self._http.start([self._http_socket])
        self.grpc_port = await self._grpc.start()
        await loading
        self._publish()
        self.service.started = True
        # What is loaded now lives as long as the process: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()

    async def stop(self) -> None:
        """Drain: not ready, still accepting for the grace time, then finish what was read, then close."""
        settings = self.settings
        self.service.draining = True
        self.http_door.draining = True
        await asyncio.sleep(settings.drain_grace_s)
        await asyncio.gather(self._http.stop(settings.drain_timeout_s), self._grpc.stop(settings.drain_timeout_s))
        await self.service.close(settings.drain_timeout_s)
        await self.models.close()

    def gauges(self) -> Gauges:
        """Present values for the metrics page."""
        return Gauges(
            queue_rows=self._queue_rows,
            ready=lambda: [(e.name, e.version, e.state == "READY") for e in self._known()],
            requests_in_flight=lambda: self.service.in_flight,
            body_bytes_in_flight=lambda: self.service.byte_budget.used,
        )

    def totals(self) -> str:
        """How all inference requests ended so far: `grpc OK=7 http DEADLINE=1 http OK=12`; "none" without any."""
        counts: dict[str, int] = {}
        for (*_, protocol), series in self.metrics.measures().requests.items():
            for code, count in series.codes.items():
                counts[f"{protocol} {code}"] = counts.get(f"{protocol} {code}", 0) + count
        return " ".join(f"{key}={count}" for key, count in sorted(counts.items())) or "none"

    def _queue_rows(self) -> list[tuple[str, str, int]]:
        stacks = [(v.model, v.version, v.stack) for v in self.models.ready()]
        return [(m, v, stack.batcher.queued_rows) for m, v, stack in stacks if isinstance(stack, VersionStack)]

    def _known(self) -> list[IndexEntry]:
        return [entry for entry in self.models.index() if entry.state]

    def _build(self, loaded: LoadedVersion) -> VersionStack:
        return VersionStack(loaded, on_batch=(self.service.statistics_of.observe_batch, self.metrics.observe_batch))

    def _publish_soon(self) -> None:
        """While the first models load, gather changes: a table of 1,000 models takes milliseconds to make, so one
        for each of 2,000 changes would stop the loop for seconds. Afterwards every change counts at once."""
        if self.service.started or not self._named.is_set():
            self._publish()
        elif self._publishing is None:
            self._publishing = asyncio.get_running_loop().call_later(_GATHER_S, self._publish)

    def _publish(self) -> None:
        """Make the route table of what is READY now; one reference is swapped."""
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        known: dict[str, dict[str, str]] = {}
        for entry in self.models.index():
            versions = known.setdefault(entry.name, {})
            if entry.state and entry.version:
                versions[entry.version] = entry.state
        ready = [version.stack.servable for version in self.models.ready()]
        self.router.replace(RouteTable.of(ready, known))
        self._named.set()
