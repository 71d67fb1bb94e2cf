"""Histograms as plain arrays: exact classic buckets and Prometheus native buckets (schema 3) from the same values.

Values are whole numbers (nanoseconds, rows). Several rows share one set of bounds, so that a group of requests
is sorted into all its phases by one numpy call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

SCHEMA = 3
PER_POWER = 2**SCHEMA
# Upper bound of native bucket i is 2**(i / 8). Durations of 2**-23 s (0.12 us) to 2**8 s; beyond = the end bucket.
LOWEST_INDEX = -23 * PER_POWER
HIGHEST_INDEX = 12 * PER_POWER
_WIDTH = HIGHEST_INDEX - LOWEST_INDEX + 1
# Prometheus finds the bucket of a float by its fraction in [0.5, 1) among these (model/histogram, getBound).
_FRACTIONS = np.array([0.5 * 2 ** (i / PER_POWER) for i in range(PER_POWER)])

ABSENT = -1
"""A value that is not counted, in the rows of `Histograms.observe`."""


def native_index(values: npt.NDArray[np.float64]) -> Integers:
    """Return each positive value's native bucket: the smallest i with value <= 2**(i / 8), clipped to the ends."""
    fractions, exponents = np.frexp(values)
    index = np.searchsorted(_FRACTIONS, fractions) + (exponents.astype(np.int64) - 1) * PER_POWER
    clipped: Integers = np.clip(index, LOWEST_INDEX, HIGHEST_INDEX)
    return clipped


class Histograms:
    """`rows` histograms over one set of classic bounds (ascending whole numbers; the last bucket is +Inf).

    `unit` turns a value into the exported unit (1e-9: ns to seconds). Only `observe` and `merge` modify it.
    """

    __slots__ = ("_bounds", "bounds", "classic", "native", "rows", "sums", "unit")

    def __init__(self, rows: int, bounds: Sequence[int], unit: float = 1.0) -> None:
        self.rows = rows
        self.bounds = tuple(bounds)
        self.unit = unit
        self._bounds = np.array(self.bounds, dtype=np.int64)
        self.classic: Integers = np.zeros((rows, len(self.bounds) + 1), dtype=np.int64)
        self.native: Integers = np.zeros((rows, _WIDTH), dtype=np.int64)
        self.sums: Integers = np.zeros(rows, dtype=np.int64)

    def observe(self, values: Integers) -> None:
        """Add values of shape [rows, n]; negative ones (ABSENT) are left out."""
        here = values >= 0
        row = np.arange(self.rows)[:, None]
        # Values that are absent land in one more column, which is cut off below.
        width = self.classic.shape[1] + 1
        index = np.where(here, np.searchsorted(self._bounds, values), width - 1) + row * width
        self.classic += np.bincount(index.ravel(), minlength=self.rows * width).reshape(self.rows, width)[:, :-1]
        width = _WIDTH + 1
        # 0 has no place on a log scale; it counts in the lowest bucket.
        index = native_index(np.maximum(values, 1) * self.unit) - LOWEST_INDEX
        index = np.where(here, index, width - 1) + row * width
        self.native += np.bincount(index.ravel(), minlength=self.rows * width).reshape(self.rows, width)[:, :-1]
        self.sums += np.where(here, values, 0).sum(axis=1)

    def merge(self, other: Histograms) -> None:
        """Add `other`, made with the same rows and bounds (else ValueError)."""
        if (other.rows, other.bounds, other.unit) != (self.rows, self.bounds, self.unit):
            raise ValueError("histograms with different bounds cannot be merged")
        self.classic += other.classic
        self.native += other.native
        self.sums += other.sums

    def empty(self) -> Histograms:
        """Make a histogram of the same shape with nothing in it."""
        return Histograms(self.rows, self.bounds, self.unit)

    def count(self, row: int) -> int:
        """Return how many values `row` has seen."""
        return int(self.classic[row].sum())

    def total(self, row: int) -> float:
        """Return the sum of `row` in the exported unit."""
        return int(self.sums[row]) * self.unit

    def cumulative(self, row: int) -> Iterator[tuple[float, int]]:
        """Yield (upper bound in the exported unit, values up to it), the last bound being infinite."""
        counts = np.cumsum(self.classic[row]).tolist()
        # Divide rather than multiply: 5e6 / 1e9 is the float 0.005, 5e6 * 1e-9 is not.
        per_unit = round(1 / self.unit)
        yield from zip([bound / per_unit for bound in self.bounds], counts[:-1], strict=True)
        yield float("inf"), counts[-1]

    def native_counts(self, row: int) -> dict[int, int]:
        """Return the native buckets that hold something: index to count, ascending."""
        (places,) = np.nonzero(self.native[row])
        return {int(place) + LOWEST_INDEX: int(self.native[row, place]) for place in places}
