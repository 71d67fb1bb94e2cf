"""Where one request's milliseconds went, as a `Server-Timing` value (W3C Server Timing). Pure."""

from __future__ import annotations

from gateway.core.types import InferRequest

_STEPS = (
    ("decode", "received", "decoded"),
    ("route", "decoded", "queued"),
    ("queue", "queued", "execute_start"),
    ("execute", "execute_start", "execute_end"),
    ("encode", "execute_end", "answered"),
    ("total", "received", "answered"),
)


def server_timing(request: InferRequest) -> bytes:
    """Durations in ms of the steps that were reached; the batch it rode in as a description."""
    timeline = request.timeline
    parts = []
    for name, start, end in _STEPS:
        begin, finish = getattr(timeline, start), getattr(timeline, end)
        if begin and finish:
            parts.append(f"{name};dur={(finish - begin) / 1e6:.3f}")
    if request.batch_rows:
        parts.append(f'batch;desc="rows={request.batch_rows} close={request.close_reason}"')
    return ", ".join(parts).encode()
