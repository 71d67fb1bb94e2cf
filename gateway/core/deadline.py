"""The wire forms of a deadline, made absolute. The smallest of all that are given wins.

gRPC sends `grpc-timeout` (gRPC over HTTP/2 spec, "Timeout"), HTTP clients `x-request-timeout-ms`,
Envoy `x-envoy-expected-rq-timeout-ms`, V2 clients the parameter `timeout` in microseconds.
"""

from __future__ import annotations

from gateway.core.clock import NS_PER_MS, NS_PER_US
from gateway.core.errors import invalid

_GRPC_UNITS_NS = {"H": 3600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 10**3, "n": 1}
MAX_TIMEOUT_MS = 24 * 3600 * 1000


def timeout_ms_ns(text: str, field: str) -> int:
    """Parse a header of whole or fractional milliseconds to ns; raise INVALID_ARGUMENT naming `field`."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_TIMEOUT_MS:
        raise invalid(f"header '{field}' must be milliseconds between 0 and {MAX_TIMEOUT_MS}, got {text[:64]!r}")
    return int(value * NS_PER_MS)


def grpc_timeout_ns(text: str) -> int:
    """Parse `grpc-timeout` (1 to 8 digits and a unit of HMSmun) to ns; raise INVALID_ARGUMENT."""
    digits, unit = text[:-1], text[-1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 8 and unit in _GRPC_UNITS_NS):
        raise invalid(f"header 'grpc-timeout' must be 1 to 8 digits and a unit of HMSmun, got {text[:64]!r}")
    return int(digits) * _GRPC_UNITS_NS[unit]


def timeout_parameter_ns(value: object) -> int:
    """Read the V2 request parameter `timeout` (microseconds; 0 = none) to ns; raise INVALID_ARGUMENT."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TIMEOUT_MS * 1000:
        raise invalid(
            f"parameter 'timeout' must be a whole number of microseconds between 0 and {MAX_TIMEOUT_MS * 1000}, "
            f"got {_shown(value)}"
        )
    return value * NS_PER_US


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:  # printing a huge one would raise
        return "a larger number"
    return repr(str(value)[:64])


def tighten(deadline_ns: int, candidate_ns: int) -> int:
    """Return the earlier of two absolute deadlines, where 0 means none."""
    if deadline_ns == 0 or (candidate_ns and candidate_ns < deadline_ns):
        return candidate_ns
    return deadline_ns
