"""Prometheus' protobuf exposition, the only form that carries native histograms (io.prometheus.client.MetricFamily).

Written by hand because the message types are not published as a Python package and own generated ones would be
the only user of a generator: five message types, four wire forms (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from gateway.telemetry.collector import HistogramFamily
from gateway.telemetry.histogram import SCHEMA, Histograms

PROTOBUF_CONTENT_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

_TYPES = {"counter": 0, "gauge": 1, "untyped": 3}
_HISTOGRAM = 4
_VALUE_FIELD = {"counter": 3, "gauge": 2, "untyped": 5}
# A native histogram tells the widest zero bucket it has; ours puts 0 into the lowest positive bucket.
_ZERO_THRESHOLD = 2.0**-128


def wants_protobuf(accept: str) -> bool:
    """Tell whether the scraper asks for the protobuf form before any other."""
    first = accept.split(",", 1)[0]
    kind, *parameters = (part.strip().lower() for part in first.split(";"))
    return (
        kind == "application/vnd.google.protobuf"
        and "proto=io.prometheus.client.metricfamily" in parameters
        and "encoding=delimited" in parameters
    )


def write_protobuf(families: Iterable[Metric], histograms: Iterable[HistogramFamily]) -> bytes:
    """Write length-delimited MetricFamily messages; histograms carry classic and native buckets."""
    messages = [*map(_family, families), *map(_histogram_family, histograms)]
    return b"".join(_varint(len(message)) + message for message in messages)


def _family(family: Metric) -> bytes:
    kind = family.type if family.type in _TYPES else "untyped"
    name = family.name + "_total" if kind == "counter" else family.name
    return (
        _text(1, name)
        + _text(2, family.documentation)
        + _number(3, _TYPES[kind])
        + b"".join(
            _message(4, _labels(sample.labels) + _message(_VALUE_FIELD[kind], _double(1, sample.value)))
            for sample in family.samples
            if not _is_created(sample)
        )
    )


def _histogram_family(family: HistogramFamily) -> bytes:
    return (
        _text(1, family.name)
        + _text(2, family.documentation)
        + _number(3, _HISTOGRAM)
        + b"".join(
            _message(4, _labels(labels) + _message(7, _histogram(histograms, row, classic=family.classic)))
            for labels, histograms, row in family.series
        )
    )


def _is_created(sample: Sample) -> bool:
    return sample.name.endswith("_created")


def _histogram(histograms: Histograms, row: int, *, classic: bool) -> bytes:
    out = _number(1, histograms.count(row)) + _double(2, histograms.total(row))
    if classic:
        out += b"".join(
            _message(3, _number(1, count) + _double(2, bound)) for bound, count in histograms.cumulative(row)
        )
    out += _number(5, _zigzag(SCHEMA)) + _double(6, _ZERO_THRESHOLD)
    spans, deltas = spans_and_deltas(histograms.native_counts(row))
    for offset, length in spans:
        out += _message(12, _number(1, _zigzag(offset)) + _number(2, length))
    return out + _message(13, b"".join(_varint(_zigzag(delta)) for delta in deltas))


def spans_and_deltas(counts: Mapping[int, int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Turn ascending bucket counts into (gap before, length) spans and each bucket's change from the one before."""
    spans: list[tuple[int, int]] = []
    deltas: list[int] = []
    following = 0  # index after the last bucket written; the first span's offset counts from 0
    before = 0
    for index, count in counts.items():
        if spans and index == following:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((index - following, 1))
        deltas.append(count - before)
        before, following = count, index + 1
    return spans, deltas


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _labels(labels: Mapping[str, str]) -> bytes:
    return b"".join(_message(1, _text(1, name) + _text(2, value)) for name, value in labels.items())
