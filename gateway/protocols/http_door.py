"""What the HTTP connections of one server share: exchange, limits, byte budget, the one-second sweep. No uvicorn."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable
from typing import Protocol

from gateway.protocols.exchange import Exchange
from gateway.protocols.http_settings import HttpSettings


class Budget(Protocol):
    """Bytes in flight: `take` before buffering, `give` at the end."""

    def take(self, count: int) -> bool:
        """Reserve; False where the budget would be passed."""
        ...

    def give(self, count: int) -> None:
        """Return."""
        ...


class SweptConnection(Protocol):
    """A connection the sweep looks at."""

    def sweep(self, tick: int) -> None:
        """End the connection where it is too slow, idle or stuck."""
        ...


class HttpDoor:
    """Shared by all connections; owned by the event loop.

    `tick` counts seconds (one timer for all connections instead of one each). `draining` makes every
    answer close its connection.
    """

    def __init__(self, exchange: Exchange, budget: Budget, settings: HttpSettings) -> None:
        self.exchange = exchange
        self.budget = budget
        self.settings = settings
        self.max_connections = settings.max_connections or _descriptors() // 2
        self.draining = False
        self.tick = 1
        self.connections: Iterable[SweptConnection] = ()
        self.default_head = b""  # header lines every answer has (date), refreshed by the server
        self._timer: asyncio.TimerHandle | None = None

    def start(self, connections: Iterable[SweptConnection]) -> None:
        """Begin to sweep `connections` (a live view) every second."""
        self.connections = connections
        self._timer = asyncio.get_running_loop().call_later(1.0, self._sweep)

    def _sweep(self) -> None:
        self.tick += 1
        for connection in list(self.connections):
            connection.sweep(self.tick)
        self._timer = asyncio.get_running_loop().call_later(1.0, self._sweep)

    def stop(self) -> None:
        """Stop sweeping."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
