"""Requests that may share a batch, and what is known of all of them without looking at each."""

from __future__ import annotations

from collections import deque

from gateway.core.types import InferRequest


class Group:
    """Requests of equal row shapes, oldest first. `rows` counts dead ones too until they are met.

    `patient`: all came by a door that trickles; `deadline_ns`: when the first of those is late (0 = never).
    Both may be older than the queue, which only makes the group wait less.
    """

    __slots__ = ("deadline_ns", "patient", "queue", "rows")

    def __init__(self) -> None:
        self.queue: deque[InferRequest] = deque()
        self.rows = 0
        self.patient = True
        self.deadline_ns = 0

    def add(self, request: InferRequest) -> None:
        """Append a request."""
        self.queue.append(request)
        self.rows += request.rows
        if not request.trickles:
            self.patient = False
        elif request.deadline_ns and (not self.deadline_ns or request.deadline_ns < self.deadline_ns):
            self.deadline_ns = request.deadline_ns

    @property
    def oldest_ns(self) -> int:
        """When the oldest came, monotonic ns. The queue is not empty."""
        return self.queue[0].timeline.queued
