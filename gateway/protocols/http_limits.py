"""What a request head must satisfy before any body is kept: sizes, Host, version, framing. Pure.

A broken rule raises `Refusal`: the error and the HTTP status where it differs from the code's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import Code, GatewayError, invalid
from gateway.protocols.exchange import Target
from gateway.protocols.http_settings import HttpSettings
from gateway.protocols.status import http_status

Lines = Sequence[tuple[bytes, bytes]]


class Refusal(Exception):
    """Raised in parser callbacks: stop parsing, answer `error` with `status`, close."""

    def __init__(self, error: GatewayError, status: int = 0) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status or http_status(error.code)


def check_head(lines: Lines, version: str, settings: HttpSettings) -> None:
    """Hold the number and size of header lines and the Host to the rules (RFC 9112 3.2). Raises Refusal."""
    if len(lines) > settings.max_headers:
        raise Refusal(invalid(f"more than {settings.max_headers} headers"), 431)
    if sum(len(name) + len(value) + 4 for name, value in lines) > settings.max_header_bytes:
        raise header_too_large(settings)
    hosts = sum(name == b"host" for name, _ in lines)
    if hosts > 1:
        raise Refusal(invalid("more than one Host header"))
    if not hosts and version == "1.1":
        raise Refusal(invalid("Host header missing"))


def may_persist(version: str) -> bool:
    """Tell whether the connection may serve more; 1.0 clients that want that speak 1.1. Raises Refusal for others."""
    if version not in ("1.0", "1.1"):
        raise Refusal(invalid(f"HTTP version {version} is not supported, use 1.1"), 505)
    return version == "1.1"


def expects_continue(expectation: bytes, version: str) -> bool:
    """Tell whether the client waits for 100 Continue (RFC 9110 10.1.1: in HTTP/1.0 it is ignored)."""
    return expectation.lower() == b"100-continue" and version == "1.1"


def check_coding(lines: Lines, version: str) -> None:
    """Accept `Transfer-Encoding: chunked`, once, in HTTP/1.1 (RFC 9112 6.1): all else invites smuggling."""
    values = [value.strip().lower() for name, value in lines if name == b"transfer-encoding"]
    if version != "1.1" or len(values) != 1:
        raise Refusal(invalid("Transfer-Encoding must be given once, in HTTP/1.1"))
    if values[0] != b"chunked":
        raise Refusal(GatewayError(Code.UNIMPLEMENTED, "of the transfer codings only 'chunked' is supported"))


def without_upgrade(method: bytes, url: bytes, lines: Lines) -> bytes:
    """Write the head of a request that asks for an upgrade as if it had not; its connection ends with the answer."""
    kept = [line for line in lines if line[0] not in (b"upgrade", b"connection", b"http2-settings")]
    head = b"".join(b"%b: %b\r\n" % line for line in kept)
    return b"%b %b HTTP/1.1\r\n%bconnection: close\r\n\r\n" % (method, url, head)


def header_too_large(settings: HttpSettings) -> Refusal:
    """Build the refusal of a header above its limit."""
    return Refusal(invalid(f"header larger than {settings.max_header_bytes} bytes"), 431)


def body_limit(headers: dict[bytes, bytes], target: Target | None, settings: HttpSettings) -> int:
    """How many body bytes this request may have: JSON has a limit of its own."""
    is_json = (
        target is not None
        and target.kind != "bridge"
        and b"inference-header-content-length" not in headers
        and b"content-encoding" not in headers
    )
    return settings.max_json_bytes if is_json else settings.max_body_bytes


def body_too_large(limit: int, settings: HttpSettings) -> Refusal:
    """Build the refusal of a body above `limit`; that of JSON names the binary form."""
    message = f"the request body is larger than {limit} bytes"
    if limit < settings.max_body_bytes:
        message += (
            f" of JSON; send tensors in the binary form (Inference-Header-Content-Length), "
            f"which may have {settings.max_body_bytes}"
        )
    return Refusal(GatewayError(Code.TOO_LARGE, message))


class Trailers(list[tuple[bytes, bytes]]):
    """Takes the place of the repeated header lines once the head is complete: trailers are counted and dropped.

    True though empty, so that the next request replaces it.
    """

    def __init__(self, settings: HttpSettings) -> None:
        super().__init__()
        self._settings = settings
        self._left = settings.max_header_bytes

    def __bool__(self) -> bool:
        return True

    def append(self, item: tuple[bytes, bytes]) -> None:
        """Count `item`. Raises Refusal beyond the limit of the head."""
        self._left -= len(item[0]) + len(item[1]) + 4
        if self._left < 0:
            raise header_too_large(self._settings)


class SealedHeaders(dict[bytes, bytes]):
    """Headers that trailers cannot change (RFC 9110 6.5.1: they must not be merged into the head unasked)."""

    def __init__(self, headers: dict[bytes, bytes], trailers: Trailers) -> None:
        super().__init__(headers)
        self._trailers = trailers

    def __setitem__(self, name: bytes, value: bytes) -> None:
        """Count a trailer."""
        self._trailers.append((name, value))
