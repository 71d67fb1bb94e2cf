"""Outermost stage: every request that reached the data plane is recorded once, refused ones too."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import GatewayError
from gateway.core.timeline import Observer
from gateway.core.types import InferRequest, Stage


class ObserveStage:
    """Arrange that `observers` get the request's record when its door has finished with it."""

    __slots__ = ("_inner", "_observers")

    def __init__(self, observers: Sequence[Observer], inner: Stage) -> None:
        self._observers = tuple(observers)
        self._inner = inner

    def __call__(self, request: InferRequest) -> None:
        """Register the report, then go on."""
        request.on_finished.append(self._report)
        self._inner(request)

    def refuse(self, request: InferRequest, error: GatewayError) -> None:
        """Record and complete a request that goes no further."""
        request.on_finished.append(self._report)
        request.complete(error)

    def _report(self, request: InferRequest) -> None:
        record = request.record()
        for observe in self._observers:
            observe(record)
