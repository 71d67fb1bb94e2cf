"""The metrics page: a snapshot taken on the event loop, written in another thread in the form the scraper asks for."""

from __future__ import annotations

import asyncio

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gateway.telemetry.collector import GatewayCollector, Gauges, Present
from gateway.telemetry.metrics import MetricsSink
from gateway.telemetry.native import PROTOBUF_CONTENT_TYPE, wants_protobuf, write_protobuf
from gateway.telemetry.text import write_histograms


class MetricsPage:
    """Renders `/metrics`: protobuf with native histograms, OpenMetrics text, or text 0.0.4, by the Accept header.

    `phase_buckets=False` leaves the classic buckets of the phase histograms out of the text forms.
    """

    def __init__(self, sink: MetricsSink, gauges: Gauges, version: str, *, phase_buckets: bool = True) -> None:
        self._sink = sink
        self._gauges = gauges
        self._version = version
        self._phase_buckets = phase_buckets
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return (body, content type). Call it on the loop the sink is used on."""
        measures = self._sink.measures().copy()
        snapshot = GatewayCollector(measures, Present.read(self._gauges), self._version, self._phase_buckets)
        # Writing takes 0.3 s with a thousand models in use, which must not stop the loop.
        return await asyncio.to_thread(self._write, snapshot, accept)

    def _write(self, snapshot: GatewayCollector, accept: str) -> tuple[bytes, str]:
        registry = CollectorRegistry()
        registry.register(snapshot)
        registry.register(self._process)
        histograms = snapshot.histograms()
        if wants_protobuf(accept):
            return write_protobuf(registry.collect(), histograms), PROTOBUF_CONTENT_TYPE
        encoder, content_type = choose_encoder(accept)
        return write_histograms(histograms) + encoder(registry), content_type
