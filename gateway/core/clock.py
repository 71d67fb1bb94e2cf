"""The one clock of the data plane: monotonic nanoseconds, injected so that tests can drive it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns monotonic nanoseconds. Only differences mean anything."""

monotonic_ns: Clock = time.monotonic_ns

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
