"""Measures and gauges as Prometheus families. The only place where metric names and labels are made.

Label values come from fixed sets: names of known models and versions ("" for all unknown ones), roles, protocols,
codes, close reasons, and tenants (the names of configured keys). Never anything a client may choose freely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.core.timeline import PHASES
from gateway.telemetry.histogram import Histograms
from gateway.telemetry.measures import NS, REQUEST_ROW, Measures

Labels = tuple[str, ...]

_SERIES = ("model", "version", "role", "protocol")
_PHASE = ("model", "version", "role", "phase")
_VERSION = ("model", "version")


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where present values are pulled from at scrape. Each is called on the event loop.

    `queue_rows` and `ready` list (model, version, value).
    """

    queue_rows: Callable[[], Iterable[tuple[str, str, int]]] = tuple
    ready: Callable[[], Iterable[tuple[str, str, bool]]] = tuple
    requests_in_flight: Callable[[], int] = int
    body_bytes_in_flight: Callable[[], int] = int


@dataclass(frozen=True, slots=True)
class Present:
    """The gauges' values at one moment."""

    queue_rows: tuple[tuple[str, str, int], ...]
    ready: tuple[tuple[str, str, bool], ...]
    requests_in_flight: int
    body_bytes_in_flight: int

    @classmethod
    def read(cls, gauges: Gauges) -> Present:
        """Read all gauges now."""
        return cls(
            tuple(gauges.queue_rows()),
            tuple(gauges.ready()),
            gauges.requests_in_flight(),
            gauges.body_bytes_in_flight(),
        )


@dataclass(slots=True)
class HistogramFamily:
    """A histogram's name, and its series as (labels, histograms, row). `classic=False`: no buckets in the text forms.

    Not prometheus_client's family: its writer takes 12 us a sample, and a histogram has 22 samples.
    """

    name: str
    documentation: str
    labels: tuple[str, ...]
    classic: bool = True
    series: list[tuple[dict[str, str], Histograms, int]] = field(default_factory=list)

    def add(self, values: Labels, histograms: Histograms, row: int) -> None:
        """Add one row of `histograms` under label `values`, in the order of `labels`."""
        self.series.append((dict(zip(self.labels, values, strict=True)), histograms, row))


@dataclass(frozen=True, slots=True, eq=False)
class GatewayCollector:
    """The families of one snapshot: `collect` for prometheus_client, `histograms` for the writers of this room."""

    measures: Measures
    present: Present
    version: str
    phase_buckets: bool = True

    def collect(self) -> Iterator[Metric]:
        """Yield counters and gauges that have series, in a fixed order."""
        families = (*self._requests(), self._closed(), *self._gauges())
        yield from (family for family in families if family.samples)

    def histograms(self) -> list[HistogramFamily]:
        """Return the histograms that have series, in a fixed order."""
        return [family for family in (self._durations(), self._phases(), self._batch_rows()) if family.series]

    def _requests(self) -> Iterator[Metric]:
        total = CounterMetricFamily("gateway_requests", "Finished requests by outcome.", labels=(*_SERIES, "code"))
        compute = CounterMetricFamily(
            "gateway_compute_seconds",
            "Execution time by tenant: each batch's time divided by rows.",
            labels=("model", "version", "tenant"),
        )
        used: dict[tuple[str, str, str], int] = {}
        for key, series in sorted(self.measures.requests.items()):
            for code, count in sorted(series.codes.items()):
                total.add_metric((*key, code), count)
            for tenant, ns in series.compute_ns.items():
                owner = (key[0], key[1], tenant)
                used[owner] = used.get(owner, 0) + ns
        for owner, ns in used.items():
            compute.add_metric(owner, ns / NS)
        yield from (total, compute)

    def _durations(self) -> HistogramFamily:
        family = HistogramFamily(
            "gateway_request_duration_seconds",
            "From the first byte read to the answer handed to the transport. Requests whose client left are not in it.",
            _SERIES,
        )
        for key, series in sorted(self.measures.requests.items()):
            if series.durations.count(REQUEST_ROW):
                family.add(key, series.durations, REQUEST_ROW)
        return family

    def _phases(self) -> HistogramFamily:
        family = HistogramFamily(
            "gateway_phase_duration_seconds",
            "Time per phase: decode (read and parse), queue (wait for a batch), compute (execution), encode (answer).",
            _PHASE,
            self.phase_buckets,
        )
        merged: dict[Labels, Histograms] = {}
        for (model, version, role, _), series in sorted(self.measures.requests.items()):
            key = (model, version, role)
            if key not in merged:
                merged[key] = series.durations.empty()
            merged[key].merge(series.durations)
        for labels, histograms in merged.items():
            for row, phase in enumerate(PHASES, start=REQUEST_ROW + 1):
                if histograms.count(row):
                    family.add((*labels, phase), histograms, row)
        return family

    def _batch_rows(self) -> HistogramFamily:
        family = HistogramFamily("gateway_batch_rows", "Rows per executed batch.", _VERSION)
        for key, series in sorted(self.measures.batches.items()):
            family.add(key, series.rows, 0)
        return family

    def _closed(self) -> Metric:
        closed = CounterMetricFamily(
            "gateway_batch_close", "Executed batches by the reason that closed them.", labels=(*_VERSION, "reason")
        )
        for key, series in sorted(self.measures.batches.items()):
            for reason, count in sorted(series.closed.items()):
                closed.add_metric((*key, reason), count)
        return closed

    def _gauges(self) -> Iterator[Metric]:
        present = self.present
        queue = GaugeMetricFamily("gateway_queue_rows", "Rows waiting for a batch now.", labels=_VERSION)
        for model, version, waiting in present.queue_rows:
            queue.add_metric((model, version), waiting)
        ready = GaugeMetricFamily("gateway_model_ready", "1 while the version takes requests.", labels=_VERSION)
        for model, version, is_ready in present.ready:
            ready.add_metric((model, version), int(is_ready))
        build = GaugeMetricFamily("gateway_build_info", "Always 1; names the running release.", labels=("version",))
        build.add_metric((self.version,), 1)
        yield from (queue, ready, build)
        yield GaugeMetricFamily(
            "gateway_requests_in_flight", "Requests accepted and not finished.", value=present.requests_in_flight
        )
        yield GaugeMetricFamily(
            "gateway_body_bytes_in_flight", "Request body bytes held now.", value=present.body_bytes_in_flight
        )
