"""`Code` -> HTTP status and gRPC status. The one place where the core's words become a protocol's."""

from __future__ import annotations

from types import MappingProxyType

from gateway.core.errors import Code

_HTTP = MappingProxyType(
    {
        Code.OK: 200,
        Code.INVALID_ARGUMENT: 400,
        Code.UNAUTHENTICATED: 401,
        Code.FORBIDDEN: 403,
        Code.NOT_FOUND: 404,
        Code.CONFLICT: 409,
        Code.PRECONDITION: 412,
        Code.TOO_LARGE: 413,
        Code.UNSUPPORTED_MEDIA: 415,
        Code.QUOTA: 429,
        Code.CANCELLED: 499,
        Code.INTERNAL: 500,
        Code.UNIMPLEMENTED: 501,
        Code.BACKEND: 502,
        Code.OVERLOADED: 503,
        Code.NOT_READY: 503,
        Code.DEADLINE: 504,
    }
)

# Numbers of google.rpc.Code; plain ints because grpc is imported by the gRPC door alone.
_GRPC = MappingProxyType(
    {
        Code.OK: 0,
        Code.CANCELLED: 1,
        Code.INVALID_ARGUMENT: 3,
        Code.UNSUPPORTED_MEDIA: 3,
        Code.DEADLINE: 4,
        Code.NOT_FOUND: 5,
        Code.FORBIDDEN: 7,
        Code.TOO_LARGE: 8,
        Code.QUOTA: 8,
        Code.PRECONDITION: 9,
        Code.CONFLICT: 10,
        Code.UNIMPLEMENTED: 12,
        Code.INTERNAL: 13,
        Code.BACKEND: 14,
        Code.OVERLOADED: 14,
        Code.NOT_READY: 14,
        Code.UNAUTHENTICATED: 16,
    }
)


def http_status(code: Code) -> int:
    """Return the HTTP status of `code`."""
    return _HTTP[code]


def grpc_status(code: Code) -> int:
    """Return the gRPC status number of `code`."""
    return _GRPC[code]
