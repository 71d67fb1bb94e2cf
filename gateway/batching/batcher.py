"""The queue of one version and its execution slots: the stage that executes. Decisions are `policy.decide`'s.

Runs on the event loop only. Owns a request from the moment it is queued until it completes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from gateway.batching.company import LONGEST_NS, Company
from gateway.batching.cost import CostTracker
from gateway.batching.group import Group
from gateway.batching.merge import merge, parameters_key, select, split, wanted_outputs
from gateway.batching.order import ArrivalOrder
from gateway.batching.policy import BatchingSettings, CloseReason, Run, Waiting, decide, may_run_incomplete
from gateway.core.clock import NS_PER_S, NS_PER_US, Clock, monotonic_ns
from gateway.core.errors import Code, GatewayError
from gateway.core.timeline import BatchObserver, BatchRecord
from gateway.core.types import InferRequest, InferResponse, Outcome, Tensor
from runtimes.base import Array, ExecuteCall, ExecuteResult, ExecutionFailed, Instance


class Batcher:
    """Queue requests, merge what waits together, execute it on `instance`, hand each request its rows.

    Bounded: beyond `max_queue_size` waiting requests a new one completes with OVERLOADED. Expired, cancelled
    and otherwise completed requests are skipped before the merge and never reach the runtime. Requests of
    different row shapes form groups of their own; the group with the oldest head goes first, and one that waits for
    its delay lets others pass, so none blocks another. Where a merged batch fails, its requests are executed once
    more one by one, so that one caller's bad row does not fail the others.
    """

    def __init__(
        self,
        instance: Instance,
        settings: BatchingSettings,
        datatypes: Mapping[str, str],
        *,
        costs: CostTracker | None = None,
        on_batch: Sequence[BatchObserver] = (),
        now: Clock = monotonic_ns,
    ) -> None:
        self._instance = instance
        self._settings = settings
        self._merging = settings.max_batch_size > 1
        self._datatypes = datatypes
        self._costs = costs or CostTracker()
        self._on_batch = tuple(on_batch)
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._groups: dict[tuple[object, ...] | None, Group] = {}
        self._waiting = 0  # requests in all groups, dead ones included until met
        self._present = 0  # of them, when batches were last started: a crowd of several shapes is one crowd
        self._in_flight = 0  # batches
        self._company = Company()
        self._scheduled = False  # a kick is on the loop's ready list
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._order = ArrivalOrder() if settings.preserve_ordering else None
        self._idle_event = asyncio.Event()
        self._idle_event.set()

    @property
    def depth(self) -> int:
        """Requests waiting."""
        return self._waiting

    @property
    def queued_rows(self) -> int:
        """Rows waiting."""
        return sum(group.rows for group in self._groups.values())

    @property
    def busy(self) -> bool:
        """Whether anything waits or executes."""
        return bool(self._waiting or self._in_flight)

    async def drain(self) -> None:
        """Return when nothing waits and nothing executes. The caller bounds the wait."""
        while self.busy:
            self._idle_event.clear()
            await self._idle_event.wait()

    def __call__(self, request: InferRequest) -> None:
        """Queue `request`; it completes later, on the loop, or at once with OVERLOADED."""
        if self._waiting >= self._settings.max_queue_size and not self._purge():
            request.fail(Code.OVERLOADED, f"{_id(request)}Exceeds maximum queue size", retry_after_s=1)
            return
        request.timeline.queued = self._now()
        if request.parameters and self._merging:
            request.shape_key = (request.shape_key, *parameters_key(request.parameters))
        if self._order is not None:
            self._order.enter(request)
        group = self._enqueue(request)
        if request.trickles and self._idle_slots() > 0:
            if self._timer is None or self._may_run(request, group):
                self._kick()
        elif not self._scheduled:  # also with all slots busy: asking here would cost each request what a tick costs
            # One tick of gathering: requests parsed in the same poll round join this batch (32 instead of 16
            # rows per batch at no latency cost, measured).
            self._scheduled = True
            self._loop.call_soon(self._kick)

    def _enqueue(self, request: InferRequest) -> Group:
        group = self._groups.get(request.shape_key)
        if group is None:
            group = self._groups[request.shape_key] = Group()
        group.add(request)
        self._waiting += 1
        return group

    def _idle_slots(self) -> int:
        slots = self._instance.slots
        limit = self._settings.max_slots
        return (min(slots, limit) if limit else slots) - self._in_flight

    def _purge(self) -> bool:
        """Drop completed requests from all groups; tell whether that made room."""
        for key in list(self._groups):
            group = self._groups[key]
            live = deque(request for request in group.queue if request.outcome is None)
            self._waiting -= len(group.queue) - len(live)
            group.queue = live
            group.rows = sum(request.rows for request in live)
            if not live:
                del self._groups[key]
        return self._waiting < self._settings.max_queue_size

    def _kick(self) -> None:
        self._scheduled = False
        self._present = self._waiting
        for _ in range(self._idle_slots()):
            if not self._start_one():
                break
        if not self.busy:
            self._idle_event.set()

    def _start_one(self) -> bool:
        """Start at most one batch; False where there is nothing to start now."""
        while self._waiting:
            now = self._now()
            key, group, decision = self._ripe(now)
            if group is None or decision is None:
                break
            batch, rows, late = self._take(key, group, decision.rows, now)
            for request in late:  # only now: a hook may queue its client's next request
                request.fail(Code.DEADLINE, f"{_id(request)}Request timeout expired")
            if self._order is not None:
                self._order.release()
            if batch:
                self._execute(batch, rows, decision.reason if self._merging else CloseReason.SINGLE)
                return True
        if self._order is not None:  # whoever ended while waiting holds nobody back
            self._order.release()
        return False

    def _ripe(self, now: int) -> tuple[tuple[object, ...] | None, Group | None, Run | None]:
        """The oldest group that need not wait for its delay, and what to run of it; sets the timer for others."""
        for key, group in self._by_age():
            waiting = self._waiting_in(group)
            decision = decide(waiting, now, self._idle_slots(), self._settings, self._costs.model)
            if isinstance(decision, Run):
                return key, group, decision
            self._arm(decision.until_ns)
        return None, None, None

    def _waiting_in(self, group: Group) -> Waiting:
        company, oldest_ns = self._company, group.oldest_ns
        until_ns = company.until_ns(self._present, oldest_ns, group.deadline_ns) if group.patient else 0
        return Waiting(group.rows if self._merging else 1, oldest_ns, company.rows, until_ns)

    def _may_run(self, request: InferRequest, group: Group) -> bool:
        """Tell whether `request` may make `decide` say something else than the timer was armed for."""
        return (
            self._company.complete(self._waiting)
            or request.deadline_ns < self._timer_ns + LONGEST_NS
            or may_run_incomplete(group.rows, self._settings, self._costs.model)
        )

    def _by_age(self) -> list[tuple[tuple[object, ...] | None, Group]]:
        """Groups by their longest waiting request (without a delay only the first); dead heads are dropped."""
        for key in list(self._groups):
            group = self._groups[key]
            queue = group.queue
            while queue and queue[0].outcome is not None:
                group.rows -= queue.popleft().rows
                self._waiting -= 1
            if not queue:
                del self._groups[key]
        groups = self._groups.items()
        if len(groups) < 2:
            return list(groups)
        waiting = self._settings.max_queue_delay_us or self._costs.model.worth_waiting_ns()
        if waiting or any(group.patient for _, group in groups):
            return sorted(groups, key=_age)
        return [min(groups, key=_age)]

    def _take(
        self, key: tuple[object, ...] | None, group: Group, limit: int, now: int
    ) -> tuple[list[InferRequest], int, list[InferRequest]]:
        """Remove requests of up to `limit` rows (at least one request) from the group; late ones are apart."""
        batch: list[InferRequest] = []
        late: list[InferRequest] = []
        rows = 0
        queue = group.queue
        while queue:
            request = queue[0]
            if batch and rows + request.rows > limit:
                break
            queue.popleft()
            group.rows -= request.rows
            self._waiting -= 1
            if request.outcome is not None:
                continue
            if self._is_late(request, now):
                late.append(request)
                continue
            batch.append(request)
            rows += request.rows
            if rows >= limit:
                break
        if not queue:
            del self._groups[key]
        return batch, rows, late

    def _is_late(self, request: InferRequest, now: int) -> bool:
        if request.deadline_ns and now >= request.deadline_ns:
            return True
        timeout_ns = self._settings.queue_timeout_us * NS_PER_US
        return bool(timeout_ns) and now - request.timeline.queued >= timeout_ns

    def _execute(self, batch: list[InferRequest], rows: int, reason: CloseReason) -> None:
        start = self._now()
        self._in_flight += 1
        run = _Running(self, batch, rows, reason, start, start)
        try:
            inputs = merge(batch)
        except ValueError:
            run(ExecutionFailed("the requests of one batch do not fit together"))
            return
        deadline = 0
        if len(batch) == 1:
            deadline = batch[0].deadline_ns
        call = ExecuteCall(inputs, wanted_outputs(batch), batch[0].parameters, deadline)
        run.submit_ns = self._now()
        if any(request.on_part is not None for request in batch):
            self._instance.submit_stream(call, run.emit, run)
        else:
            self._instance.submit(call, run)

    def finished(self, run: _Running, result: ExecuteResult) -> None:
        """Take a batch's result. Called by the batch itself, once, on the loop."""
        end = self._now()
        self._in_flight -= 1
        batch = run.batch
        failed = isinstance(result, ExecutionFailed)
        if not failed:
            self._company.ended(run.rows, len(batch))
            self._costs.observe(run.rows, end - run.submit_ns)
        record = _batch_record(run, end, not failed)
        for observe in self._on_batch:
            observe(record)
        if self._waiting:
            self._schedule()
        self._stamp(run, end)
        if isinstance(result, ExecutionFailed):
            self._failed(batch, result)
        else:
            self._answer(run, result)
        if not self.busy:
            self._idle_event.set()

    def _stamp(self, run: _Running, end: int) -> None:
        rows = run.rows
        requests = len(run.batch)
        reason = run.reason.value
        elapsed = end - run.submit_ns
        for request in run.batch:
            timeline = request.timeline
            timeline.execute_start = run.submit_ns
            timeline.execute_end = end
            request.batch_rows = rows
            request.batch_requests = requests
            request.close_reason = reason
            request.compute_share_ns += elapsed * request.rows // rows

    def stream(self, run: _Running, outputs: Mapping[str, Array]) -> None:
        """Send one part of a streamed answer on; who is over, or does not stream, gets none of it."""
        now = self._now()
        try:
            parts = self._divided(run.batch, outputs)
        except (ValueError, KeyError):
            return  # the end of the answer will be as wrong, and that is told
        for request, part in zip(run.batch, parts, strict=True):
            request.timeline.first_part = request.timeline.first_part or now
            request.emit(InferResponse(part))

    def _divided(self, batch: list[InferRequest], outputs: Mapping[str, Array]) -> list[dict[str, Tensor]]:
        if self._merging:
            return split(outputs, self._datatypes, batch)
        whole = {name: Tensor(self._datatypes[name], array) for name, array in outputs.items()}
        return [select(whole, batch[0])]

    def _answer(self, run: _Running, outputs: Mapping[str, Array]) -> None:
        batch = run.batch
        try:
            parts = self._divided(batch, outputs)
        except (ValueError, KeyError) as exc:
            for request in batch:
                self._deliver(request, GatewayError(Code.INTERNAL, f"{_id(request)}model answered wrongly: {exc}"))
            return
        if self._order is None:
            for request, part in zip(batch, parts, strict=True):
                request.complete(InferResponse(part))
            return
        for request, part in zip(batch, parts, strict=True):
            self._order.settle(request, InferResponse(part))

    def _failed(self, batch: list[InferRequest], error: ExecutionFailed) -> None:
        if len(batch) > 1 and not any(request.timeline.first_part for request in batch):
            for request in batch:
                request.shape_key = ("alone", id(request))
                self._enqueue(request)
            self._schedule()
            return
        for request in batch:
            code = Code.INVALID_ARGUMENT if error.bad_input else Code.INTERNAL
            if request.deadline_ns and self._now() >= request.deadline_ns:
                code = Code.DEADLINE  # runtimes refuse what is late, maybe before the sweep has seen it
            self._deliver(request, GatewayError(code, f"{_id(request)}{error.message}"))

    def _deliver(self, request: InferRequest, outcome: Outcome) -> None:
        if self._order is None:
            request.complete(outcome)
        else:
            self._order.settle(request, outcome)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._kick)

    def _arm(self, until_ns: int) -> None:
        """Kick at `until_ns` at the latest; an earlier timer stays."""
        if self._timer is not None:
            if self._timer_ns <= until_ns:
                return
            self._timer.cancel()
        self._timer_ns = until_ns
        delay_s = max(until_ns - self._now(), 0) / NS_PER_S
        self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._schedule()


class _Running(msgspec.Struct, eq=False):
    """One batch in flight; it is the `done` callback of its execution."""

    batcher: Batcher
    batch: list[InferRequest]
    rows: int
    reason: CloseReason
    start_ns: int
    submit_ns: int

    def __call__(self, result: ExecuteResult) -> None:
        self.batcher.finished(self, result)

    def emit(self, outputs: Mapping[str, Array]) -> None:
        self.batcher.stream(self, outputs)


def _batch_record(run: _Running, end: int, ok: bool) -> BatchRecord:
    target = run.batch[0].target
    return BatchRecord(
        run.batch[0].model,
        "" if target is None else target.version,
        run.rows,
        len(run.batch),
        run.reason.value,
        run.start_ns,
        run.submit_ns,
        end,
        ok,
    )


def _age(item: tuple[tuple[object, ...] | None, Group]) -> int:
    return item[1].oldest_ns


def _id(request: InferRequest) -> str:
    return f"[request id: {request.id or '<id_unknown>'}] "
