"""How the body of a hot request is collected: counted before it is kept, a large one where the model will read it."""

from __future__ import annotations

from typing import Any

from gateway.core.errors import Code, GatewayError
from gateway.protocols.asgi_lane import AsgiLane
from gateway.protocols.http_door import HttpDoor
from gateway.protocols.http_limits import Refusal
from gateway.protocols.large_reader import LargeBody

IDLE, HEAD, BODY, LINGER = range(4)  # phases of a connection
LARGE_BYTES = 64 << 10
_MAX_DIGITS = 18


class BodyLane(AsgiLane):
    """A connection's body bytes and what they have taken of the process's budget."""

    def __init__(self, door: HttpDoor, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.door = door
        self.phase, self.since_s = HEAD, door.tick  # and when the phase began
        self.received = 0  # body bytes of the current request
        self._body: bytes | bytearray = b""
        self._large: LargeBody | None = None
        self._taken = 0
        self._chunked = False

    def expect_body(self, length: int, tensors_at: bytes | None) -> None:
        """Prepare for a body of `length` bytes; `tensors_at` is its Inference-Header-Content-Length. Raises Refusal."""
        self._take(length)
        if length < LARGE_BYTES or tensors_at is None or not tensors_at.isdigit() or len(tensors_at) > _MAX_DIGITS:
            return  # small, or refused once it is whole
        if int(tensors_at) > 0:
            self._large = LargeBody(length, int(tensors_at))

    def collect(self, body: bytes) -> None:
        """Keep a part of the body. Raises Refusal where the budget is passed."""
        if self._large is not None:
            self._large.fill(body)
            return
        if self._chunked:
            self._take(len(body))
        if not self._body:
            self._body = body  # the whole body in one read: no copy
        else:
            if not isinstance(self._body, bytearray):
                self._body = bytearray(self._body)
            self._body += body

    def body_in_progress(self) -> LargeBody | None:
        """The large body that is being received."""
        return self._large

    def body_grew(self, large: LargeBody, count: int) -> None:
        """Note bytes that came past the parser; with the body the message is complete, and a fresh parser reads on."""
        self.received += count
        large.advance(count)
        if large.full:
            self.renew_parser()
            self.on_message_complete()

    def take_body(self) -> bytes | bytearray | memoryview:
        """Hand the collected body over."""
        large, body = self._large, self._body
        if large is not None:
            self._large = None
            return large.view
        self._body = b""
        return body

    def drop_body(self) -> None:
        """Forget what was collected and return its bytes to the budget."""
        self._body = b""
        self._large = None
        if self._taken:
            self.door.budget.give(self._taken)
            self._taken = 0

    def _take(self, count: int) -> None:
        if not self.door.budget.take(count):
            raise Refusal(GatewayError(Code.OVERLOADED, "too many request bytes in flight", retry_after_s=1))
        self._taken += count
