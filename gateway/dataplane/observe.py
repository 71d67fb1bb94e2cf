"""Outermost stage: every request that reached the data plane is recorded once, refused ones too."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from gateway.core.errors import GatewayError
from gateway.core.timeline import STEPS, Counter, FinishedGroup, Observer, spans_of
from gateway.core.types import InferRequest, InferResponse, ServableVersion, Stage

_GROUP = 256  # requests a group holds before it is counted: 0.1 ms of the loop
_ROW = struct.Struct(f"{len(STEPS)}q")
_pack_row = _ROW.pack_into  # 0.27 us; array.extend takes 0.72


class _Open:
    """Plain successes of one series that are not counted yet."""

    __slots__ = ("compute_share_ns", "count", "protocol", "role", "rows", "steps", "target")

    def __init__(self, target: ServableVersion | None, role: str, protocol: str) -> None:
        self.target = target
        self.role = role
        self.protocol = protocol
        self.steps = bytearray()
        self.count = 0
        self.rows = 0
        self.compute_share_ns = 0


class ObserveStage:
    """Arrange that every finished request is counted and reported, after its door has finished with it.

    `counters` get plain successes as columns, up to 256 at a time or when `flush` is called: six numbers a
    request instead of a record (1.0 us against 4.1, measured with both counters). Whoever reads what counters
    hold calls `flush` first. `observers` get every request as a record, at once; without any, no record is made.
    """

    def __init__(self, counters: Sequence[Counter], observers: Sequence[Observer], inner: Stage) -> None:
        self._inner = inner
        self._counters = tuple(counters)
        self._observers = tuple(observers)
        self._groups: dict[tuple[int, str, str], _Open] = {}
        self._last = _Open(None, "", "")

    def __call__(self, request: InferRequest) -> None:
        """Register the report, then go on."""
        request.on_finished.append(self._report)
        self._inner(request)

    def refuse(self, request: InferRequest, error: GatewayError) -> None:
        """Record and complete a request that goes no further."""
        request.on_finished.append(self._report)
        request.complete(error)

    def flush(self) -> None:
        """Count what is open."""
        for group in self._groups.values():
            self._close(group)
        self._groups.clear()
        self._last = _Open(None, "", "")

    def _report(self, request: InferRequest) -> None:
        plain = type(request.outcome) is InferResponse and not request.cache and not request.principal
        if plain:
            group = self._last
            # By identity: one version, and constants of the doors and the route table.
            if (
                request.target is not group.target
                or request.protocol is not group.protocol
                or request.role is not group.role
            ):
                group = self._group_of(request)
            times = request.timeline
            _pack_row(
                group.steps,
                group.count * _ROW.size,
                times.received,
                times.decoded,
                times.queued,
                times.execute_start,
                times.execute_end,
                times.answered,
            )
            group.count += 1
            group.rows += request.rows
            group.compute_share_ns += request.compute_share_ns
            if group.count == _GROUP:
                self._close(group)
        if not plain or self._observers:
            records = (request.record(),)
            for observe in self._observers:
                observe(records)
            if not plain:
                for counter in self._counters:
                    counter.observe(records)

    def _group_of(self, request: InferRequest) -> _Open:
        key = (id(request.target), request.role, request.protocol)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Open(request.target, request.role, request.protocol)
            group.steps = bytearray(_GROUP * _ROW.size)
        self._last = group
        return group

    def _close(self, group: _Open) -> None:
        if not group.count or group.target is None:
            return
        steps = np.frombuffer(bytes(group.steps), np.int64, group.count * len(STEPS)).reshape(-1, len(STEPS))
        finished = FinishedGroup(
            group.target.model,
            group.target.version,
            group.role,
            group.protocol,
            steps,
            spans_of(steps),
            group.rows,
            group.compute_share_ns,
        )
        group.count = group.rows = group.compute_share_ns = 0
        for counter in self._counters:
            counter.observe_group(finished)
