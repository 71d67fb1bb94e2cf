"""The nouns of a request and the one contract of the data path: a stage takes an `InferRequest` and returns nothing.

A stage completes the request or hands it to its inner stage. There is no task, coroutine or future per
request: a future-and-task hop costs more than all stages together (docs/decisions/0002). Objects are
msgspec Structs because their constructor is C: 0.3 us for the request against 1.1 us for a slotted class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.core.errors import Code, GatewayError
from gateway.core.timeline import RequestRecord, Timeline
from gateway.core.trace import TraceContext
from runtimes.base import Array, ModelSignature

NO_PARAMETERS: Mapping[str, Any] = {}


class Rows(msgspec.Struct, gc=False, eq=False):
    """One output of a whole batch, [rows, ...], which several answers hold rows of. `texts` is a codec's: each row as
    it is written, empty where rows must be written one by one, None before anybody asked twice.

    What is made of all rows at once serves every answer: 0.2 us a row where each alone costs 0.9.
    """

    array: Array
    asked: int = 0  # how many answers were written so far
    texts: list[bytes] | None = None


class Tensor(msgspec.Struct, gc=False, eq=False):
    """A named array's value: OIP datatype and the array (see `runtimes.base.DTYPES` for how elements are held).

    Of a batch's output it is the rows of `batch` from `start` on.
    """

    datatype: str
    array: Array
    batch: Rows | None = None
    start: int = 0


class RequestedOutput(msgspec.Struct, frozen=True, gc=False):
    """One wanted output. `classification` k > 0 asks for the top k as strings `score:index[:label]`.

    `binary` is the client's wish for this output, None where it did not say.
    """

    name: str
    binary: bool | None = None
    classification: int = 0


class InferResponse(msgspec.Struct, gc=False, eq=False):
    """Outputs in the order they go out. Arrays are not modified after this is made."""

    outputs: dict[str, Tensor]
    parameters: Mapping[str, Any] = NO_PARAMETERS


class ServableVersion(msgspec.Struct, frozen=True, eq=False):
    """What the data plane knows of a loaded version. Immutable; swapped as one reference.

    `signature` shapes include the batch dimension. `max_batch_size` 0 = the model has no batch dimension.
    `labels` maps an output name to its class labels. `memo` is for codecs: bytes that depend only on this
    version, built once and dropped with it (only the event loop writes it).
    """

    model: str
    version: str
    signature: ModelSignature
    max_batch_size: int
    stack: Callable[[InferRequest], None]
    default_timeout_ns: int = 0
    labels: Mapping[str, tuple[str, ...]] = {}
    optional_inputs: frozenset[str] = frozenset()
    memo: dict[Any, Any] = msgspec.field(default_factory=dict)


Outcome = InferResponse | GatewayError
OutcomeHook = Callable[["InferRequest", Outcome], None]
FinishedHook = Callable[["InferRequest"], None]


class InferRequest(msgspec.Struct, eq=False):
    """One inference request on its way. It has one owner at a time; only the owner stamps its timeline.

    Life: the door builds it, stages pass it inward, somebody calls `complete` (first call wins, later
    ones are ignored), the hooks of `on_outcome` run last-in first-out on the loop (the door's own was
    added first, so it runs last: it encodes and writes), then the door calls `finish` exactly once.
    Hooks never raise.
    """

    model: str
    version: str = ""  # as the client asked; "" = the gateway chooses
    id: str = ""
    inputs: dict[str, Tensor] = {}
    outputs: tuple[RequestedOutput, ...] = ()  # empty = all
    parameters: Mapping[str, Any] = NO_PARAMETERS
    protocol: str = "http"
    deadline_ns: int = 0  # absolute, monotonic; 0 = none
    bytes_in: int = 0
    request_id: str = ""  # x-request-id, for logs; `id` is the protocol's own
    trace: TraceContext | None = None
    principal: str = ""

    timeline: Timeline = msgspec.field(default_factory=Timeline)
    rows: int = 1  # set by validation: first dimension where the model batches, else 1
    target: ServableVersion | None = None  # set by routing
    known: bool = False  # set by routing: the model's name exists, so it may become a metric label
    role: str = "stable"
    route_reason: str = ""
    outcome: Outcome | None = None
    batch_rows: int = 0
    batch_requests: int = 0
    close_reason: str = ""
    cache: str = ""
    instance: str = ""
    compute_share_ns: int = 0
    bytes_out: int = 0
    trickles: bool = False  # its door delivers one request a loop turn: a turn's wait for company is in vain
    shape_key: tuple[Any, ...] | None = None  # the batcher's: which requests may share a batch
    on_part: Callable[[InferResponse], None] | None = None  # set by doors that stream
    on_outcome: list[OutcomeHook] = []
    on_finished: list[FinishedHook] = []
    finished: bool = False

    def complete(self, outcome: Outcome) -> None:
        """End the request. The first call wins (an answer and the deadline sweep may race); others do nothing."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        hooks = self.on_outcome
        while hooks:
            hooks.pop()(self, self.outcome)

    def fail(self, code: Code, message: str, *, retry_after_s: int | None = None) -> None:
        """Complete with an error."""
        self.complete(GatewayError(code, message, retry_after_s=retry_after_s))

    def emit(self, part: InferResponse) -> None:
        """Send one part of a streamed answer; dropped once the request is complete."""
        if self.outcome is None and self.on_part is not None:
            self.on_part(part)

    def replace_outcome(self, outcome: Outcome) -> None:
        """Let an `on_outcome` hook change what the hooks after it (and the record) see."""
        self.outcome = outcome

    def finish(self) -> None:
        """Report the request. The door calls it once, after the answer was written or the client is gone."""
        if self.finished:
            return
        self.finished = True
        hooks = self.on_finished
        while hooks:
            hooks.pop()(self)

    def record(self) -> RequestRecord:
        """Build the immutable record observers get."""
        outcome = self.outcome
        code = Code.CANCELLED if outcome is None else outcome.code if isinstance(outcome, GatewayError) else Code.OK
        target = self.target
        return RequestRecord(
            self.model if self.known else "",
            "" if target is None else target.version,
            self.role,
            self.protocol,
            code,
            self.timeline,
            self.rows,
            self.batch_rows,
            self.batch_requests,
            self.close_reason,
            self.cache,
            self.request_id,
            "" if self.trace is None else self.trace.trace_id,
            self.principal,
            self.bytes_in,
            self.bytes_out,
            self.instance,
            self.route_reason,
            self.compute_share_ns,
        )


Stage = Callable[[InferRequest], None]
"""Either completes the request or hands it to an inner stage. Never blocks, never raises."""


class ModelMetadata(msgspec.Struct, frozen=True):
    """Answer of model metadata (OIP): `shape` of each spec includes the batch dimension."""

    name: str
    versions: tuple[str, ...]
    platform: str
    signature: ModelSignature
    parameters: Mapping[str, str] = {}


class IndexEntry(msgspec.Struct, frozen=True):
    """One line of the repository index. `state` is READY, LOADING, UNLOADING, UNAVAILABLE or ""."""

    name: str
    version: str
    state: str
    reason: str = ""
