"""A connection's hot requests: the answers that are due, and the head seen last.

Clients that keep a connection send the same head again and again, and parsing it anew tells nothing new: fixed-size
bodies (binary tensors, protobuf) make all heads of a client equal. Recognising one costs 0.3 us, parsing it 3.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from gateway.core.clock import monotonic_ns
from gateway.protocols.body_lane import BodyLane
from gateway.protocols.exchange import NO_REQUEST, Body, Target
from gateway.protocols.hot_call import HotCall
from gateway.protocols.http_door import HttpDoor

_MAX_BYTES = 64 << 10  # a larger message seldom comes in one segment
_END = b"\r\n\r\n"


class KnownHead(msgspec.Struct, frozen=True, gc=False):
    """A head that was parsed, checked and found hot: its bytes, what it means, and the size of its whole message."""

    head: bytes
    size: int
    target: Target
    headers: dict[bytes, bytes]


Candidate = tuple[Target, dict[bytes, bytes], int]
"""What a hot head means, and the length of its body."""


class HotLane(BodyLane):
    """Hands hot requests inward. Only messages in segments of their own are learned and recognised by their head."""

    def __init__(self, door: HttpDoor, **uvicorn: Any) -> None:
        super().__init__(door, **uvicorn)
        self.pending: deque[HotCall] = deque()  # hot answers due, oldest first
        self._header_map: dict[bytes, bytes] = {}
        self._begun_ns = 0
        self._keep_alive = True
        self._known: KnownHead | None = None
        self._candidate: Candidate | None = None  # the hot head parsed last
        self._fresh = False

    def learn(self, candidate: Candidate, data: bytes) -> None:
        """Remember the head parsed last where `data` is exactly its message. `data` begins a message: else what a
        client wrote into a body could be taken for a part of somebody's head behind a shared proxy."""
        target, headers, length = candidate
        head = data[: len(data) - length] if length < len(data) <= _MAX_BYTES else b""
        # One end of a head, at its end: no second message.
        if head.startswith(b"POST ") and head.endswith(_END) and head.count(_END) == 1:
            self._known = KnownHead(head, len(data), target, headers)

    def serve_known(self, known: KnownHead, data: bytes) -> None:
        """Do as the parser's callbacks would: the same head passed the same checks before. Raises Refusal."""
        body = data[len(known.head) :]
        self._begun_ns = monotonic_ns()
        self._header_map = known.headers
        self.received = len(body)
        self._take(len(body))
        self.serve(known.target, body)

    def serve(self, target: Target, body: Body) -> None:
        """Hand a whole request inward; its answer comes by `HotCall.done`, maybe before this returns."""
        exchange = self.door.exchange
        call = HotCall(target, NO_REQUEST, protocol=self, keep_alive=self._keep_alive, taken=self._taken)  # type: ignore[arg-type]
        self._taken = 0
        request = exchange.begin(call, self._header_map, body, self._begun_ns)
        self.pending.append(call)
        request.on_outcome.append(call.done)
        exchange.dispatch(call)
        if len(self.pending) >= self.door.settings.max_pipelined:
            self.flow.pause_reading()
