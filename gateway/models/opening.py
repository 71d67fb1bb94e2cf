"""Open one version of a folder, in a thread: configuration and model are compared before a session is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.core.clock import monotonic_ns
from gateway.models.complete import public_signature
from gateway.models.compose import compose
from gateway.models.config import ModelConfig, ModelConfigError
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


def open_version(entry: ModelEntry, version: str, runtime_for: Callable[[str], Runtime]) -> Opened:
    """Inspect, compare, load. Blocking. Raises ModelConfigError, LoadFailed or OSError; then nothing is held."""
    started = monotonic_ns()
    problem = entry.problem_of(version)
    if problem:
        raise ModelConfigError(problem)
    kind = runtime_of(entry.written, entry.toml.runtime)
    refuse_unsupported(entry.written, kind)
    runtime = runtime_for(kind)
    on_disk = state_on_disk(entry, version)  # before reading: what changes meanwhile is seen by the next reload
    source = _source(entry, version)
    options = load_options(entry.written, entry.toml)
    facts = runtime.inspect(source, options)
    config = compose(entry.path, entry.written, entry.toml, facts)
    sha256, size_bytes = digest(source.path)
    instance = view_of(runtime.load(source, options), config.proto, facts.signature)
    facts = replace(facts, signature=public_signature(config.proto, facts.signature))
    return Opened(config, facts, instance, sha256, size_bytes, monotonic_ns() - started, on_disk)


def state_on_disk(entry: ModelEntry, version: str) -> Fingerprint:
    """List what a reload would read; equal lists mean that it would change nothing. Blocking. Raises OSError."""
    return fingerprint((entry.path, entry.path / version))


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
