"""What a batch costs, learned per version: a line through measured batch times. Pure arithmetic.

Batching pays only where the fixed part of a call is large against a row (a microsecond model, a GPU); on CPU
a transformer costs the same per row at any size. So it is measured, never configured.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

_REFIT_EVERY = 64  # batches between fits: 64 x 0.4 us of bookkeeping against one 5 us fit
_COPY_NS_PER_BYTE = 1 / 15  # 15 to 20 GB/s measured
_OWN_NS = 90_000  # what the gateway itself spends on one more batch, scheduling and cold caches included
_DEAR_CALL_NS = 400_000
_LONGEST_WAIT_NS = 2_000_000
_SMOOTHING = 0.125  # weight of the newest sample in its size class


class CostModel(msgspec.Struct, gc=False):
    """Measured time of a batch: fixed + per_row * rows, in ns. Fitted on warm-up, then followed on line."""

    fixed_ns: float = 0.0
    per_row_ns: float = 0.0

    @classmethod
    def fit(cls, samples: Sequence[tuple[float, float]]) -> CostModel:
        """Least squares over (rows, ns), both parts kept non-negative; a zero model where that tells nothing.

        Samples of one size tell nothing: they do not say how the time divides into call and rows.
        """
        count = len(samples)
        if count == 0:
            return cls()
        mean_rows = sum(rows for rows, _ in samples) / count
        mean_ns = sum(ns for _, ns in samples) / count
        spread = sum((rows - mean_rows) ** 2 for rows, _ in samples)
        if spread == 0:
            return cls()
        slope = sum((rows - mean_rows) * (ns - mean_ns) for rows, ns in samples) / spread
        slope = max(slope, 0.0)
        return cls(max(mean_ns - slope * mean_rows, 0.0), slope)

    def predict(self, rows: int) -> float:
        """Expected ns of a batch of `rows`."""
        return self.fixed_ns + self.per_row_ns * rows

    def worth_sharing(self, rows: int, slots: int) -> bool:
        """Tell whether dividing `rows` among idle `slots` ends sooner for little: the share's own rows must
        cost more than the fixed part paid again. On 2 cores two one-thread batches of 8 gave 231 rows/s where
        one of 16 gave 101 (MiniLM), while for a 15 us model dividing only adds calls."""
        return self.per_row_ns * (rows / slots) > self.fixed_ns

    def worth_waiting_ns(self) -> float:
        """Longest wait for company that is known to be coming; 0 for models whose call itself costs little.

        Taking the first of eight clients that return together leaves the other seven to a batch of their own:
        244 rows/s instead of 285 for a transformer of 3 ms a call and 6 ms a row.
        """
        return min(self.fixed_ns / 2, _LONGEST_WAIT_NS) if self.fixed_ns >= _DEAR_CALL_NS else 0.0

    def worth_copying(self, row_bytes: int) -> bool:
        """Tell whether merging pays at all: it costs a copy of the row and saves the fixed part of a call, the
        model's and the gateway's own. 602 KB into a 7 us model: 307 us a request merged, 355 alone (measured); so
        it stops paying at about 1.5 MB a row, earlier than that for nobody."""
        if self.fixed_ns == self.per_row_ns == 0:
            return True  # unknown: merging is how it becomes known, single rows alone would never tell
        return row_bytes * _COPY_NS_PER_BYTE < self.fixed_ns + _OWN_NS


class CostTracker:
    """Follows the cost on line: an exponential average per power-of-two size class, refitted now and then."""

    __slots__ = ("_classes", "_since_fit", "model")

    def __init__(self, samples: Sequence[tuple[float, float]] = ()) -> None:
        self._classes: dict[int, tuple[float, float]] = {int(r).bit_length(): (r, ns) for r, ns in samples}
        self._since_fit = 0
        self.model = CostModel.fit(samples)

    def observe(self, rows: int, ns: int) -> None:
        """Learn that a batch of `rows` took `ns`."""
        size_class = rows.bit_length()
        known = self._classes.get(size_class)
        if known is None:
            self._classes[size_class] = (rows, ns)
        else:
            mean_rows, mean_ns = known
            self._classes[size_class] = (
                mean_rows + _SMOOTHING * (rows - mean_rows),
                mean_ns + _SMOOTHING * (ns - mean_ns),
            )
        self._since_fit += 1
        if self._since_fit >= _REFIT_EVERY:
            self._since_fit = 0
            self.model = CostModel.fit(tuple(self._classes.values()))
