"""The life of one version as a table. Pure; `lifecycle` drives it.

Rules: a version serves in READY only, and in READY alone may a load run beside it (a reload): the old one serves
until the new one is ready, and stays where the new one fails. Nothing leaves UNLOADING but being unloaded.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class ModelState(enum.StrEnum):
    """State of one version. The values are the protocol's words in the repository index."""

    UNKNOWN = ""  # on disk, never asked for
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class Event(enum.Enum):
    """What happens to a version."""

    LOAD = "load"  # a load begins; in READY: a reload beside it
    LOADED = "loaded"  # warm and built
    FAILED = "failed"
    UNLOAD = "unload"  # off the table, drain begins
    UNLOADED = "unloaded"  # drained and closed


TRANSITIONS: Mapping[ModelState, Mapping[Event, ModelState]] = MappingProxyType(
    {
        ModelState.UNKNOWN: {Event.LOAD: ModelState.LOADING},
        ModelState.UNAVAILABLE: {Event.LOAD: ModelState.LOADING},
        ModelState.LOADING: {Event.LOADED: ModelState.READY, Event.FAILED: ModelState.UNAVAILABLE},
        ModelState.READY: {
            Event.LOAD: ModelState.READY,
            Event.LOADED: ModelState.READY,
            Event.FAILED: ModelState.READY,
            Event.UNLOAD: ModelState.UNLOADING,
        },
        ModelState.UNLOADING: {Event.UNLOADED: ModelState.UNAVAILABLE},
    }
)


def after(state: ModelState, event: Event) -> ModelState:
    """Return the next state. Raises ValueError for an event the state does not know: a bug, not a condition."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise ValueError(f"event {event.value!r} is impossible in state {state.value or 'UNKNOWN'}")
    return following
