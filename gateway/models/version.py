"""A loaded version and the stack that serves it: what the lifecycle hands to the data plane and gets back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.core.types import ServableVersion
from gateway.models.config import ModelConfig
from runtimes.base import Instance, ModelFacts


class VersionStack(Protocol):
    """Serves one loaded version. Made by the injected `build`, drained by the lifecycle."""

    servable: ServableVersion

    async def drain(self, timeout_s: float) -> object:
        """Return when no call is in flight, at the latest after `timeout_s`. Nothing new is routed here any more."""
        ...


@dataclass(slots=True, eq=False)
class LoadedVersion:
    """One version in memory, warm. `stack` is set once, right after it is built; nothing else changes.

    `facts.signature` is what clients see: config.pbtxt's dims and choice of outputs, the batch dimension first.
    `costs` are (rows, best ns) from warm-up. `sha256` is the model file's ("" where the artefact is a folder).
    """

    model: str
    version: str
    config: ModelConfig
    facts: ModelFacts
    instance: Instance
    costs: tuple[tuple[int, int], ...] = ()
    sha256: str = ""
    size_bytes: int = 0
    load_ns: int = 0
    warm_up_ns: int = 0
    warm_up_note: str = ""
    fingerprint: tuple[tuple[str, int, int], ...] = ()
    stack: VersionStack = field(init=False)


Build = Callable[[LoadedVersion], VersionStack]
