"""Histograms: what falls into which bucket, against the plain definition."""

import bisect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.histogram import ABSENT, HIGHEST_INDEX, LOWEST_INDEX, Histograms, native_index

BOUNDS = (1_000_000, 5_000_000, 100_000_000)  # 1, 5 and 100 ms
durations = st.lists(st.integers(0, 300 * 10**9), max_size=50)


def of(values, rows=1):
    histograms = Histograms(rows, BOUNDS, 1e-9)
    histograms.observe(np.array(values, dtype=np.int64).reshape(rows, -1))
    return histograms


def test_bounds_are_inclusive_and_exported_exactly():
    histograms = of([999_999, 1_000_000, 1_000_001, 5_000_000, 10**12])
    assert list(histograms.cumulative(0)) == [(0.001, 2), (0.005, 4), (0.1, 4), (math.inf, 5)]
    assert histograms.count(0) == 5


def test_rows_are_kept_apart_and_absent_values_left_out():
    histograms = of([[1, ABSENT, 3], [ABSENT, ABSENT, ABSENT], [2_000_000, 2_000_000, ABSENT]], rows=3)
    assert [histograms.count(row) for row in range(3)] == [2, 0, 2]
    assert [histograms.total(row) for row in range(3)] == pytest.approx([4e-9, 0, 0.004])
    assert histograms.native_counts(1) == {}


@given(durations)
def test_classic_counts_equal_bisect(values):
    expected = [0, 0, 0, 0]
    for value in values:
        expected[bisect.bisect_left(BOUNDS, value)] += 1
    assert of(values).classic(0).tolist() == expected


@pytest.mark.parametrize(("bounds", "unit"), [(BOUNDS, 1e-9), ((1, 2, 4, 8), 1.0), ((7,), 0.001)])
def test_native_counts_equal_the_index_of_each_value(bounds, unit):
    """Every bucket's end, to both sides of it."""
    ends = [int(2 ** (index / 8) / unit) for index in range(-240, 97)]
    values = sorted({0, *(max(end + step, 0) for end in ends for step in (-1, 0, 1))})
    histograms = Histograms(1, bounds, unit)
    histograms.observe(np.array([values], np.int64))
    expected = {}
    for index in native_index(np.maximum(np.array(values), 1) * unit).tolist():
        expected[index] = expected.get(index, 0) + 1
    assert histograms.native_counts(0) == expected


@given(st.floats(2**-22, 2**11))
def test_native_bucket_holds_its_value(value):
    (index,) = native_index(np.array([value])).tolist()
    assert 2 ** ((index - 1) / 8) * (1 - 1e-12) < value <= 2 ** (index / 8) * (1 + 1e-12)


@pytest.mark.parametrize(("value", "index"), [(1.0, 0), (2.0, 8), (0.5, -8), (1.0000001, 1), (1e-30, LOWEST_INDEX)])
def test_native_bucket_of_powers_is_exact(value, index):
    assert native_index(np.array([value])).tolist() == [index]


def test_native_bucket_beyond_the_end_is_the_last():
    assert native_index(np.array([1e30])).tolist() == [HIGHEST_INDEX]


@given(durations, durations)
def test_merge_equals_having_seen_both(left, right):
    merged = of(left)
    merged.merge(of(right))
    both = of(left + right)
    assert list(merged.cumulative(0)) == list(both.cumulative(0))
    assert merged.native_counts(0) == both.native_counts(0)
    assert merged.total(0) == both.total(0)
    assert sum(both.native_counts(0).values()) == both.count(0)


def test_merge_refuses_other_bounds():
    with pytest.raises(ValueError, match="different bounds"):
        of([]).merge(Histograms(1, (1, 2), 1e-9))


def test_empty_has_the_shape_and_nothing_in_it():
    empty = of([1, 2]).empty()
    assert empty.count(0) == 0
    empty.merge(of([3]))
    assert empty.count(0) == 1
