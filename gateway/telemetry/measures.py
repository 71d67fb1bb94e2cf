"""What is measured, as values that add up: two workers' measures merge into what one would have measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.timeline import PHASES
from gateway.telemetry.histogram import Histograms

NS = 1_000_000_000

# The 14 bounds of OpenTelemetry's http.server.request.duration, 1, 2.5 and 150 ms around a 100 ms objective,
# and three below 1 ms because a tiny model answers in 0.1 to 0.3 ms.
BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

REQUEST_ROW = 0
"""Row of a series' `durations` with the whole request; the phases follow in the order of PHASES."""

SeriesKey = tuple[str, str, str, str]
"""(model, version, role, protocol); model and version are "" where the request reached none."""

BatchKey = tuple[str, str]
"""(model, version)."""


@dataclass(slots=True)
class RequestSeries:
    """Requests of one SeriesKey: how they ended, how long each phase took, what compute they used by tenant."""

    durations: Histograms
    codes: dict[str, int] = field(default_factory=dict)
    compute_ns: dict[str, int] = field(default_factory=dict)

    def merge(self, other: RequestSeries) -> None:
        """Add `other`; it is not modified."""
        self.durations.merge(other.durations)
        _add(self.codes, other.codes)
        _add(self.compute_ns, other.compute_ns)


@dataclass(slots=True)
class BatchSeries:
    """Executions of one version: rows per batch (row 0 of `rows`) and why batches closed."""

    rows: Histograms
    closed: dict[str, int] = field(default_factory=dict)

    def merge(self, other: BatchSeries) -> None:
        """Add `other`; it is not modified."""
        self.rows.merge(other.rows)
        _add(self.closed, other.closed)


@dataclass(slots=True)
class Measures:
    """Everything counted so far. Entries exist only where there was traffic."""

    buckets_s: tuple[float, ...] = BUCKETS_S
    requests: dict[SeriesKey, RequestSeries] = field(default_factory=dict)
    batches: dict[BatchKey, BatchSeries] = field(default_factory=dict)

    def request_series(self, key: SeriesKey) -> RequestSeries:
        """Return the series of `key`, made when first asked for."""
        series = self.requests.get(key)
        if series is None:
            bounds = [round(bound * NS) for bound in self.buckets_s]
            series = self.requests[key] = RequestSeries(Histograms(1 + len(PHASES), bounds, 1 / NS))
        return series

    def batch_series(self, key: BatchKey) -> BatchSeries:
        """Return the series of `key`, made when first asked for."""
        series = self.batches.get(key)
        if series is None:
            series = self.batches[key] = BatchSeries(Histograms(1, BATCH_ROWS))
        return series

    def merge(self, other: Measures) -> None:
        """Add `other`, made with the same buckets; it is not modified and shares nothing with this afterwards."""
        for key, requests in other.requests.items():
            self.request_series(key).merge(requests)
        for batch_key, batches in other.batches.items():
            self.batch_series(batch_key).merge(batches)

    def copy(self) -> Measures:
        """Return an independent copy, to be read in another thread."""
        copy = Measures(self.buckets_s)
        copy.merge(self)
        return copy


def _add(ours: dict[str, int], theirs: dict[str, int]) -> None:
    for name, count in theirs.items():
        ours[name] = ours.get(name, 0) + count
