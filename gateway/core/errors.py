"""What can go wrong, in no protocol's words. Protocols map `Code` to HTTP and gRPC in `protocols/status.py`."""

from __future__ import annotations

import enum


class Code(enum.Enum):
    """Outcome of a request or an admin call. One HTTP and one gRPC status each (design: codes)."""

    OK = "OK"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    PRECONDITION = "PRECONDITION"
    TOO_LARGE = "TOO_LARGE"
    UNSUPPORTED_MEDIA = "UNSUPPORTED_MEDIA"
    QUOTA = "QUOTA"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    BACKEND = "BACKEND"
    OVERLOADED = "OVERLOADED"
    NOT_READY = "NOT_READY"
    DEADLINE = "DEADLINE"


class GatewayError(Exception):
    """A failed request: a code, and a message fit for the client (no path, no traceback, no payload).

    `retry_after_s` is set where trying again later makes sense (OVERLOADED, NOT_READY, QUOTA).
    """

    def __init__(self, code: Code, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    def __repr__(self) -> str:
        return f"GatewayError({self.code.name}, {self.message!r})"


def invalid(message: str) -> GatewayError:
    """Build the error for a request the client must change before sending it again."""
    return GatewayError(Code.INVALID_ARGUMENT, message)
