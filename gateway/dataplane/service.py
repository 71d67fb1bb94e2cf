"""The data plane's one door: everything a protocol may ask of it. Composes the outer stages once, at start."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from gateway.core.errors import Code, GatewayError
from gateway.core.oip import model_config_pb2, service_pb2
from gateway.core.timeline import Counter, Observer
from gateway.core.types import IndexEntry, InferRequest, ModelMetadata, ServableVersion
from gateway.dataplane.admission import AdmissionSettings, AdmissionStage, ByteBudget
from gateway.dataplane.observe import ObserveStage
from gateway.dataplane.route import RouteStage
from gateway.dataplane.statistics import Statistics
from gateway.routing.router import Router


class ModelCatalog(Protocol):
    """What the service asks of the models room; the manager is one."""

    def metadata(self, name: str, version: str) -> ModelMetadata:
        """Describe a loaded version."""
        ...

    def config(self, name: str, version: str) -> model_config_pb2.ModelConfig:
        """Return a loaded version's effective configuration."""
        ...

    def index(self) -> list[IndexEntry]:
        """List every known version."""
        ...


class InferenceService:
    """What the doors call. On the event loop only.

    `ready` turns true when the first loading is done, and false again when draining starts; a model that
    loads or fails meanwhile does not flip it, but a required one without a READY version does.
    """

    def __init__(
        self,
        router: Router,
        models: ModelCatalog,
        settings: AdmissionSettings,
        counters: Sequence[Counter] = (),
        observers: Sequence[Observer] = (),
        required_models: Sequence[str] = (),
    ) -> None:
        self.statistics_of = Statistics()
        self.byte_budget = ByteBudget(settings.max_bytes_in_flight)
        self.started = False
        self.draining = False
        self._router = router
        self._models = models
        self._required = tuple(required_models)
        # Heights: observation outermost, so that refusals are recorded too; admission before routing, so
        # that an overloaded process spends nothing on a request it refuses.
        route = RouteStage(router, on_tightened=self._tightened)
        self._admission = AdmissionStage(settings, route)
        self._observe = ObserveStage((self.statistics_of, *counters), observers, self._admission)
        # Attributes, not methods: one call less per request.
        self.infer = self._observe.__call__
        self.flush_records = self._observe.flush  # before anybody reads what observers count

    def refuse(self, request: InferRequest, error: GatewayError) -> None:
        """Record and complete a request that could not be decoded."""
        request.known = self._router.table.knows(request.model)
        self._observe.refuse(request, error)

    @property
    def in_flight(self) -> int:
        """Requests admitted and not finished."""
        return self._admission.in_flight

    def server_live(self) -> bool:
        """The event loop turns: whoever gets this answer knows."""
        return True

    def server_ready(self) -> bool:
        """Started, not draining, and every required model has a READY version."""
        if not self.started or self.draining:
            return False
        table = self._router.table
        return all(table.serves(name) for name in self._required)

    def model_ready(self, name: str, version: str) -> bool:
        """Tell whether requests for it would be served; raises NOT_FOUND for unknown names and versions."""
        return self._serves(name, version) and not self.draining

    def _serves(self, name: str, version: str) -> bool:
        try:
            self._router.table.pick(name, version)
        except GatewayError as error:
            if error.code is Code.NOT_READY:
                return False
            raise
        return True

    def servable(self, name: str, version: str) -> ServableVersion:
        """The version that would serve now; raises NOT_FOUND, NOT_READY, INVALID_ARGUMENT."""
        return self._router.table.pick(name, version).servable

    def metadata(self, name: str, version: str) -> ModelMetadata:
        """Describe the version that would serve; raises like `servable`."""
        return self._models.metadata(name, self.servable(name, version).version)

    def config(self, name: str, version: str) -> model_config_pb2.ModelConfig:
        """The effective configuration of the version that would serve; raises like `servable`."""
        return self._models.config(name, self.servable(name, version).version)

    def statistics(self, name: str, version: str) -> list[service_pb2.ModelStatistics]:
        """Statistics per version, zeros where no request came yet; name "" = all. Raises NOT_FOUND."""
        if name:
            self._router.table.pick(name, version)
        loaded = [(entry.name, entry.version) for entry in self._models.index() if entry.state == "READY"]
        self.flush_records()
        return self.statistics_of.report(name, version, loaded)

    def index(self, ready_only: bool) -> list[IndexEntry]:
        """List the repository."""
        return [entry for entry in self._models.index() if not ready_only or entry.state == "READY"]

    async def close(self, timeout_s: float = 0.0) -> bool:
        """Wait until nothing is in flight, at most `timeout_s`, and stop the timers; tell whether that was reached."""
        try:
            if self.in_flight:
                await asyncio.wait_for(self._admission.drained(), timeout_s)
        except TimeoutError:
            return False
        finally:
            self._admission.close()
        return True

    def _tightened(self, request: InferRequest) -> None:
        self._admission.watch(request)
