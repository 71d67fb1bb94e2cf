"""Histogram lines, read back by prometheus_client's parser."""

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.collector import HistogramFamily
from gateway.telemetry.histogram import Histograms
from gateway.telemetry.text import write_histograms


def test_labels_of_any_text_survive():
    histograms = Histograms(1, (1, 2))
    histograms.observe(np.array([[1, 5]], dtype=np.int64))
    family = HistogramFamily("rows", "Rows.", ("model", "tenant"))
    odd = 'a"b\\c\nd'
    family.add((odd, ""), histograms, 0)
    (read,) = text_string_to_metric_families(write_histograms([family]).decode())
    assert (read.name, read.type, read.documentation) == ("rows", "histogram", "Rows.")
    assert [(sample.name, sample.labels.pop("le", None), sample.value) for sample in read.samples] == [
        ("rows_bucket", "1.0", 1),
        ("rows_bucket", "2.0", 1),
        ("rows_bucket", "+Inf", 2),
        ("rows_count", None, 2),
        ("rows_sum", None, 6),
    ]
    assert all(sample.labels == {"model": odd, "tenant": ""} for sample in read.samples)


def test_no_families_are_no_text():
    assert write_histograms([]) == b""
