"""One sweep per loop fails requests whose deadline passed, wherever they are. No timer per request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from gateway.core.clock import NS_PER_MS, NS_PER_S, Clock, monotonic_ns
from gateway.core.errors import Code
from gateway.core.types import InferRequest

NEVER_NS = 1 << 63
_GRAIN_NS = 2 * NS_PER_MS  # answers come at most this much after the deadline (plus loop lag)


class DeadlineSweep:
    """Watches the live requests it is given a view of.

    Costs one comparison per request: the timer stands at the earliest deadline seen; when it fires, all
    live requests are scanned (2 us for 32) and it is set anew. Most deadlines never fire it.
    """

    def __init__(self, live: Collection[InferRequest], now: Clock = monotonic_ns) -> None:
        self._live = live
        self._now = now
        self._loop = asyncio.get_running_loop()
        self.next_ns = NEVER_NS  # when the timer fires
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, deadline_ns: int) -> None:
        """Make sure a sweep happens at `deadline_ns` at the latest."""
        now = self._now()
        due = max(deadline_ns, now + _GRAIN_NS)
        if self.next_ns <= due:  # never moved later: a stream of short deadlines would put the sweep off for ever
            return
        if self._timer is not None:
            self._timer.cancel()
        self.next_ns = due
        self._timer = self._loop.call_later((due - now) / NS_PER_S, self.sweep)

    def sweep(self) -> None:
        """Fail what is late; set the timer for the next deadline."""
        now = self._now()
        self._timer = None
        self.next_ns = NEVER_NS
        earliest = NEVER_NS
        for request in list(self._live):
            deadline = request.deadline_ns
            if not deadline or request.outcome is not None:
                continue
            if deadline <= now:
                request.fail(Code.DEADLINE, f"[request id: {request.id or '<id_unknown>'}] Request timeout expired")
            elif deadline < earliest:
                earliest = deadline
        if earliest < NEVER_NS:
            self.watch(earliest)  # a hook may have set the timer already: the earlier one stays

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
