"""Cumulative counts per model version, in the terms of Triton's statistics extension. Fed by records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from gateway.core.clock import NS_PER_MS, Clock, monotonic_ns
from gateway.core.errors import Code
from gateway.core.oip import service_pb2
from gateway.core.timeline import BatchRecord, FinishedGroup, RequestRecord

VersionKey = tuple[str, str]
"""(model, version)."""


class BatchSizeStatistics(msgspec.Struct, gc=False):
    """Executions of one batch size: how many, and the summed ns of merging and of executing."""

    count: int = 0
    input_ns: int = 0
    infer_ns: int = 0


class VersionStatistics(msgspec.Struct):
    """What one version has done since it was first seen. Plain sums, so two of them add up by `merge`.

    Successful requests alone feed queue, input, infer and output; a cache hit feeds success and cache_hit.
    """

    success_count: int = 0
    success_ns: int = 0
    fail_count: int = 0
    fail_ns: int = 0
    executed_count: int = 0  # successful requests that were executed (not from a cache)
    rows: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    executions: int = 0
    cache_hit_count: int = 0
    cache_hit_ns: int = 0
    cache_miss_count: int = 0
    cache_miss_ns: int = 0
    last_ns: int = 0  # monotonic: when the latest successful request was received
    sizes: dict[int, BatchSizeStatistics] = msgspec.field(default_factory=dict)

    def merge(self, other: VersionStatistics) -> None:
        """Add `other`'s sums to these; `other` is not modified."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_ns = max(self.last_ns, other.last_ns)
        for rows, theirs in other.sizes.items():
            ours = self.sizes.setdefault(rows, BatchSizeStatistics())
            ours.count += theirs.count
            ours.input_ns += theirs.input_ns
            ours.infer_ns += theirs.infer_ns


_SUMS = tuple(name for name in VersionStatistics.__struct_fields__ if name not in ("last_ns", "sizes"))


class Statistics:
    """Observer of requests and batches; answers ModelStatistics. One per process, used on its loop only.

    `wall_ns` is read only by `report`, to express the monotonic `last_inference` as Unix time.
    """

    def __init__(self, clock: Clock = monotonic_ns, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._wall_ns = wall_ns
        self._versions: dict[VersionKey, VersionStatistics] = {}

    def observe(self, records: Sequence[RequestRecord]) -> None:
        """Count single requests; one that reached no version belongs to none and is left out."""
        for record in records:
            if record.version:
                _add(self._entry((record.model, record.version)), record)

    def observe_group(self, group: FinishedGroup) -> None:
        """Count plain successes."""
        totals = self._entry((group.model, group.version))
        count = len(group.steps)
        # An answer nobody was left to read has no end: ABSENT counts as nothing.
        whole, _, queue, compute, encode = np.maximum(group.spans, 0).sum(axis=1).tolist()
        totals.success_count += count
        totals.executed_count += count
        totals.rows += group.rows
        totals.success_ns += whole
        totals.queue_ns += queue
        totals.infer_ns += compute
        totals.output_ns += encode
        totals.last_ns = max(totals.last_ns, int(group.steps[:, 0].max()))

    def observe_batch(self, batch: BatchRecord) -> None:
        """Count one execution; failed ones are left out, as in Triton."""
        if not batch.ok:
            return
        totals = self._entry((batch.model, batch.version))
        size = totals.sizes.get(batch.rows)
        if size is None:
            size = totals.sizes[batch.rows] = BatchSizeStatistics()
        merge_ns = batch.submit_ns - batch.start_ns
        totals.executions += 1
        totals.input_ns += merge_ns * batch.requests  # each request waited for the whole merge
        size.count += 1
        size.input_ns += merge_ns
        size.infer_ns += batch.done_ns - batch.submit_ns

    def report(
        self, model: str = "", version: str = "", loaded: Iterable[VersionKey] = ()
    ) -> list[service_pb2.ModelStatistics]:
        """List statistics of the versions that match; "" matches all.

        `loaded` names versions to list even where no request came yet (all zero). Sorted by model, then version.
        """
        keys = {*self._versions, *loaded}
        matching = [key for key in keys if model in ("", key[0]) and version in ("", key[1])]
        return [self._message(key) for key in sorted(matching, key=_order)]

    def forget(self, model: str, version: str) -> None:
        """Drop a version's counts (it was unloaded). Unknown ones are ignored."""
        self._versions.pop((model, version), None)

    def snapshot(self) -> dict[VersionKey, VersionStatistics]:
        """Return the live totals by version, to merge elsewhere; do not modify them."""
        return dict(self._versions)

    def _entry(self, key: VersionKey) -> VersionStatistics:
        return self._versions.setdefault(key, VersionStatistics())

    def _message(self, key: VersionKey) -> service_pb2.ModelStatistics:
        totals = self._versions.get(key) or VersionStatistics()
        last_ms = 0
        if totals.last_ns:
            last_ms = (self._wall_ns() - (self._clock() - totals.last_ns)) // NS_PER_MS
        done = totals.executed_count
        return service_pb2.ModelStatistics(
            name=key[0],
            version=key[1],
            last_inference=last_ms,
            inference_count=totals.rows,
            execution_count=totals.executions,
            inference_stats=service_pb2.InferStatistics(
                success=_duration(totals.success_count, totals.success_ns),
                fail=_duration(totals.fail_count, totals.fail_ns),
                # `execute_start` is when the merged batch went to the runtime; Triton counts merging as input.
                queue=_duration(done, max(totals.queue_ns - totals.input_ns, 0)),
                compute_input=_duration(done, totals.input_ns),
                compute_infer=_duration(done, totals.infer_ns),
                compute_output=_duration(done, totals.output_ns),
                cache_hit=_duration(totals.cache_hit_count, totals.cache_hit_ns),
                cache_miss=_duration(totals.cache_miss_count, totals.cache_miss_ns),
            ),
            batch_stats=[_batch_message(rows, totals.sizes[rows]) for rows in sorted(totals.sizes)],
        )


def _add(totals: VersionStatistics, record: RequestRecord) -> None:
    times = record.timeline
    # A request whose client left has no `answered`: its failure counts with no duration.
    total_ns = max(times.answered - times.received, 0)
    if record.code is not Code.OK:
        totals.fail_count += 1
        totals.fail_ns += total_ns
        return
    totals.success_count += 1
    totals.success_ns += total_ns
    totals.last_ns = max(totals.last_ns, times.received)
    if record.cache in ("hit", "coalesced"):
        totals.cache_hit_count += 1
        totals.cache_hit_ns += times.answered - times.routed
        return
    if record.cache == "miss":
        totals.cache_miss_count += 1
        totals.cache_miss_ns += times.queued - times.routed
    totals.executed_count += 1
    totals.rows += record.rows
    totals.queue_ns += times.execute_start - (times.queued or times.execute_start)
    totals.infer_ns += times.execute_end - times.execute_start
    totals.output_ns += max(times.answered - times.execute_end, 0)


def _batch_message(rows: int, size: BatchSizeStatistics) -> service_pb2.InferBatchStatistics:
    # Splitting happens in each request's compute_output; a batch's own share is not measured apart.
    return service_pb2.InferBatchStatistics(
        batch_size=rows,
        compute_input=_duration(size.count, size.input_ns),
        compute_infer=_duration(size.count, size.infer_ns),
        compute_output=_duration(size.count, 0),
    )


def _duration(count: int, ns: int) -> service_pb2.StatisticDuration:
    return service_pb2.StatisticDuration(count=count, ns=ns)


def _order(key: VersionKey) -> tuple[str, int, str]:
    model, version = key
    return model, int(version) if version.isdigit() else 0, version
