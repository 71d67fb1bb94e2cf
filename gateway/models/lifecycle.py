"""Load, reload, unload: drives every version through `states`, one change at a time per model.

Rules: a version is READY only after warm-up and `build`. A reload makes the new one beside the old, swaps, then
drains and closes the old; where it fails the old one keeps serving. Changes are idempotent: loading what is
loaded and unchanged on disk does nothing. A change runs to its end even where its caller stops waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.core.clock import NS_PER_MS
from gateway.core.errors import Code, GatewayError
from gateway.models.loader import SHUTTING_DOWN, Loader, LoadRefused, OpenRuntime
from gateway.models.opening import state_on_disk
from gateway.models.repository import ModelEntry, ModelRepository
from gateway.models.settings import ModelsSettings
from gateway.models.states import Event, ModelState
from gateway.models.table import KnownModel, ModelTable, Slot
from gateway.models.version import Build, LoadedVersion

_log = logging.getLogger(__name__)

UNLOADED = "unloaded"  # Triton's reason for a version that was taken down on purpose


class ModelManager(ModelTable):
    """The one that loads and unloads. All methods are called on the event loop.

    `on_change` is called after every change of a state or of what serves; it builds the next route table.
    """

    def __init__(
        self, repository: ModelRepository, open_runtime: OpenRuntime, build: Build, settings: ModelsSettings
    ) -> None:
        super().__init__()
        self.on_change: Callable[[], None] = _nothing
        self._repository = repository
        self._loader = Loader(open_runtime, build, settings)
        self._drain_timeout_s = settings.drain_timeout_s
        self._locks: dict[str, asyncio.Lock] = {}  # held for a whole change of one model
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False

    async def load_all(self, only: set[str] | None = None) -> None:
        """Read the repository and load every version its policies choose (of the models in `only`).

        Never raises for a model that fails: it is UNAVAILABLE with its reason. Returns when all are settled.
        Raises ModelConfigError where the repository itself cannot be read.
        """
        entries = await asyncio.to_thread(self._repository.scan)
        for name in sorted((only or set()) - entries.keys()):
            _log.error("model '%s' is not in the model repository", name)
        wanted = [entry for name, entry in entries.items() if only is None or name in only]
        for entry in entries.values():
            self._know(entry)
        for entry in wanted:  # all of them show as LOADING from the start
            for slot in self._chosen(entry):
                if slot.state in (ModelState.UNKNOWN, ModelState.UNAVAILABLE):
                    slot.apply(Event.LOAD)
        self.on_change()
        await asyncio.gather(*(self._run(entry.name, self._settle(entry)) for entry in wanted))

    async def load(self, name: str, version: str = "") -> None:
        """Load or reload one version, or all the version policy chooses; versions it no longer chooses go then.

        Raises NOT_FOUND where the folder is not there, INVALID_ARGUMENT with the reasons where a load failed.
        """
        await self._run(name, self._load(name, version))

    async def unload(self, name: str, version: str = "") -> None:
        """Take one version, or all of a model, off the table; drain; close. Does nothing where it is not loaded.

        Raises NOT_FOUND for a model or version nobody knows.
        """
        await self._run(name, self._unload(name, version))

    async def close(self) -> None:
        """Refuse further loads, let running changes end, unload everything, stop the runtimes. Idempotent."""
        self._closing = True
        self._loader.stop()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._drain_timeout_s)
            if late:
                _log.warning("closing although %d changes of models still run", len(late))
        slots = [slot for model in self._models.values() for slot in model.slots.values()]
        await asyncio.gather(*(self._take_down(slot) for slot in slots if slot.state is ModelState.READY))
        self._loader.close()

    async def _run(self, name: str, change: Coroutine[Any, Any, None]) -> None:
        """Run a change when the model's earlier ones are over, whether or not the caller keeps waiting."""
        task = asyncio.create_task(self._in_turn(name, change), name=f"model {name}")
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    async def _in_turn(self, name: str, change: Coroutine[Any, Any, None]) -> None:
        async with self._locks.setdefault(name, asyncio.Lock()):
            await change

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone; what went wrong is in the slots

    async def _settle(self, entry: ModelEntry) -> None:
        """Load what `load_all` marked; leave what was unloaded in the meantime."""
        slots = [s for s in self._chosen(entry) if s.state in (ModelState.LOADING, ModelState.READY)]
        await asyncio.gather(*(self._bring_up(entry, slot) for slot in slots))

    async def _load(self, name: str, version: str) -> None:
        if self._closing:
            raise GatewayError(Code.NOT_READY, f"failed to load model '{name[:128]}': {SHUTTING_DOWN}")
        entry = await asyncio.to_thread(self._repository.read, name)
        missing = version and not entry.problem and version not in entry.versions
        if missing or not entry.exists:
            what = f"model '{entry.name}'" + (f" version {version[:20]}" if version else "")
            raise GatewayError(Code.NOT_FOUND, f"failed to load {what}: it is not in the model repository")
        model = self._know(entry)
        slots = [model.slot(version)] if version else self._chosen(entry)
        reasons = await asyncio.gather(*(self._bring_up(entry, slot) for slot in slots))
        failed = [reason for reason in reasons if reason]
        if failed:  # what served before keeps serving
            raise GatewayError(Code.INVALID_ARGUMENT, f"failed to load {'; '.join(failed)}")
        if not version:
            await asyncio.gather(*(self._take_down(slot) for slot in list(model.slots.values()) if slot not in slots))

    async def _unload(self, name: str, version: str) -> None:
        model = self._models.get(name)
        if model is None or (version and version not in model.slots):
            what = f"model '{name[:128]}'" + (f" version {version[:20]}" if version else "")
            raise GatewayError(Code.NOT_FOUND, f"failed to unload {what}: it is not known")
        slots = [model.slots[version]] if version else list(model.slots.values())
        await asyncio.gather(*(self._take_down(slot) for slot in slots))

    async def _bring_up(self, entry: ModelEntry, slot: Slot) -> str:
        """Load one version beside what serves, then swap. Returns the reason where it failed, else ""."""
        if await self._unchanged(entry, slot):
            return ""
        if slot.state is not ModelState.LOADING:  # marked already by `load_all`
            slot.apply(Event.LOAD)
            self.on_change()
        try:
            loaded = await self._loader.load(entry, slot.version)
        except LoadRefused as error:
            return self._failed(slot, str(error))
        old, slot.loaded = slot.loaded, loaded
        slot.apply(Event.LOADED)
        self.on_change()
        load_ms, warm_up_ms = loaded.load_ns // NS_PER_MS, loaded.warm_up_ns // NS_PER_MS
        note = f"; warm-up: {loaded.warm_up_note}" if loaded.warm_up_note else ""
        _log.info("%s/%s READY: load %d ms, warm-up %d ms%s", slot.model, slot.version, load_ms, warm_up_ms, note)
        if old is not None:
            await self._retire(old)
        return ""

    def _failed(self, slot: Slot, reason: str) -> str:
        _log.error("%s/%s not loaded: %s", slot.model, slot.version or "-", reason)
        shown = reason if slot.loaded is None else f"reload failed, the version loaded before serves on: {reason}"
        slot.apply(Event.FAILED, shown)
        self.on_change()
        return reason

    async def _unchanged(self, entry: ModelEntry, slot: Slot) -> bool:
        if slot.loaded is None or slot.state is not ModelState.READY or entry.problem_of(slot.version):
            return False
        try:
            now = await asyncio.to_thread(state_on_disk, entry, slot.version)
        except OSError:
            return False
        return now == slot.loaded.fingerprint

    async def _take_down(self, slot: Slot) -> None:
        if slot.state is not ModelState.READY:
            return
        slot.apply(Event.UNLOAD)
        self.on_change()  # nothing is routed here from now on
        if slot.loaded is not None:
            await self._retire(slot.loaded)
        slot.loaded = None
        slot.apply(Event.UNLOADED, UNLOADED)
        self.on_change()

    async def _retire(self, loaded: LoadedVersion) -> None:
        """Drain and close what no route leads to any more. Failures are logged: nobody waits for them."""
        try:
            await loaded.stack.drain(self._drain_timeout_s)
            await loaded.instance.close()
        except Exception:
            _log.exception("%s/%s: closing failed", loaded.model, loaded.version)

    def _know(self, entry: ModelEntry) -> KnownModel:
        model = self._models.setdefault(entry.name, KnownModel(entry))
        model.reread(entry)
        return model

    def _chosen(self, entry: ModelEntry) -> list[Slot]:
        """Return the slots to load: the policy's versions, or where the folder is faulty the one to show that on."""
        versions = entry.selected or tuple(entry.versions)[-1:] or ("",)
        return [self._models[entry.name].slot(version) for version in versions]


def _nothing() -> None:
    """Be the `on_change` of a manager nobody listens to."""
