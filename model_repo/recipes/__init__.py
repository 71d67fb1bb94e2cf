"""What the repository can hold: one recipe a model, and what every recipe has in common.

Modules here import only the standard library at their top: a run that has nothing to build stays under a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .wheels import Wheels


class Unavailable(Exception):
    """A model cannot be built here, for a reason fit for one line (an operator library does not run, say)."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a recipe made: files by their path inside the model's folder, and facts for the model card's text."""

    files: Mapping[str, bytes]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one model. `packages` are the distributions whose version changes the result."""

    name: str
    make: Callable[[Wheels], Made]
    packages: tuple[str, ...] = ()
