"""The HTTP protocol class: answers inferences from parser callbacks, hands everything else to uvicorn's ASGI path.

Subclasses uvicorn's httptools protocol (0.54, pinned: it relies on attributes uvicorn does not promise;
tests/protocols/contract holds both paths to one behaviour). It also enforces the limits uvicorn lacks:
header bytes and count, Host, body size before buffering, slow header and body, connections.

A request on the hot path costs 20 us where the ASGI path costs 60 and FastAPI with pydantic 500.
"""

from __future__ import annotations

import logging
from asyncio import BaseTransport
from collections import deque
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.core.clock import monotonic_ns
from gateway.core.errors import Code, GatewayError, invalid
from gateway.protocols.exchange import Target
from gateway.protocols.hot_call import HotCall
from gateway.protocols.http_door import HttpDoor
from gateway.protocols.status import http_status

_log = logging.getLogger("gateway.http")

# Phases of a connection, for the sweep.
IDLE, HEAD, BODY, LINGER = range(4)
_LINGER_S = 2


class _Refused(Exception):
    """Raised inside parser callbacks to stop parsing; the answer is already queued."""


class _Busy:
    """Stands in for a running ASGI cycle while hot answers are due, so that uvicorn queues the next request."""

    response_complete = False
    disconnected = False


class GatewayProtocol(HttpToolsProtocol):
    """One HTTP/1.1 connection. All state belongs to the event loop."""

    def __init__(self, door: HttpDoor, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.door = door
        self.pending: deque[HotCall] = deque()  # hot answers due, oldest first
        self.phase = HEAD
        self.since_s = door.tick  # when the phase began
        self.received = 0  # body bytes of the current request
        self._header_map: dict[bytes, bytes] = {}
        self._repeated: list[tuple[bytes, bytes]] = []  # headers given more than once, after the first
        self._head_bytes = 0
        self._target: Target | None = None
        self._body: bytes | bytearray = b""
        self._taken = 0
        self._chunked = False
        self._keep_alive = True
        self._begun_ns = 0
        self._body_limit = 0
        self._write_paused_s = 0

    # Connection

    def connection_made(self, transport: BaseTransport) -> None:
        """Accept, or answer 503 where the connection limit is reached."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.door.max_connections:
            self._refuse(GatewayError(Code.OVERLOADED, "too many connections", retry_after_s=1))

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what the client no longer waits for. A half-closed connection counts as gone (as in nginx)."""
        while self.pending:
            self.pending.popleft().abandon()
        self._give_back()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; every way to fail ends in a V2 error object and a closed connection."""
        if self.phase == LINGER or self.parser is None:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._parsing_ended(error)
        if self.phase == HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > self.door.settings.max_header_bytes:
                self._refuse(invalid(f"header larger than {self.door.settings.max_header_bytes} bytes"), 431)

    def _parsing_ended(self, error: Exception) -> None:
        if isinstance(error, httptools.HttpParserUpgrade):
            # No upgrade is offered (RFC 9110 7.8: ignoring is right); what follows is not parsed, so close after.
            self._keep_alive = False
            if self.cycle is not None:
                self.cycle.keep_alive = False
        elif not isinstance(error, httptools.HttpParserCallbackError):
            self._refuse(invalid("invalid HTTP request"))
        elif not isinstance(error.__context__, _Refused):
            _log.error("failure in a parser callback", exc_info=error.__context__)
            self._refuse(GatewayError(Code.INTERNAL, "internal error"))

    def eof_received(self) -> None:
        """Close: see connection_lost."""

    def shutdown(self) -> None:
        """Begin to close: what was read is answered first."""
        if self.pending or self.phase in (HEAD, BODY):
            return  # the door is draining, so the next answer closes; the sweep and the drain bound the wait
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
        self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """An ASGI answer is out: the idle time begins now."""
        self.since_s = self.door.tick
        super().on_response_complete()

    def sweep(self, tick: int) -> None:
        """Once a second: end connections that are too slow, idle or stuck."""
        settings = self.door.settings
        waited = tick - self.since_s
        if self._write_paused_s and tick - self._write_paused_s > settings.write_timeout_s:
            self.transport.abort()
        elif self.phase == HEAD and waited > settings.header_timeout_s:
            self._late_header()
        elif self.phase == BODY and waited > settings.body_grace_s:
            if self.received < waited * settings.body_min_bytes_per_s:
                self._refuse(GatewayError(Code.DEADLINE, "the request body came too slowly"), 408)
        elif self.phase == LINGER and waited > _LINGER_S:
            self.transport.abort()
        elif self.phase == IDLE and waited > settings.keep_alive_s and not self._busy():
            self.transport.close()

    def _busy(self) -> bool:
        return bool(self.pending) or not (self.cycle is None or self.cycle.response_complete)

    def _late_header(self) -> None:
        if self._head_bytes:
            self._refuse(GatewayError(Code.DEADLINE, "the request header took too long"), 408)
        else:
            self.transport.close()

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
            self._refuse(invalid(f"request target longer than {self.door.settings.max_url_bytes} bytes"), 414)
            raise _Refused

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
        if self._repeated or len(headers) > self.door.settings.max_headers or b"host" not in headers:
            self._check_head(headers)
        parser = self.parser
        self._keep_alive = parser.should_keep_alive()
        target = None
        if parser.get_method() == b"POST":
            target = self.door.exchange.match(self.url)
        length = self._check_length(headers, target)
        self.phase = BODY
        self.since_s = self.door.tick
        if target is None or not self._is_hot(headers):
            self._fall_through(headers)
            return
        self._target = target
        self._body = b""
        if length:
            self._take(length)
        if b"expect" in headers:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect body bytes, counting them before they are kept."""
        self.received += len(body)
        if self.received > self._body_limit:
            if self._target is None and self.cycle is not None:
                self.cycle.disconnected = True
            self._refuse(self._too_large())
            raise _Refused
        if self._target is None:
            super().on_body(body)
            return
        if self._chunked:
            self._take(len(body))
        if not self._body:
            self._body = body  # the whole body in one read: no copy
        elif isinstance(self._body, bytearray):
            self._body += body
        else:
            self._body = bytearray(self._body)
            self._body += body

    def on_message_complete(self) -> None:
        """Hand a hot request inward; its answer comes by `HotCall.done`, maybe before this returns."""
        self.phase = IDLE
        self.since_s = self.door.tick
        target = self._target
        if target is None:
            super().on_message_complete()
            return
        body = self._body
        self._body = b""
        self._target = None
        exchange = self.door.exchange
        call = exchange.begin(target, self._header_map, body, self._begun_ns)  # type: ignore[arg-type]
        hot = HotCall(self, call, self._keep_alive, self._taken)
        self._taken = 0
        self.pending.append(hot)
        call.request.on_outcome.append(hot.done)
        exchange.dispatch(call)
        if len(self.pending) >= self.door.settings.max_pipelined:
            self.flow.pause_reading()

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
        if self.phase == LINGER and self.transport.can_write_eof():
            self.transport.write_eof()
            return
        self.transport.close()

    def _refuse(self, error: GatewayError, status: int = 0) -> None:
        """Queue an error for bytes that made no request, stop parsing, close once it is out."""
        if self.phase == LINGER:
            return
        self.phase = LINGER
        self.since_s = self.door.tick
        self._target = None
        self._body = b""
        self._give_back()
        self.flow.resume_reading()
        refusal = HotCall(self, None, False, 0)
        self.pending.append(refusal)
        refusal.refuse(error, status or http_status(error.code))

    # Checks

    def _check_head(self, headers: dict[bytes, bytes]) -> None:
        settings = self.door.settings
        if len(headers) + len(self._repeated) > settings.max_headers:
            self._refuse(invalid(f"more than {settings.max_headers} headers"), 431)
            raise _Refused
        if any(name == b"host" for name, _ in self._repeated):
            self._refuse(invalid("more than one Host header"))
            raise _Refused
        if b"host" not in headers and self.parser.get_http_version() == "1.1":
            self._refuse(invalid("Host header missing"))
            raise _Refused

    def _check_length(self, headers: dict[bytes, bytes], target: Target | None) -> int:
        """Refuse what is announced to be too large before any of it is kept; returns the announced length."""
        settings = self.door.settings
        is_json = (
            target is not None
            and target.kind != "bridge"
            and b"inference-header-content-length" not in headers
            and b"content-encoding" not in headers
        )
        self._body_limit = settings.max_json_bytes if is_json else settings.max_body_bytes
        self._chunked = b"transfer-encoding" in headers
        announced = headers.get(b"content-length")
        if announced is None:
            return 0
        length = int(announced)
        if length > self._body_limit:
            self._refuse(self._too_large())
            raise _Refused
        return length

    def _too_large(self) -> GatewayError:
        settings = self.door.settings
        message = f"the request body is larger than {self._body_limit} bytes"
        if self._body_limit < settings.max_body_bytes:
            message += (
                f" of JSON; send tensors in the binary form (Inference-Header-Content-Length), "
                f"which may have {settings.max_body_bytes}"
            )
        return GatewayError(Code.TOO_LARGE, message)

    def _is_hot(self, headers: dict[bytes, bytes]) -> bool:
        """Inflating happens off the loop and upgrades are refused there: both are the ASGI path's work."""
        return (
            self.door.settings.hot_path
            and b"content-encoding" not in headers
            and b"upgrade" not in headers
            and not self.pipeline
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _take(self, count: int) -> None:
        if not self.door.budget.take(count):
            self._refuse(GatewayError(Code.OVERLOADED, "too many request bytes in flight", retry_after_s=1))
            raise _Refused
        self._taken += count

    def _give_back(self) -> None:
        if self._taken:
            self.door.budget.give(self._taken)
            self._taken = 0

    def _fall_through(self, headers: dict[bytes, bytes]) -> None:
        """Build the scope uvicorn would have built and go its way."""
        url = self.url
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers.items())
        self.headers.extend(self._repeated)
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        if self.pending:
            self.cycle = _Busy()  # type: ignore[assignment]
        super().on_headers_complete()
        if self.door.draining:
            self.cycle.keep_alive = False
