"""When each step of a request happened, and the one record that reports it. Written by stages, read by observers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.core.errors import Code


class Timeline(msgspec.Struct, gc=False, eq=False):
    """Monotonic nanoseconds per step; 0 = the step was not reached. Stamped only by the request's owner."""

    received: int = 0  # first byte of the request was read
    decoded: int = 0  # tensors are arrays
    admitted: int = 0
    routed: int = 0
    queued: int = 0  # entered the batcher's queue
    execute_start: int = 0  # its batch was merged and handed to the runtime
    execute_end: int = 0  # the runtime called back on the loop
    first_part: int = 0  # first `emit` of a streamed answer
    answered: int = 0  # encoded and handed to the transport


class RequestRecord(msgspec.Struct, frozen=True, gc=False, eq=False):
    """All that observers learn of one finished request. Immutable; holds no payload and no credential."""

    model: str
    version: str  # the version that answered, "" if none was chosen
    role: str  # stable, canary, shadow, pinned
    protocol: str  # http, grpc, v1, ...
    code: Code
    timeline: Timeline
    rows: int = 0
    batch_rows: int = 0  # rows of the batch it rode in
    batch_requests: int = 0  # requests of that batch
    close_reason: str = ""  # why that batch closed
    cache: str = ""  # hit, miss, coalesced, bypass; "" = no cache
    request_id: str = ""
    trace_id: str = ""
    principal: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    instance: str = ""
    route_reason: str = ""
    compute_share_ns: int = 0  # batch time x own rows / batch rows


class BatchRecord(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One execution on a runtime."""

    model: str
    version: str
    rows: int
    requests: int
    close_reason: str
    start_ns: int  # merge began
    submit_ns: int  # handed to the runtime
    done_ns: int  # the runtime called back
    ok: bool


Nanoseconds = npt.NDArray[np.int64]


class FinishedGroup(msgspec.Struct, frozen=True, eq=False):
    """Successful requests of one series as columns: all that counting needs, at a tenth of the cost of records.

    `steps` is int64 [n, 6], monotonic ns in the order of STEPS, 0 = not reached; `spans` is what `spans_of` makes
    of it. `rows` and `compute_share_ns` are sums. No request in it had a principal or met a cache.
    """

    model: str
    version: str
    role: str
    protocol: str
    steps: Nanoseconds
    spans: Nanoseconds
    rows: int
    compute_share_ns: int


STEPS = ("received", "decoded", "queued", "execute_start", "execute_end", "answered")
PHASES = ("decode", "queue", "compute", "encode")
_BEGINS = [STEPS.index(step) for step in ("received", "received", "queued", "execute_start", "execute_end")]
_ENDS = [STEPS.index(step) for step in ("answered", "decoded", "execute_start", "execute_end", "answered")]

ABSENT = -1
"""A span one of whose ends was not reached."""


def spans_of(steps: Nanoseconds) -> Nanoseconds:
    """Return durations [1 + phases, n] of steps [n, 6]: the whole request, then PHASES; ABSENT where there is none."""
    columns = steps.T
    begins, ends = columns[_BEGINS], columns[_ENDS]
    return np.where((begins > 0) & (ends > 0), ends - begins, ABSENT)


Observer = Callable[[Sequence[RequestRecord]], None]
"""Gets finished records in the order they finished."""

BatchObserver = Callable[[BatchRecord], None]


class Counter(Protocol):
    """An observer that only counts, so plain successes may reach it in groups and late (see `ObserveStage.flush`)."""

    def observe(self, records: Sequence[RequestRecord]) -> None:
        """Count requests that were refused, failed, met a cache or had a principal."""
        ...

    def observe_group(self, group: FinishedGroup) -> None:
        """Count plain successes."""
        ...
