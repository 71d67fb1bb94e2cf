"""Release answers in the order requests arrived (`preserve_ordering`), whatever order batches end in."""

from __future__ import annotations

from collections import deque

from gateway.core.types import InferRequest, Outcome


class ArrivalOrder:
    """Holds settled answers back until all earlier requests are answered or gone."""

    def __init__(self) -> None:
        self._queue: deque[InferRequest] = deque()
        self._settled: dict[int, Outcome] = {}

    def enter(self, request: InferRequest) -> None:
        """Note that `request` arrived now."""
        self._queue.append(request)

    def settle(self, request: InferRequest, outcome: Outcome) -> None:
        """Complete `request` as soon as nothing earlier is open."""
        if request.outcome is None:  # else it may have left the queue, and a later request may get its id
            self._settled[id(request)] = outcome
        self.release()

    def release(self) -> None:
        """Complete what may go; requests that ended otherwise (cancelled, expired) hold nobody back."""
        queue = self._queue
        while queue:
            head = queue[0]
            outcome = self._settled.pop(id(head), None)
            if outcome is None and head.outcome is None:
                return
            queue.popleft()
            if outcome is not None:
                head.complete(outcome)
