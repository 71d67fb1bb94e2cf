"""Refuse early rather than queue: bounds on requests and body bytes in flight, and on time already lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.core.clock import NS_PER_MS, Clock, monotonic_ns
from gateway.core.errors import Code
from gateway.core.types import InferRequest, Stage
from gateway.dataplane.deadlines import DeadlineSweep


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """Bounds of one process. `default_timeout_ms` is the deadline of requests that bring none."""

    max_requests_in_flight: int = 4096
    max_bytes_in_flight: int = 1 << 30
    default_timeout_ms: int = 60_000

    def __post_init__(self) -> None:
        for name in ("max_requests_in_flight", "max_bytes_in_flight", "default_timeout_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


class ByteBudget:
    """Body bytes being received or served. Doors take from it before they buffer and give back at the end."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """Reserve `count` bytes; False (and nothing taken) where the budget would be passed.

        A body larger than the whole budget is let in alone, so that a small budget cannot lock out a size
        the body limit allows.
        """
        if self.used and self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Return what was taken."""
        self.used -= count


class AdmissionStage:
    """Admit or refuse; keep the live requests (their count is the in-flight figure, the sweep watches them)."""

    def __init__(self, settings: AdmissionSettings, inner: Stage, now: Clock = monotonic_ns) -> None:
        self._limit = settings.max_requests_in_flight
        self._default_ns = settings.default_timeout_ms * NS_PER_MS
        self._inner = inner
        self._now = now
        self._live: set[InferRequest] = set()
        self._sweep = DeadlineSweep(self._live, now)
        self._empty = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Requests admitted and not finished."""
        return len(self._live)

    def __call__(self, request: InferRequest) -> None:
        """Admit `request`, or complete it with OVERLOADED or DEADLINE at once."""
        live = self._live
        if len(live) >= self._limit:
            request.fail(Code.OVERLOADED, f"more than {self._limit} requests in flight", retry_after_s=1)
            return
        timeline = request.timeline
        # The doors stamp `decoded` in the same loop callback: its time is ours, without asking the clock again.
        now = timeline.admitted = timeline.decoded or self._now()
        deadline = request.deadline_ns
        if not deadline:
            deadline = request.deadline_ns = (timeline.received or now) + self._default_ns
        elif deadline <= now:
            request.fail(Code.DEADLINE, f"[request id: {request.id or '<id_unknown>'}] Request timeout expired")
            return
        live.add(request)
        request.on_finished.append(self._release)
        if deadline < self._sweep.next_ns:  # else the timer stands early enough: no call, for nearly all
            self._sweep.watch(deadline)
        self._inner(request)

    def _release(self, request: InferRequest) -> None:
        self._live.remove(request)
        if not self._live:
            self._empty.set()

    def watch(self, request: InferRequest) -> None:
        """Look again at a deadline that became earlier after admission."""
        self._sweep.watch(request.deadline_ns)

    async def drained(self) -> None:
        """Return when nothing is in flight. The caller bounds the wait."""
        while self._live:
            self._empty.clear()
            await self._empty.wait()

    def close(self) -> None:
        """Stop the sweep; nothing is in flight."""
        self._sweep.close()
