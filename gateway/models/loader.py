"""Make a LoadedVersion of a folder: open in a thread, warm up on the loop, build. Knows no states.

Every failure is one LoadRefused whose message is the reason operators see; what was opened is closed again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gateway.core.clock import NS_PER_S
from gateway.models.config import ModelConfigError
from gateway.models.opening import Opened, open_version
from gateway.models.repository import ModelEntry
from gateway.models.settings import ModelsSettings
from gateway.models.texts import plain
from gateway.models.version import Build, LoadedVersion
from gateway.models.warmup import Bounds, WarmUp, WarmUpFailed, warm_up
from runtimes.base import LoadFailed, Runtime

_MAX_REASON = 1000
_log = logging.getLogger(__name__)

OpenRuntime = Callable[[str], Runtime]


SHUTTING_DOWN = "the server is shutting down"


class LoadRefused(Exception):
    """The version cannot be served. The message is the reason in the repository index: no absolute path."""


class Loader:
    """Owns the load threads and one runtime of each kind that was asked for."""

    def __init__(self, open_runtime: OpenRuntime, build: Build, settings: ModelsSettings) -> None:
        self._open_runtime = open_runtime
        self._build = build
        self._settings = settings
        self._bounds = Bounds(int(settings.warm_up_budget_s * NS_PER_S), settings.warm_up_call_timeout_s)
        self._pool = ThreadPoolExecutor(max(1, settings.load_threads), thread_name_prefix="model-load")
        self._runtimes: dict[str, Runtime] = {}
        self._runtimes_lock = threading.Lock()  # load threads may ask for the same kind at once
        self._stopping = False  # set by the loop, read by load threads
        self._warming = asyncio.Lock()  # one warm-up at a time: two would measure each other

    async def load(self, entry: ModelEntry, version: str) -> LoadedVersion:
        """Load, warm and build one version. Raises LoadRefused; then nothing stays open."""
        try:
            opened = await asyncio.get_running_loop().run_in_executor(self._pool, self._open, entry, version)
        except Exception as error:
            raise _refusal(entry, version, error) from error
        try:
            async with self._warming:
                self._go_on()
                warm = await warm_up(opened.instance, opened.config, opened.facts.signature, self._bounds)
            return self._built(entry, version, opened, warm)
        except Exception as error:
            if not (isinstance(error, WarmUpFailed) and error.in_flight):
                await opened.instance.close()
            raise _refusal(entry, version, error) from error

    def stop(self) -> None:
        """Refuse loads that have not begun to read or to warm up."""
        self._stopping = True

    def close(self) -> None:
        """Stop runtimes and threads. The caller has closed all instances; a load that still runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._runtimes_lock:
            for runtime in self._runtimes.values():
                runtime.close()
            self._runtimes.clear()

    def _open(self, entry: ModelEntry, version: str) -> Opened:
        self._go_on()
        return open_version(entry, version, self._runtime)

    def _go_on(self) -> None:
        if self._stopping:
            raise LoadFailed(SHUTTING_DOWN)

    def _built(self, entry: ModelEntry, version: str, opened: Opened, warm: WarmUp) -> LoadedVersion:
        loaded = LoadedVersion(
            entry.name,
            version,
            opened.config,
            opened.facts,
            opened.instance,
            warm.costs,
            opened.sha256,
            opened.size_bytes,
            opened.load_ns,
            warm.ns,
            warm.note,
            opened.fingerprint,
        )
        loaded.stack = self._build(loaded)
        return loaded

    def _runtime(self, kind: str) -> Runtime:
        with self._runtimes_lock:
            if kind not in self._runtimes:
                self._runtimes[kind] = self._open_runtime(kind)
            return self._runtimes[kind]


def _refusal(entry: ModelEntry, version: str, error: Exception) -> LoadRefused:
    """Put any failure into one line that names model and version once, and no absolute path."""
    if isinstance(error, OSError):
        text = f"cannot be read ({error.strerror})"
    elif isinstance(error, (ModelConfigError, LoadFailed, WarmUpFailed)):
        text = str(error)
    else:
        _log.error("model '%s' version %s: loading failed", entry.name, version, exc_info=error)
        text = f"loading failed with {type(error).__name__}"
    for folder in (entry.path.parent, entry.path.parent.resolve()):
        text = text.replace(f"{folder}/", "")
    text = plain(text, _MAX_REASON)
    return LoadRefused(text if text.startswith("model '") else f"model '{entry.name}' version {version}: {text}")
