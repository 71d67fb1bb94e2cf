"""The sink that turns records into measures. Called with groups of requests and once per batch, on the event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

import numpy as np

from gateway.core.errors import Code
from gateway.core.timeline import STEPS, BatchRecord, FinishedGroup, RequestRecord, spans_of
from gateway.telemetry.measures import BUCKETS_S, BatchKey, Measures, RequestSeries, SeriesKey

# Records wait in lists and are counted together by numpy: 1.0 us each, a stall of 0.1 ms for 128. Bisecting into
# five histograms at every request costs 2.2 us.
_FOLD_AT = 128
_STEPS = attrgetter(*STEPS)


def _nothing() -> None:
    pass


class MetricsSink:
    """Counter of requests (see `core.timeline.Counter`) and of batches (`sink.observe_batch(batch)`).

    Not thread-safe: call everything on one loop. `measures` is what to export or to merge.
    """

    def __init__(self, buckets_s: Sequence[float] = BUCKETS_S) -> None:
        self.before_read: Callable[[], None] = _nothing  # lets who holds records back hand them over first
        self._measures = Measures(tuple(buckets_s))
        self._records: dict[SeriesKey, list[RequestRecord]] = {}
        self._batches: dict[BatchKey, list[BatchRecord]] = {}

    def observe(self, records: Sequence[RequestRecord]) -> None:
        """Count single requests. They wait and are folded together: bisecting into five histograms costs 2.2 us."""
        for record in records:
            key = (record.model, record.version, record.role, record.protocol)
            waiting = self._records.setdefault(key, [])
            waiting.append(record)
            if len(waiting) >= _FOLD_AT:
                _fold_requests(self._measures.request_series(key), waiting)

    def observe_group(self, group: FinishedGroup) -> None:
        """Count plain successes."""
        series = self._measures.request_series((group.model, group.version, group.role, group.protocol))
        series.codes["OK"] = series.codes.get("OK", 0) + len(group.steps)
        series.compute_ns[""] = series.compute_ns.get("", 0) + group.compute_share_ns
        series.durations.observe(group.spans)

    def observe_batch(self, batch: BatchRecord) -> None:
        """Count one execution."""
        key = (batch.model, batch.version)
        batches = self._batches.get(key)
        if batches is None:
            batches = self._batches[key] = []
        batches.append(batch)
        if len(batches) >= _FOLD_AT:
            self._fold_batches(key, batches)

    def measures(self) -> Measures:
        """Return the live measures, complete up to now; do not modify them."""
        self.before_read()
        for key, records in self._records.items():
            if records:
                _fold_requests(self._measures.request_series(key), records)
        for batch_key, batches in self._batches.items():
            if batches:
                self._fold_batches(batch_key, batches)
        return self._measures

    def _fold_batches(self, key: BatchKey, batches: list[BatchRecord]) -> None:
        series = self._measures.batch_series(key)
        series.rows.observe(np.array([[batch.rows for batch in batches]], dtype=np.int64))
        for batch in batches:
            reason = str(batch.close_reason)
            series.closed[reason] = series.closed.get(reason, 0) + 1
        batches.clear()


def _fold_requests(series: RequestSeries, records: list[RequestRecord]) -> None:
    codes = [record.code for record in records]
    ok = codes.count(Code.OK)
    if ok:
        series.codes["OK"] = series.codes.get("OK", 0) + ok
    if ok != len(codes):
        for code in codes:
            if code is not Code.OK:
                series.codes[code.value] = series.codes.get(code.value, 0) + 1
    for record in records:
        if record.compute_share_ns:
            used = series.compute_ns
            used[record.principal] = used.get(record.principal, 0) + record.compute_share_ns
    times = [record.timeline for record in records]
    series.durations.observe(spans_of(np.array([_STEPS(t) for t in times], np.int64)))
    records.clear()
