"""Uvicorn's part of a connection: ASGI cycles, what is known of them, and where they are queued.

Alone touches attributes of uvicorn's cycles (0.54, pinned). Parsing, limits and the hot path are the subclass's.
"""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.core.errors import invalid
from gateway.protocols.http_limits import Lines, Refusal


class _Busy:
    """Stands in for a running cycle while hot answers are due, so that uvicorn queues the next request."""

    response_complete = False
    response_started = True


class _CycleTransport:
    """The transport a cycle sees: its `close` is the connection's `end`."""

    def __init__(self, connection: AsgiLane) -> None:
        self.close = connection.end
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing


class AsgiLane(HttpToolsProtocol):
    """A connection's ASGI requests. All state belongs to the event loop."""

    def __init__(self, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._running: Any = None  # the cycle that was started last

    def is_ours(self) -> bool:
        """Tell whether no ASGI answer is before that to the next message."""
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def begin_cycle(self, lines: Lines, *, keep_alive: bool, expects: bool, hot_due: bool) -> None:
        """Build the scope uvicorn would have built and start or queue its cycle. Raises Refusal.

        `expects`: 100 Continue is to be sent when the application asks for the body.
        """
        url = self.url
        if not _has_path(url):
            raise Refusal(invalid("invalid request target"))
        super().on_message_begin()
        self.url = url
        self.headers.extend(lines)
        self.expect_100_continue = expects
        self._before = self.cycle
        if hot_due:
            self.cycle = _Busy()  # type: ignore[assignment]
        super().on_headers_complete()
        self.cycle.transport = _CycleTransport(self)  # type: ignore[assignment]
        # A client may leave out a body that nobody asked for: what follows would be taken for it.
        self.cycle.keep_alive = keep_alive and not expects

    def close_behind_last(self) -> None:
        """Draining: of the answers to what was read, the last one closes."""
        self.cycle.keep_alive = False
        before = self._before
        if before is not None and not before.response_started:
            before.keep_alive = True

    def renew_parser(self) -> None:
        """Take a fresh parser, as uvicorn sets it up."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def close_with_cycle(self) -> None:
        """Draining began while a request came in: its answer closes."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def cycles_due(self) -> bool:
        """Tell whether an ASGI answer is still to come."""
        running = self._running
        return bool(self.pipeline) or not (running is None or running.response_complete or running.disconnected)

    def withdraw(self, cycle: Any) -> bool:
        """Take back a request whose body turned out unsound; tell whether its answer has begun."""
        if not cycle.response_started:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        return bool(cycle.response_started)

    def drop_cycles(self) -> None:
        """The client is gone: tell the running cycle too (uvicorn tells the one that was made last)."""
        self.pipeline.clear()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def end(self) -> None:
        """Close at an ASGI answer's wish."""
        self.transport.close()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)


def _has_path(url: bytes) -> bool:
    try:
        return httptools.parse_url(url).path is not None
    except httptools.HttpParserInvalidURLError:
        return False
