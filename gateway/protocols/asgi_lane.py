"""What the protocol class puts between itself and uvicorn's ASGI cycles. Knows no parser and no uvicorn."""

from __future__ import annotations

from collections.abc import Callable


class Busy:
    """Stands in for a running cycle while hot answers are due, so that uvicorn queues the next request."""

    response_complete = False


class CycleTransport:
    """The transport a cycle sees: its `close` may have to wait for a client that is still sending."""

    def __init__(self, write: Callable[[bytes], None], is_closing: Callable[[], bool], close: Callable[[], None]) -> None:
        self.write = write
        self.is_closing = is_closing
        self.close = close


class Trailers(list[tuple[bytes, bytes]]):
    """Takes the place of the header list once the head is complete: trailers are counted and dropped.

    `excess` is called, and must raise, beyond `limit` bytes.
    """

    def __init__(self, limit: int, excess: Callable[[], None]) -> None:
        super().__init__()
        self._left = limit
        self._excess = excess

    def append(self, item: tuple[bytes, bytes]) -> None:
        """Count `item`."""
        self._left -= len(item[0]) + len(item[1]) + 4
        if self._left < 0:
            self._excess()


class SealedHeaders(dict[bytes, bytes]):
    """Headers that trailers cannot change (RFC 9110 6.5.1: they must not be merged into the head unasked)."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        """Drop what comes after the head."""
