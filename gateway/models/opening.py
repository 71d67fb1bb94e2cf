"""Open one version of a folder, in a thread: configuration and model are compared before a session is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.core.clock import monotonic_ns
from gateway.models.complete import public_signature
from gateway.models.compose import compose
from gateway.models.config import WARM_UP_FOLDER, ModelConfig, ModelConfigError
from gateway.models.files import digest, fingerprint, lies_inside
from gateway.models.repository import ModelEntry
from gateway.models.reshape import view_of
from gateway.models.support import load_options, model_filename, refuse_unsupported, runtime_of
from runtimes.base import Instance, ModelFacts, ModelSource, Runtime

Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A version in memory, not yet warm. `facts.signature` is what clients see."""

    config: ModelConfig
    facts: ModelFacts
    instance: Instance
    sha256: str
    size_bytes: int
    load_ns: int
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Inspected:
    """A version that was read and compared, not loaded. `facts.signature` is the model file's own."""

    config: ModelConfig
    facts: ModelFacts
    source: ModelSource
    runtime: Runtime


def inspect_version(entry: ModelEntry, version: str, runtime_for: Callable[[str], Runtime]) -> Inspected:
    """Compare the version's configuration and model. Blocking. Raises ModelConfigError, LoadFailed or OSError."""
    problem = entry.problem_of(version)
    if problem:
        raise ModelConfigError(problem)
    kind = runtime_of(entry.written, entry.toml.runtime)
    refuse_unsupported(entry.written, kind)
    runtime = runtime_for(kind)
    source = _source(entry, version)
    facts = runtime.inspect(source, load_options(entry.written, entry.toml))
    return Inspected(compose(entry.path, entry.written, entry.toml, facts), facts, source, runtime)


def open_version(entry: ModelEntry, version: str, runtime_for: Callable[[str], Runtime]) -> Opened:
    """Inspect, compare, load. Blocking. Raises ModelConfigError, LoadFailed or OSError; then nothing is held."""
    started = monotonic_ns()
    # Before reading, so that what changes meanwhile is seen by the next reload.
    on_disk = () if entry.problem_of(version) else state_on_disk(entry, version)
    found = inspect_version(entry, version, runtime_for)
    config, source = found.config, found.source
    sha256, size_bytes = digest(source.path)
    loaded = found.runtime.load(source, load_options(entry.written, entry.toml))
    instance = view_of(loaded, config.proto, found.facts.signature)
    facts = replace(found.facts, signature=public_signature(config.proto, found.facts.signature))
    return Opened(config, facts, instance, sha256, size_bytes, monotonic_ns() - started, on_disk)


def state_on_disk(entry: ModelEntry, version: str) -> Fingerprint:
    """List what a reload would read; equal lists mean that it would change nothing. Blocking. Raises OSError."""
    folders = (entry.path, entry.path / version, entry.path / WARM_UP_FOLDER)
    return fingerprint(tuple(folder for folder in folders if folder.is_dir()))


def _source(entry: ModelEntry, version: str) -> ModelSource:
    name = model_filename(entry.written, entry.toml)
    folder = entry.path / version
    path = folder / name
    where = f"model '{entry.name}' version {version}"
    if Path(name).name != name:
        raise ModelConfigError(f"{where}: default_model_filename must be a plain file name")
    if not path.exists():
        raise ModelConfigError(f"{where}: there is no file '{name}' in the version's folder")
    if not lies_inside(path, entry.path.parent):
        raise ModelConfigError(f"{where}: '{name}' links to outside the model repository")
    return ModelSource(entry.name, version, path, entry.path.parent)
