"""Histograms as plain arrays: exact classic buckets and Prometheus native buckets (schema 3) from the same values.

Values are whole numbers (nanoseconds, rows). Several rows share one set of bounds, so that a group of requests
is sorted into all its phases by one numpy call; both kinds of buckets are sums of the same finer cells, so that each
value is looked up once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.core.timeline import ABSENT

Integers = npt.NDArray[np.int64]

SCHEMA = 3
PER_POWER = 2**SCHEMA
# Upper bound of native bucket i is 2**(i / 8). Durations of 2**-23 s (0.12 us) to 2**8 s; beyond = the end bucket.
LOWEST_INDEX = -23 * PER_POWER
HIGHEST_INDEX = 12 * PER_POWER
_WIDTH = HIGHEST_INDEX - LOWEST_INDEX + 1
# Prometheus finds the bucket of a float by its fraction in [0.5, 1) among these (model/histogram, getBound).
_FRACTIONS = np.array([0.5 * 2 ** (i / PER_POWER) for i in range(PER_POWER)])


def native_index(values: npt.NDArray[np.float64]) -> Integers:
    """Return each positive value's native bucket: the smallest i with value <= 2**(i / 8), clipped to the ends."""
    fractions, exponents = np.frexp(values)
    index = np.searchsorted(_FRACTIONS, fractions) + (exponents.astype(np.int64) - 1) * PER_POWER
    clipped: Integers = np.clip(index, LOWEST_INDEX, HIGHEST_INDEX)
    return clipped


class Cells(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The cells between all bounds of both kinds. Cell 0 holds ABSENT; `edges` are the inclusive upper ends.

    `classic` and `native` say which bucket each cell from 1 on belongs to (native: index less LOWEST_INDEX).
    """

    edges: Integers
    classic: Integers
    native: Integers


@functools.lru_cache(maxsize=32)
def cells_of(bounds: tuple[int, ...], unit: float) -> Cells:
    """Make the cells of classic `bounds` and of the native buckets of values in `unit`."""
    classic = np.array(bounds, np.int64)
    inner = np.unique(np.concatenate([classic, _native_ends(unit)]))
    # One value of each cell, the last being beyond all bounds; 0 has no place on a log scale: the lowest bucket.
    sample = np.append(inner, inner[-1] + 1)
    native = native_index(np.maximum(sample, 1) * unit) - LOWEST_INDEX
    return Cells(np.insert(inner, 0, ABSENT), np.searchsorted(classic, sample), native)


def _native_ends(unit: float) -> Integers:
    """The greatest whole number of each native bucket, as `native_index` rounds; buckets without one are left out."""
    indices = np.arange(LOWEST_INDEX, HIGHEST_INDEX)
    near = np.floor(2.0 ** (indices / PER_POWER) / unit).astype(np.int64)[:, None] + np.arange(-1, 3)
    inside = (near > 0) & (native_index(np.maximum(near, 1) * unit) <= indices[:, None])
    ends: Integers = np.where(inside, near, 0).max(axis=1)
    return ends[ends > 0]


class Histograms:
    """`rows` histograms over one set of classic bounds (ascending whole numbers; the last bucket is +Inf).

    `unit` turns a value into the exported unit (1e-9: ns to seconds). Only `observe` and `merge` modify it.
    """

    __slots__ = ("_cells", "_counts", "bounds", "rows", "sums", "unit")

    def __init__(self, rows: int, bounds: Sequence[int], unit: float = 1.0) -> None:
        self.rows = rows
        self.bounds = tuple(bounds)
        self.unit = unit
        self._cells = cells_of(self.bounds, unit)
        self._counts: Integers = np.zeros((rows, len(self._cells.edges) + 1), dtype=np.int64)
        self.sums: Integers = np.zeros(rows, dtype=np.int64)

    def observe(self, values: Integers) -> None:
        """Add values of shape [rows, n]; negative ones (ABSENT) are left out."""
        rows, width = self._counts.shape
        cells = self._cells.edges.searchsorted(values)
        cells += np.arange(0, rows * width, width)[:, None]
        self._counts += np.bincount(cells.ravel(), minlength=rows * width).reshape(rows, width)
        self.sums += np.maximum(values, 0).sum(axis=1)

    def merge(self, other: Histograms) -> None:
        """Add `other`, made with the same rows and bounds (else ValueError)."""
        if (other.rows, other.bounds, other.unit) != (self.rows, self.bounds, self.unit):
            raise ValueError("histograms with different bounds cannot be merged")
        self._counts += other._counts
        self.sums += other.sums

    def empty(self) -> Histograms:
        """Make a histogram of the same shape with nothing in it."""
        return Histograms(self.rows, self.bounds, self.unit)

    def classic(self, row: int) -> Integers:
        """Return how many values of `row` each classic bucket holds, the last one being +Inf."""
        return self._sums_by(self._cells.classic, row, len(self.bounds) + 1)

    def count(self, row: int) -> int:
        """Return how many values `row` has seen."""
        return int(self._counts[row, 1:].sum())

    def total(self, row: int) -> float:
        """Return the sum of `row` in the exported unit."""
        return int(self.sums[row]) * self.unit

    def cumulative(self, row: int) -> Iterator[tuple[float, int]]:
        """Yield (upper bound in the exported unit, values up to it), the last bound being infinite."""
        counts = np.cumsum(self.classic(row)).tolist()
        # Divide rather than multiply: 5e6 / 1e9 is the float 0.005, 5e6 * 1e-9 is not.
        per_unit = round(1 / self.unit)
        yield from zip([bound / per_unit for bound in self.bounds], counts[:-1], strict=True)
        yield float("inf"), counts[-1]

    def native_counts(self, row: int) -> dict[int, int]:
        """Return the native buckets that hold something: index to count, ascending."""
        counts = self._sums_by(self._cells.native, row, _WIDTH)
        (places,) = np.nonzero(counts)
        return {int(place) + LOWEST_INDEX: int(counts[place]) for place in places}

    def _sums_by(self, buckets: Integers, row: int, width: int) -> Integers:
        sums: Integers = np.zeros(width, np.int64)
        np.add.at(sums, buckets, self._counts[row, 1:])
        return sums
