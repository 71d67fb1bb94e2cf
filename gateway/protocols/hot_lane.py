"""A connection's hot requests: the answers that are due, and the head seen last.

Clients that keep a connection send the same head again and again, and parsing it anew tells nothing new: fixed-size
bodies (binary tensors, protobuf) make all heads of a client equal. Recognising one costs 0.3 us, parsing it 3.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from gateway.core.clock import monotonic_ns
from gateway.protocols.body_lane import BODY, IDLE, BodyLane
from gateway.protocols.exchange import NO_REQUEST, Body, Target
from gateway.protocols.hot_call import HotCall
from gateway.protocols.http_door import HttpDoor
from gateway.protocols.large_reader import LargeBody, LargeReader

_MAX_BYTES = 64 << 10  # a larger message seldom comes in one segment
_END = b"\r\n\r\n"


class KnownHead(msgspec.Struct, frozen=True, gc=False):
    """A head that was parsed, checked and found hot: its bytes, what it means, and the size of its whole message."""

    head: bytes
    size: int
    url: bytes
    target: Target
    headers: dict[bytes, bytes]
    tensors_at: int = 0  # of a large body, where in it they begin


Candidate = tuple[Target, dict[bytes, bytes], int]
"""What a hot head means, and the length of its body."""


class HotLane(BodyLane):
    """Hands hot requests inward. Only messages in segments of their own are learned and recognised by their head."""

    def __init__(self, door: HttpDoor, **uvicorn: Any) -> None:
        super().__init__(door, **uvicorn)
        self.pending: deque[HotCall] = deque()  # hot answers due, oldest first
        self._header_map: dict[bytes, bytes] = {}
        self._begun_ns = 0
        self._reader: LargeReader | None = None
        self._target: Target | None = None  # of the hot request that is coming in
        self._keep_alive = True
        self._known: KnownHead | None = None
        self._candidate: Candidate | None = None  # the hot head parsed last
        self._fresh = False

    def learn(self, candidate: Candidate, data: bytes) -> None:
        """Remember the head parsed last where `data` is exactly its message. `data` begins a message: else what a
        client wrote into a body could be taken for a part of somebody's head behind a shared proxy."""
        target, headers, length = candidate
        large = self._large is not None
        if not large and (self.received != length or len(data) > _MAX_BYTES):
            return
        head = data[: len(data) - self.received]
        # One end of a head, at its end: no second message.
        if head.startswith(b"POST ") and head.endswith(_END) and head.count(_END) == 1:
            tensors_at = int(headers[b"inference-header-content-length"]) if large else 0
            self._known = KnownHead(head, len(head) + length, self.url, target, headers, tensors_at)

    def expect_body(self, length: int, tensors_at: bytes | None) -> None:
        """Prepare for a body; from the first large one on the socket is read in place. Raises Refusal."""
        super().expect_body(length, tensors_at)
        if self._large is not None and self._reader is None:
            self._reader = LargeReader(self)  # type: ignore[arg-type]  # `failed` is the subclass's
            self.transport.pause_reading()  # uvloop looks at the kind of protocol when reading starts
            self.transport.set_protocol(self._reader)
            if not self.flow.read_paused:
                self.transport.resume_reading()

    def expected_body(self) -> LargeBody | None:
        """Make room for the message expected next, where it is a large one and begins here."""
        known = self._known
        if known is None or not known.tensors_at or self.phase != IDLE or self.pending or not self.is_ours():
            return None
        return LargeBody(known.size - len(known.head), known.tensors_at, len(known.head))

    def message_began(self, large: LargeBody, count: int) -> bool:
        """Do as the parser's callbacks would for a message whose head is the known one; False where it is not, or
        where the parser's way must refuse it."""
        known = self._known
        body_bytes = count - len(known.head) if known is not None else -1
        if known is None or body_bytes < 0 or large.first(len(known.head)) != known.head:
            return False
        length = known.size - len(known.head)
        if not self.door.budget.take(length):
            return False
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self.url = known.url
        self._begun_ns = monotonic_ns()
        self._taken = length
        self._header_map = known.headers
        self._target = known.target
        self._large = large
        self.received = 0
        self.phase = BODY
        self.since_s = self.door.tick
        large.advance(len(known.head))
        self.body_grew(large, body_bytes)
        return True

    def serve_known(self, known: KnownHead, data: bytes) -> None:
        """Do as the parser's callbacks would: the same head passed the same checks before. Raises Refusal."""
        body = data[len(known.head) :]
        self.url = known.url
        self._begun_ns = monotonic_ns()
        self._header_map = known.headers
        self.received = len(body)
        self._take(len(body))
        self.serve(known.target, body)

    def serve(self, target: Target, body: Body) -> None:
        """Hand a whole request inward; its answer comes by `HotCall.done`, maybe before this returns."""
        exchange = self.door.exchange
        call = HotCall(target, NO_REQUEST, protocol=self, keep_alive=self._keep_alive, taken=self._taken)  # type: ignore[arg-type]
        request = exchange.begin(call, self._header_map, body, self._begun_ns)
        self.pending.append(call)
        self._taken = 0  # from here on the call's to give back
        request.on_outcome.append(call.done)
        exchange.dispatch(call)
        if len(self.pending) >= self.door.settings.max_pipelined:
            self.flow.pause_reading()
