"""W3C trace context (https://www.w3.org/TR/trace-context/): what a request carries of it. No SDK here."""

from __future__ import annotations

import re

import msgspec

_TRACEPARENT = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """The caller's trace: 32 and 16 lower-case hex digits, and its sampling flag."""

    trace_id: str
    parent_id: str
    sampled: bool


def parse_traceparent(text: str) -> TraceContext | None:
    """Read a `traceparent` header; None where it is malformed (the spec says to ignore it then)."""
    match = _TRACEPARENT.match(text)
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return TraceContext(trace_id, parent_id, bool(int(flags, 16) & 1))
