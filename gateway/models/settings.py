"""What an operator may choose about loading models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelsSettings:
    """`load_threads` bounds how many versions load at once. `warm_up_budget_s` bounds one version's warm-up.

    `warm_up_call_timeout_s`: a single warm-up call that takes longer makes the version UNAVAILABLE.
    `drain_timeout_s`: how long a version that is replaced or unloaded may finish what it has.
    """

    load_threads: int = 2
    warm_up_budget_s: float = 5.0
    warm_up_call_timeout_s: float = 60.0
    drain_timeout_s: float = 30.0
