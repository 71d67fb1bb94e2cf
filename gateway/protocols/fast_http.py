"""The HTTP protocol class: answers inferences from parser callbacks, hands everything else to uvicorn's ASGI path.

tests/protocols/contract holds both paths to one behaviour. It also enforces the limits uvicorn lacks:
header bytes and count, Host, body size before buffering, slow header and body, connections.

A request on the hot path costs 20 us where the ASGI path costs 60 and FastAPI with pydantic 500.
"""

from __future__ import annotations

import logging
from asyncio import BaseTransport
from typing import Any

import httptools

from gateway.core.clock import monotonic_ns
from gateway.core.errors import Code, GatewayError, invalid
from gateway.protocols.body_lane import BODY, HEAD, IDLE, LINGER
from gateway.protocols.exchange import NO_REQUEST, NO_TARGET, Target
from gateway.protocols.hot_call import HotCall
from gateway.protocols.hot_lane import HotLane, KnownHead
from gateway.protocols.http_door import HttpDoor
from gateway.protocols.http_limits import (
    Refusal,
    SealedHeaders,
    Trailers,
    body_limit,
    body_too_large,
    check_coding,
    check_head,
    expects_continue,
    header_too_large,
    may_persist,
    without_upgrade,
)

_log = logging.getLogger("gateway.http")

_LINGER_S = 2
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class GatewayProtocol(HotLane):
    """One HTTP/1.1 connection. All state belongs to the event loop."""

    def __init__(self, door: HttpDoor, **uvicorn: Any) -> None:
        super().__init__(door, **uvicorn)
        self._repeated: list[tuple[bytes, bytes]] = []  # headers given more than once, after the first
        self._head_bytes = 0  # of the head now coming in
        self._segment = 0  # bytes of the latest segment
        self._barren = self._barren_at = 0  # chunked: bytes since body bytes came; how many had come then
        self._plain_head = b""  # of a request that asks for an upgrade
        self._refusal: Refusal | None = None  # held back until earlier ASGI answers are out
        self._body_limit = 0
        self._write_paused_s = 0

    # Connection

    def connection_made(self, transport: BaseTransport) -> None:
        """Accept, or answer 503 where the connection limit is reached."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.door.max_connections:
            self._refuse(Refusal(GatewayError(Code.OVERLOADED, "too many connections", retry_after_s=1)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what the client no longer waits for. A half-closed connection counts as gone (as in nginx)."""
        while self.pending:
            self.pending.popleft().abandon()
        self.drop_body()
        self.drop_cycles()
        self._reader = None  # it holds this connection
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; every way to fail ends in a V2 error object and a closed connection."""
        if self.phase == LINGER or self.parser is None:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        known = self._known
        if known is not None and len(data) == known.size and self.phase == IDLE and self._recognises(known, data):
            return
        self._segment = len(data)
        self._fresh = self.phase == IDLE  # the segment begins a message
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._parsing_ended(error, data)
        if self.phase or self._candidate is not None:
            self._after(data)

    def _recognises(self, known: KnownHead, data: bytes) -> bool:
        """Serve a message whose head was seen before, where one begins here and nothing of uvicorn's is before it."""
        if not self.is_ours() or not data.startswith(known.head):
            return False
        try:
            self.serve_known(known, data)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception as error:
            self.failed(error)
        return True

    def _after(self, data: bytes) -> None:
        """Learn a whole message's head; bound what an unfinished head or chunked body may bring."""
        candidate, self._candidate = self._candidate, None
        if candidate is not None and self._fresh:
            self.learn(candidate, data)
        if self.phase == IDLE:
            return
        limit = self.door.settings.max_header_bytes
        if self.phase == HEAD:
            size = len(data)
            if size > limit and not self._head_bytes:  # the end of an earlier body may stand before this head
                size -= max(data.rfind(b" " + self.url), 0)
            self._head_bytes += size
            if self._head_bytes > limit:
                self._refuse(header_too_large(self.door.settings))
        elif self.phase == BODY and self._chunked:
            self._barren = 0 if self.received != self._barren_at else self._barren + len(data)
            self._barren_at = self.received
            if self._barren > limit:
                self._refuse(Refusal(invalid(f"more than {limit} bytes of chunk extensions or trailers")))

    def _parsing_ended(self, error: Exception, data: bytes) -> None:
        reason = error.__context__
        if isinstance(error, httptools.HttpParserUpgrade):
            # No upgrade is offered (RFC 9110 7.8: ignoring is right), but the parser stops before the body.
            plain, self._plain_head = self._plain_head, b""
            self.renew_parser()
            self.data_received(plain + data[error.args[0] :])
        elif not isinstance(error, httptools.HttpParserCallbackError):
            self._refuse(Refusal(invalid("invalid HTTP request")))
        elif isinstance(reason, Refusal):
            self._refuse(reason)
        else:
            self.failed(reason)

    def failed(self, error: BaseException | None) -> None:
        """Answer 500 for something nobody foresaw, and close."""
        _log.error("failure in a parser callback", exc_info=error)
        self._refuse(Refusal(GatewayError(Code.INTERNAL, "internal error")))

    def eof_received(self) -> None:
        """Close: see connection_lost."""

    def shutdown(self) -> None:
        """Begin to close: what was read is answered first."""
        if self.pending or self.phase >= BODY or (self.phase == HEAD and self._head_bytes):
            self.close_with_cycle()  # the door is draining: so do hot answers; sweep and drain bound the wait
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """The client reads slower than it asks: take no more from it."""
        super().pause_writing()
        self._write_paused_s = self.door.tick
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading."""
        super().resume_writing()
        self._write_paused_s = 0
        if len(self.pending) < self.door.settings.max_pipelined:
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """An ASGI answer is out: the idle time begins now."""
        self.since_s = self.door.tick
        super().on_response_complete()
        if self._refusal is not None and not self.cycles_due():
            self._answer_refusal(self._refusal)

    def sweep(self, tick: int) -> None:
        """Once a second: end connections that are too slow, idle or stuck."""
        settings = self.door.settings
        if self.flow.read_paused:
            self.since_s = tick  # nothing is read, so nothing can be late
        waited = tick - self.since_s
        if self._write_paused_s and tick - self._write_paused_s > settings.write_timeout_s:
            self.transport.abort()
        elif self.phase == HEAD and waited > settings.header_timeout_s:
            self._late_header()
        elif self.phase == BODY and waited > settings.body_grace_s:
            if self.received < waited * settings.body_min_bytes_per_s:
                self._refuse(Refusal(GatewayError(Code.DEADLINE, "the request body came too slowly"), 408))
        elif self.phase == LINGER and waited > _LINGER_S and not self._busy():
            self.transport.abort()
        elif self.phase == IDLE and waited > settings.keep_alive_s and not self._busy():
            self.transport.close()

    def _late_header(self) -> None:
        if self._head_bytes:
            self._refuse(Refusal(GatewayError(Code.DEADLINE, "the request header took too long"), 408))
        else:
            self.transport.close()

    def _busy(self) -> bool:
        return bool(self.pending) or self.cycles_due()

    # Parser callbacks

    def on_message_begin(self) -> None:
        """Start a request. uvicorn's scope is only built where the request turns out not to be hot."""
        self.url = b""
        self._header_map = {}
        if self._repeated:
            self._repeated = []
        self._head_bytes = 0
        self._target = None
        self.received = 0
        self.phase = HEAD
        self.since_s = self.door.tick
        self._begun_ns = monotonic_ns()

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        self.url += url
        if len(self.url) > self.door.settings.max_url_bytes:
            raise Refusal(invalid(f"request target longer than {self.door.settings.max_url_bytes} bytes"), 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        name = name.lower()
        headers = self._header_map
        if name in headers:
            self._repeated.append((name, value))
        else:
            headers[name] = value

    def on_headers_complete(self) -> None:
        """Check the head against the limits and choose the path."""
        headers = self._header_map
        settings = self.door.settings
        if (
            self._repeated
            or len(headers) > settings.max_headers
            or b"host" not in headers
            or self._head_bytes + self._segment > settings.max_header_bytes
        ):
            check_head([*headers.items(), *self._repeated], self.parser.get_http_version(), settings)
        parser = self.parser
        self._keep_alive = parser.should_keep_alive()
        if (not self._keep_alive or b"connection" in headers) and self._begins_again(headers):
            return
        target = None
        if parser.get_method() == b"POST":
            target = self.door.exchange.match(self.url)
        length = self._check_length(headers, target)
        expects = b"expect" in headers and expects_continue(headers[b"expect"], parser.get_http_version())
        if target is None or not self._is_hot(headers) or (expects and self.pending):
            self._fall_through(headers, expects)
        else:
            self._target = target
            simple = length and self._keep_alive and not (expects or self._repeated or self._chunked)
            self._candidate = (target, headers, length) if simple else None
            if length:
                self.expect_body(length, headers.get(b"inference-header-content-length"))
            if expects:
                self.transport.write(_CONTINUE)
        if self._chunked:
            self._repeated = trailers = Trailers(settings)
            self._header_map = SealedHeaders(headers, trailers)
        self.phase = BODY
        self.since_s = self.door.tick

    def on_body(self, body: bytes) -> None:
        """Collect body bytes, counting them before they are kept."""
        self.received += len(body)
        if self.received > self._body_limit:
            raise body_too_large(self._body_limit, self.door.settings)
        if self._target is None:
            super().on_body(body)
            return
        self.collect(body)

    def on_message_complete(self) -> None:
        """Hand a hot request inward; its answer comes by `HotCall.done`, maybe before this returns."""
        self.phase = IDLE
        self.since_s = self.door.tick
        target = self._target
        if target is None:
            if not self._plain_head:
                super().on_message_complete()
            return
        self._target = None
        self.serve(target, self.take_body())

    # Answers

    def flush(self) -> None:
        """Write the answers that are due, oldest first."""
        pending = self.pending
        while pending and pending[0].payload is not None:
            hot = pending.popleft()
            self.server_state.total_requests += 1
            if not self.transport.is_closing():
                self.transport.write(hot.payload)  # type: ignore[arg-type]
            hot.finish()
            if not hot.keep_alive:
                self._close_after_answer()
                return
        if not pending:
            self.since_s = self.door.tick
            if self.pipeline:
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
            elif not self._write_paused_s:
                self.flow.resume_reading()

    def _close_after_answer(self) -> None:
        """Close in the client's interest: after a refusal it may still be sending, and a reset could eat the answer."""
        while self.pending:
            self.pending.popleft().abandon()
        self.pipeline.clear()
        self._refusal = None
        self.since_s = self.door.tick
        if self.phase != LINGER:
            self.transport.close()
        elif not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()

    def _refuse(self, refusal: Refusal) -> None:
        """Queue an error for bytes that made no request, stop parsing, close once it is out."""
        if self.phase == LINGER:
            return
        begun = self.cycle if self.phase == BODY and self._target is None else None
        target = self.door.exchange.match(getattr(self, "url", b""))  # no url before the first request
        self.door.exchange.refused(target, refusal.error, self._begun_ns or monotonic_ns())
        self.phase = LINGER
        self._target = None
        self.drop_body()
        self.flow.resume_reading()
        if begun is not None and self.withdraw(begun):
            self._close_after_answer()  # this request has its answer already, and no request has two
        elif self.cycles_due():
            self._refusal = refusal
        else:
            self._answer_refusal(refusal)

    def _answer_refusal(self, refusal: Refusal) -> None:
        self.pending.append(HotCall(NO_TARGET, NO_REQUEST, protocol=self, keep_alive=False))
        self.pending[-1].refuse(refusal.error, refusal.status)

    def is_last(self, call: HotCall) -> bool:
        """Tell whether nothing that was read waits behind `call`."""
        return self.pending[-1] is call and not self.pipeline

    # Checks

    def _begins_again(self, headers: dict[bytes, bytes]) -> bool:
        """Look at what the client says of the connection; True where the head is to be parsed without an upgrade."""
        parser = self.parser
        if b"upgrade" in headers and parser.should_upgrade():
            self._plain_head = without_upgrade(parser.get_method(), self.url, [*headers.items(), *self._repeated])
            return True
        self._keep_alive = may_persist(parser.get_http_version()) and self._keep_alive
        return False

    def _check_length(self, headers: dict[bytes, bytes], target: Target | None) -> int:
        """Refuse what is announced to be too large before any of it is kept; returns the announced length."""
        limit = self._body_limit = body_limit(headers, target, self.door.settings)
        self._chunked = b"transfer-encoding" in headers
        if self._chunked:
            check_coding([*headers.items(), *self._repeated], self.parser.get_http_version())
            self._barren = self._barren_at = 0
        announced = headers.get(b"content-length")
        if announced is None:
            return 0
        length = int(announced)
        if length > limit:
            raise body_too_large(limit, self.door.settings)
        return length

    def _is_hot(self, headers: dict[bytes, bytes]) -> bool:
        """Inflating happens off the loop: it is the ASGI path's work."""
        return self.door.settings.hot_path and b"content-encoding" not in headers and self.is_ours()

    def _fall_through(self, headers: dict[bytes, bytes], expects: bool) -> None:
        """Go uvicorn's way, behind the answers that are due."""
        lines = [*headers.items(), *self._repeated]
        if expects and not self._busy():
            self.transport.write(_CONTINUE)
            expects = False
        self.begin_cycle(lines, keep_alive=self._keep_alive, expects=expects, hot_due=bool(self.pending))
        if self.door.draining:
            self.close_behind_last()
        if self.flow.read_paused and len(self.pipeline) < self.door.settings.max_pipelined and not self._write_paused_s:
            self.flow.resume_reading()  # uvicorn pauses at the second; a client that goes would not be noticed

    def end(self) -> None:
        """Close at an ASGI answer's wish; a client that is still sending its body gets time to read the answer."""
        if self.phase == BODY:
            self.phase = LINGER
        self._close_after_answer()
