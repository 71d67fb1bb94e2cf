"""Outermost stage: every request that reached the data plane is recorded once, refused ones too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.core.errors import GatewayError
from gateway.core.timeline import Observer, RequestRecord
from gateway.core.types import InferRequest, Stage

_GROUP = 128  # records an observer gets at once: counting them takes 0.1 ms of the loop
_LATEST_S = 0.25


class ObserveStage:
    """Arrange that `observers` get the request's record after its door has finished with it.

    Records go on in groups, at the latest after 250 ms or when `flush` is called; whoever reads what
    observers count calls `flush` first.
    """

    def __init__(self, observers: Sequence[Observer], inner: Stage) -> None:
        self._inner = inner
        self._observers = tuple(observers)
        self._records: list[RequestRecord] = []
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, request: InferRequest) -> None:
        """Register the report, then go on."""
        request.on_finished.append(self._report)
        self._inner(request)

    def refuse(self, request: InferRequest, error: GatewayError) -> None:
        """Record and complete a request that goes no further."""
        request.on_finished.append(self._report)
        request.complete(error)

    def flush(self) -> None:
        """Hand the finished records to the observers now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        records = self._records
        if records:
            self._records = []
            for observe in self._observers:
                observe(records)

    def _report(self, request: InferRequest) -> None:
        records = self._records
        records.append(request.record())
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LATEST_S, self.flush)
        elif len(records) >= _GROUP:
            self.flush()
