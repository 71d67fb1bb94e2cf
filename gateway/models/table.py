"""What is known of every model and version right now, and the answers read from it. Only the event loop touches it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.errors import Code, GatewayError
from gateway.core.types import IndexEntry, ModelMetadata
from gateway.models.config import Proto
from gateway.models.metadata import metadata_of
from gateway.models.repository import ModelEntry
from gateway.models.states import Event, ModelState, after
from gateway.models.version import LoadedVersion

_MOVING = (ModelState.LOADING, ModelState.UNLOADING)
_UNKNOWN_MODEL = "Request for unknown model: "


@dataclass(slots=True)
class Slot:
    """One version's place in the table. `loaded` is what serves: set in READY and, until drained, in UNLOADING.

    `reason` says why it is not READY, or what became of the last reload.
    """

    model: str
    version: str
    state: ModelState = ModelState.UNKNOWN
    reason: str = ""
    loaded: LoadedVersion | None = None

    def apply(self, event: Event, reason: str = "") -> None:
        """Step to the next state. Raises ValueError for an impossible event."""
        self.state = after(self.state, event)
        self.reason = reason


@dataclass(slots=True)
class KnownModel:
    """A model of the repository: its folder as last read, and a slot for each version known of."""

    entry: ModelEntry
    slots: dict[str, Slot] = field(default_factory=dict)

    def slot(self, version: str) -> Slot:
        """Return the slot of `version`, made where there is none."""
        return self.slots.setdefault(version, Slot(self.entry.name, version))

    def reread(self, entry: ModelEntry) -> None:
        """Follow the folder: versions that appeared get a slot, those that are gone and serve nothing lose theirs."""
        self.entry = entry
        for version in entry.versions or ("",):
            self.slot(version)
        for version, slot in list(self.slots.items()):
            if version not in (entry.versions or ("",)) and slot.loaded is None and slot.state not in _MOVING:
                del self.slots[version]


class ModelTable:
    """Read-only views for the data plane and the doors. `ModelManager` is the one that changes it."""

    def __init__(self) -> None:
        self._models: dict[str, KnownModel] = {}

    def knows(self, name: str) -> bool:
        """Tell whether the model exists in the repository, served or not."""
        return name in self._models

    def ready(self) -> list[LoadedVersion]:
        """List what serves now."""
        slots = [slot for model in self._models.values() for slot in model.slots.values()]
        return [slot.loaded for slot in slots if slot.state is ModelState.READY and slot.loaded is not None]

    def versions(self, name: str) -> dict[str, str]:
        """Map the versions known of `name` to their states, lowest first; {} for an unknown model."""
        model = self._models.get(name)
        return {} if model is None else {slot.version: slot.state.value for slot in _ordered(model) if slot.version}

    def index(self) -> list[IndexEntry]:
        """List every version on disk or in memory. Versions outside the version policy have state "".

        A model whose folder holds no version at all has one line with version "" and the reason.
        """
        return [
            IndexEntry(slot.model, slot.version, slot.state.value, slot.reason)
            for _, model in sorted(self._models.items())
            for slot in _ordered(model)
        ]

    def get(self, name: str, version: str = "") -> LoadedVersion | None:
        """Return what serves `version`, or the highest READY version; None where nothing does."""
        model = self._models.get(name)
        if model is None:
            return None
        ready = [slot for slot in _ordered(model) if slot.state is ModelState.READY]
        if not version:
            return ready[-1].loaded if ready else None
        return next((slot.loaded for slot in ready if slot.version == version), None)

    def metadata(self, name: str, version: str = "") -> ModelMetadata:
        """Describe a READY version. Raises NOT_FOUND for an unknown one, NOT_READY for one that does not serve."""
        loaded = self._serving(name, version)
        ready = [number for number, state in self.versions(name).items() if state == ModelState.READY.value]
        return metadata_of(loaded, tuple(ready))

    def config(self, name: str, version: str = "") -> Proto:
        """Return a READY version's effective configuration; the caller may keep it. Raises as `metadata`."""
        copy = Proto()
        copy.CopyFrom(self._serving(name, version).config.proto)
        return copy

    def _serving(self, name: str, version: str) -> LoadedVersion:
        loaded = self.get(name, version)
        if loaded is not None:
            return loaded
        if name not in self._models:
            raise GatewayError(Code.NOT_FOUND, f"{_UNKNOWN_MODEL}'{name[:128]}' is not found")
        known = self.versions(name)
        if not version and not known:
            raise GatewayError(Code.NOT_FOUND, f"{_UNKNOWN_MODEL}'{name}' has no available versions")
        if not version:
            raise GatewayError(
                Code.NOT_READY, f"{_UNKNOWN_MODEL}'{name}' has no version at ready state", retry_after_s=1
            )
        if version not in known:
            raise GatewayError(Code.NOT_FOUND, f"{_UNKNOWN_MODEL}'{name}' version {version[:64]} is not found")
        message = f"{_UNKNOWN_MODEL}'{name}' version {version} is not at ready state"
        raise GatewayError(Code.NOT_READY, message, retry_after_s=1)


def _ordered(model: KnownModel) -> list[Slot]:
    return sorted(model.slots.values(), key=lambda slot: int(slot.version or 0))
