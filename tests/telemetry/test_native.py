"""The protobuf exposition, read back by protobuf itself with the schema Prometheus publishes."""

import math
from types import SimpleNamespace

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.decoder import _DecodeVarint32
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.collector import Gauges
from gateway.telemetry.exposition import MetricsPage
from gateway.telemetry.metrics import MetricsSink
from gateway.telemetry.native import PROTOBUF_CONTENT_TYPE, spans_and_deltas, wants_protobuf

PROMETHEUS_ACCEPT = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
F = descriptor_pb2.FieldDescriptorProto
MESSAGES = {
    "LabelPair": [("name", 1, F.TYPE_STRING), ("value", 2, F.TYPE_STRING)],
    "Number": [("value", 1, F.TYPE_DOUBLE)],
    "Bucket": [("cumulative_count", 1, F.TYPE_UINT64), ("upper_bound", 2, F.TYPE_DOUBLE)],
    "BucketSpan": [("offset", 1, F.TYPE_SINT32), ("length", 2, F.TYPE_UINT32)],
    "Histogram": [
        ("sample_count", 1, F.TYPE_UINT64),
        ("sample_sum", 2, F.TYPE_DOUBLE),
        ("bucket", 3, "*Bucket"),
        ("schema", 5, F.TYPE_SINT32),
        ("zero_threshold", 6, F.TYPE_DOUBLE),
        ("zero_count", 7, F.TYPE_UINT64),
        ("positive_span", 12, "*BucketSpan"),
        ("positive_delta", 13, "*sint64"),
    ],
    "Metric": [
        ("label", 1, "*LabelPair"),
        ("gauge", 2, "Number"),
        ("counter", 3, "Number"),
        ("untyped", 5, "Number"),
        ("histogram", 7, "Histogram"),
    ],
    "MetricFamily": [
        ("name", 1, F.TYPE_STRING),
        ("help", 2, F.TYPE_STRING),
        ("type", 3, F.TYPE_INT32),
        ("metric", 4, "*Metric"),
    ],
}


@pytest.fixture(scope="module")
def family_class():
    """Build io.prometheus.client.MetricFamily from client_model's metrics.proto (the fields in use)."""
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="t", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            repeated = isinstance(kind, str) and kind.startswith("*")
            added = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind == "*sint64":
                added.type = F.TYPE_SINT64
                added.options.packed = True
            elif isinstance(kind, str):
                added.type, added.type_name = F.TYPE_MESSAGE, ".t." + kind.lstrip("*")
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.MetricFamily"))


@pytest.fixture
def read(family_class):
    def parse(body):
        families, position = {}, 0
        while position < len(body):
            size, position = _DecodeVarint32(body, position)
            family = family_class.FromString(body[position : position + size])
            families[family.name] = family
            position += size
        return families

    return parse


def native_buckets(histogram):
    """Read spans and deltas as Prometheus does."""
    deltas = iter(histogram.positive_delta)
    counts, index, count = {}, 0, 0
    for span in histogram.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            counts[index] = count
            index += 1
    return counts


async def test_prometheus_gets_native_and_classic_buckets(read, request_record, batch_record):
    sink = MetricsSink()
    for _ in range(3):
        sink.observe([request_record()])  # 20 ms
    sink.observe_batch(batch_record())
    page = MetricsPage(sink, Gauges(queue_rows=lambda: [("m", "1", 2)]), "1.2.3")
    body, content_type = await page.scrape(PROMETHEUS_ACCEPT)
    assert content_type == PROTOBUF_CONTENT_TYPE
    families = read(body)
    family = families["gateway_request_duration_seconds"]
    assert family.type == 4
    (metric,) = family.metric
    assert {pair.name: pair.value for pair in metric.label} == {
        "model": "m",
        "version": "1",
        "role": "stable",
        "protocol": "http",
    }
    histogram = metric.histogram
    assert (histogram.schema, histogram.sample_count, histogram.zero_count) == (3, 3, 0)
    assert histogram.sample_sum == pytest.approx(0.06)
    ((index, count),) = native_buckets(histogram).items()
    assert count == 3
    assert 2 ** ((index - 1) / 8) < 0.02 <= 2 ** (index / 8)
    assert [(b.upper_bound, b.cumulative_count) for b in histogram.bucket if b.upper_bound in (0.01, 0.025)] == [
        (0.01, 0),
        (0.025, 3),
    ]
    assert histogram.bucket[-1].upper_bound == math.inf
    assert families["gateway_requests_total"].metric[0].counter.value == 3
    assert families["gateway_queue_rows"].metric[0].gauge.value == 2
    assert families["process_resident_memory_bytes"].metric[0].gauge.value > 0


async def test_phases_without_classic_buckets_still_have_native_ones(read, request_record):
    sink = MetricsSink()
    sink.observe([request_record()])
    body, _ = await MetricsPage(sink, Gauges(), "1", phase_buckets=False).scrape(PROMETHEUS_ACCEPT)
    for metric in read(body)["gateway_phase_duration_seconds"].metric:
        assert len(metric.histogram.bucket) == 0
        assert sum(native_buckets(metric.histogram).values()) == 1


@given(st.dictionaries(st.integers(-184, 96), st.integers(1, 10**9)))
def test_spans_and_deltas_restore_the_counts(counts):
    counts = dict(sorted(counts.items()))
    spans, deltas = spans_and_deltas(counts)

    wire = SimpleNamespace(
        positive_delta=deltas,
        positive_span=[SimpleNamespace(offset=offset, length=length) for offset, length in spans],
    )
    assert native_buckets(wire) == counts
    assert all(offset > 0 for offset, _ in spans[1:])


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS_ACCEPT, True),
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4," + PROMETHEUS_ACCEPT, False),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", False),
    ],
)
def test_protobuf_only_when_it_is_preferred(accept, expected):
    assert wants_protobuf(accept) is expected
