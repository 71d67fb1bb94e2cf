"""One inference on the hot HTTP path: from the whole body to the bytes of its answer, without a task or a future."""

from __future__ import annotations

import asyncio
import http
import logging
from typing import Protocol

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, Outcome
from gateway.protocols.bridge import encode_bridge
from gateway.protocols.compression import MIN_BYTES, OFF_LOOP_BYTES, compress
from gateway.protocols.exchange import BRIDGE_PATH, Call, HttpAnswer
from gateway.protocols.http_door import HttpDoor
from gateway.protocols.v2 import error_body

_log = logging.getLogger("gateway.http")


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Client Closed Request" if status == 499 else ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}
_LENGTHS = [b"content-length: %d\r\n" % length for length in range(1024)]


class Connection(Protocol):
    """What a call needs of the connection it came on."""

    door: HttpDoor
    loop: asyncio.AbstractEventLoop

    def flush(self) -> None:
        """Write every answer that is ready and due."""
        ...

    def is_last(self, call: HotCall) -> bool:
        """Tell whether nothing that was read waits behind `call`."""
        ...


class HotCall(Call, eq=False):
    """A call in a connection's queue until its answer was written; answers leave in the order requests came.

    Owned by the event loop. `payload` is set once, by `done`; `protocol` becomes None when the client is gone.
    """

    protocol: Connection | None = None
    keep_alive: bool = True
    taken: int = 0  # bytes to give back to the budget
    payload: bytes | None = None

    def done(self, request: InferRequest, outcome: Outcome) -> None:
        """Outcome hook: encode, and write as soon as all earlier answers are out. Never raises."""
        protocol = self.protocol
        if protocol is None:
            return
        try:
            answer = protocol.door.exchange.answer(self, outcome)
        except Exception:
            _log.exception("encoding an answer failed")
            answer = HttpAnswer(500, b"content-type: application/json\r\n", b'{"error":"internal error"}')
        if self.encoding and len(answer.body) >= MIN_BYTES:
            if len(answer.body) > OFF_LOOP_BYTES:
                work = protocol.loop.run_in_executor(None, compress, answer.body, self.encoding)
                work.add_done_callback(lambda future: self._compressed(answer, future))
                return
            self._use(answer, compress(answer.body, self.encoding))
        self.settle(answer)

    def _compressed(self, answer: HttpAnswer, future: asyncio.Future[bytes]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._use(answer, future.result())
        self.settle(answer)

    def _use(self, answer: HttpAnswer, body: bytes) -> None:
        answer.headers += b"content-encoding: " + self.encoding + b"\r\n"
        answer.body = body

    def settle(self, answer: HttpAnswer) -> None:
        """Make the bytes and let the connection write what is due."""
        protocol = self.protocol
        if protocol is None:
            return
        if protocol.door.draining and protocol.is_last(self):
            self.keep_alive = False
        body = answer.body
        length = len(body)
        self.payload = b"".join(
            (
                STATUS_LINES[answer.status],
                protocol.door.default_head,
                answer.headers,
                _LENGTHS[length] if length < len(_LENGTHS) else b"content-length: %d\r\n" % length,
                b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n",
                body,
            )
        )
        protocol.flush()

    def refuse(self, error: GatewayError, status: int) -> None:
        """Answer without a request: the bytes were refused before there was one. Closes the connection."""
        self.keep_alive = False
        if getattr(self.protocol, "url", b"") == BRIDGE_PATH:  # before the first request there is no url
            status, lines, body = encode_bridge(InferRequest(""), error)
            self.settle(HttpAnswer(status, b"".join(b"%b: %b\r\n" % line for line in lines), body))
            return
        head = b"content-type: application/json\r\n"
        if error.retry_after_s is not None:
            head += b"retry-after: %d\r\n" % error.retry_after_s
        self.settle(HttpAnswer(status, head, error_body(error)))

    def finish(self) -> None:
        """Report the request and return its bytes; after the write, or when the client is gone."""
        protocol = self.protocol
        if protocol is not None and self.taken:
            protocol.door.budget.give(self.taken)
            self.taken = 0
        self.request.finish()

    def abandon(self) -> None:
        """The client is gone: queued work leaves the queue, the record says CANCELLED."""
        if self.payload is None:
            door_protocol, self.protocol = self.protocol, None
            self.request.complete(GatewayError(Code.CANCELLED, "the client disconnected"))
            self.protocol = door_protocol
        self.finish()
        self.protocol = None
