"""The sink: records in, what a scraper reads out (parsed by prometheus_client's own parsers)."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.core.errors import Code
from gateway.core.timeline import Timeline
from gateway.telemetry.collector import Gauges
from gateway.telemetry.exposition import MetricsPage
from gateway.telemetry.measures import BUCKETS_S, Measures
from gateway.telemetry.metrics import MetricsSink


@pytest.fixture
def sink():
    return MetricsSink()


async def scrape(sink, gauges=None, **options):
    body, content_type = await MetricsPage(sink, gauges or Gauges(), "1.2.3", **options).scrape("")
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples[(name, *sorted(labels.items()))]


def names(samples):
    return {key[0] for key in samples}


async def test_requests_are_counted_by_outcome(sink, request_record):
    for _ in range(300):  # more than are counted at once
        sink.observe([request_record()])
    sink.observe([request_record(code=Code.DEADLINE)])
    sink.observe([request_record(protocol="grpc", version="2", role="canary")])
    samples = await scrape(sink)
    base = {"model": "m", "version": "1", "role": "stable", "protocol": "http"}
    assert value(samples, "gateway_requests_total", **base, code="OK") == 300
    assert value(samples, "gateway_requests_total", **base, code="DEADLINE") == 1
    canary = {"model": "m", "version": "2", "role": "canary", "protocol": "grpc"}
    assert value(samples, "gateway_requests_total", **canary, code="OK") == 1
    assert value(samples, "gateway_request_duration_seconds_count", **base) == 301
    assert value(samples, "gateway_request_duration_seconds_sum", **base) == pytest.approx(301 * 0.020)


async def test_durations_fall_into_the_promised_buckets(sink, request_record):
    sink.observe([request_record()])
    samples = await scrape(sink)
    base = {"model": "m", "version": "1", "role": "stable", "protocol": "http"}
    counts = {
        bound: value(samples, "gateway_request_duration_seconds_bucket", **base, le=str(bound)) for bound in BUCKETS_S
    }
    assert counts == {bound: float(bound >= 0.02) for bound in BUCKETS_S}
    assert {0.001, 0.0025, 0.1, 0.15, 10.0} <= set(BUCKETS_S)


async def test_phases_add_up_over_protocols(sink, request_record):
    sink.observe([request_record()])
    sink.observe([request_record(protocol="grpc")])
    samples = await scrape(sink)
    base = {"model": "m", "version": "1", "role": "stable"}
    sums = {
        phase: value(samples, "gateway_phase_duration_seconds_sum", **base, phase=phase)
        for phase in ("decode", "queue", "compute", "encode")
    }
    assert sums == pytest.approx({"decode": 0.002, "queue": 0.010, "compute": 0.020, "encode": 0.004})


async def test_steps_not_reached_are_not_counted(sink, request_record):
    sink.observe(
        [request_record(code=Code.INVALID_ARGUMENT, model="", version="", times=Timeline(received=10, answered=40))]
    )
    sink.observe([request_record(code=Code.CANCELLED, model="gone", times=Timeline(received=10, decoded=20))])
    samples = await scrape(sink)
    refused = {"model": "", "version": "", "role": "stable", "protocol": "http"}
    assert value(samples, "gateway_requests_total", **refused, code="INVALID_ARGUMENT") == 1
    assert value(samples, "gateway_request_duration_seconds_count", **refused) == 1
    gone = {"model": "gone", "version": "1", "role": "stable"}
    assert value(samples, "gateway_requests_total", **gone, protocol="http", code="CANCELLED") == 1
    assert ("gateway_request_duration_seconds_count", *sorted({**gone, "protocol": "http"}.items())) not in samples
    phases = {dict(key[1:])["phase"] for key in samples if key[0] == "gateway_phase_duration_seconds_count"}
    assert phases == {"decode"}


async def test_phase_buckets_can_be_left_out(sink, request_record):
    sink.observe([request_record()])
    samples = await scrape(sink, phase_buckets=False)
    bounds = {dict(key[1:])["le"] for key in samples if key[0] == "gateway_phase_duration_seconds_bucket"}
    assert bounds == {"+Inf"}


async def test_batches_and_close_reasons(sink, batch_record):
    for _ in range(200):
        sink.observe_batch(batch_record(rows=4))
    sink.observe_batch(batch_record(rows=8, reason="full"))
    samples = await scrape(sink)
    base = {"model": "m", "version": "1"}
    assert value(samples, "gateway_batch_rows_count", **base) == 201
    assert value(samples, "gateway_batch_rows_sum", **base) == 808
    assert value(samples, "gateway_batch_rows_bucket", **base, le="4.0") == 200
    assert value(samples, "gateway_batch_close_total", **base, reason="idle") == 200
    assert value(samples, "gateway_batch_close_total", **base, reason="full") == 1


async def test_compute_time_is_summed_by_tenant(sink, request_record):
    sink.observe([request_record(compute_share_ns=2_000_000_000, principal="team-a")])
    sink.observe([request_record(compute_share_ns=1_000_000_000, principal="team-a", protocol="grpc")])
    sink.observe([request_record(compute_share_ns=500_000_000)])
    samples = await scrape(sink)
    name = "gateway_compute_seconds_total"
    assert value(samples, name, model="m", version="1", tenant="team-a") == 3.0
    assert value(samples, name, model="m", version="1", tenant="") == 0.5


async def test_gauges_are_pulled_at_scrape(sink):
    gauges = Gauges(
        queue_rows=lambda: [("m", "1", 7)],
        ready=lambda: [("m", "1", True), ("m", "2", False)],
        requests_in_flight=lambda: 3,
        body_bytes_in_flight=lambda: 4096,
    )
    samples = await scrape(sink, gauges)
    assert value(samples, "gateway_queue_rows", model="m", version="1") == 7
    assert value(samples, "gateway_model_ready", model="m", version="1") == 1
    assert value(samples, "gateway_model_ready", model="m", version="2") == 0
    assert value(samples, "gateway_requests_in_flight") == 3
    assert value(samples, "gateway_body_bytes_in_flight") == 4096
    assert value(samples, "gateway_build_info", version="1.2.3") == 1


async def test_without_traffic_only_the_process_speaks(sink):
    found = names(await scrape(sink))
    assert {name for name in found if name.startswith("gateway_")} == {
        "gateway_build_info",
        "gateway_requests_in_flight",
        "gateway_body_bytes_in_flight",
    }
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections_total"} <= found


async def test_openmetrics_is_served_on_request(sink, request_record, batch_record):
    sink.observe([request_record()])
    sink.observe_batch(batch_record())
    page = MetricsPage(sink, Gauges(), "1.2.3")
    body, content_type = await page.scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    assert families["gateway_requests"].type == "counter"
    assert families["gateway_request_duration_seconds"].type == "histogram"
    assert families["gateway_batch_rows"].type == "histogram"


async def test_records_held_back_are_fetched_before_a_scrape(sink, request_record):
    sink.before_read = lambda: sink.observe([request_record()])
    samples = await scrape(sink)
    labels = {"model": "m", "version": "1", "role": "stable", "protocol": "http"}
    assert value(samples, "gateway_requests_total", **labels, code="OK") == 1


async def test_group_of_mixed_records_is_counted_by_series(sink, request_record):
    sink.observe(
        [request_record(), request_record(protocol="grpc"), request_record(), request_record(code=Code.BACKEND)] * 50
    )
    series = sink.measures().requests
    assert series["m", "1", "stable", "http"].codes == {"OK": 100, "BACKEND": 50}
    assert series["m", "1", "stable", "grpc"].codes == {"OK": 50}
    assert series["m", "1", "stable", "http"].durations.count(0) == 150


async def test_scrape_does_not_reset_or_change_counts(sink, request_record):
    sink.observe([request_record()])
    first = await scrape(sink)
    second = await scrape(sink)
    for samples in (first, second):
        assert (
            value(
                samples,
                "gateway_request_duration_seconds_count",
                model="m",
                version="1",
                role="stable",
                protocol="http",
            )
            == 1
        )


def test_two_workers_merge_into_one(request_record, batch_record):
    workers = [MetricsSink(), MetricsSink()]
    for worker in workers:
        worker.observe([request_record(compute_share_ns=5, principal="a")])
        worker.observe_batch(batch_record())
    workers[1].observe([request_record(model="other", code=Code.BACKEND)])
    total = Measures()
    for worker in workers:
        total.merge(worker.measures())
    series = total.requests["m", "1", "stable", "http"]
    assert series.codes == {"OK": 2}
    assert series.compute_ns == {"a": 10}
    assert series.durations.count(0) == 2
    assert total.requests["other", "1", "stable", "http"].codes == {"BACKEND": 1}
    assert total.batches["m", "1"].closed == {"idle": 2}
    assert workers[0].measures().requests["m", "1", "stable", "http"].codes == {"OK": 1}


def test_own_buckets_are_used(request_record):
    sink = MetricsSink(buckets_s=(0.01, 0.05))
    sink.observe([request_record()])
    histograms = sink.measures().requests["m", "1", "stable", "http"].durations
    assert list(histograms.cumulative(0)) == [(0.01, 0), (0.05, 1), (float("inf"), 1)]
