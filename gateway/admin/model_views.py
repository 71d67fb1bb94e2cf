"""What operators are told of models: plain documents of states, signatures, settings and measured costs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from gateway.core.types import IndexEntry
from gateway.models.version import LoadedVersion
from runtimes.base import TensorSpec

NS_PER_MS = 1e6


class Models(Protocol):
    """The part of the models room the views read."""

    def index(self) -> list[IndexEntry]:
        """List every known version and its state."""
        ...

    def get(self, name: str, version: str = "", /) -> LoadedVersion | None:
        """Return a version that serves ("" = the highest); None where it does not."""
        ...


def models_document(models: Models) -> dict[str, Any]:
    """Return `{"models": [{"name", "versions": [{"version", "state", "reason"}]}]}`, sorted by name and version."""
    by_model: dict[str, list[IndexEntry]] = {}
    for entry in models.index():
        by_model.setdefault(entry.name, []).append(entry)
    return {"models": [{"name": name, "versions": _states(by_model[name])} for name in sorted(by_model)]}


def model_document(models: Models, name: str) -> dict[str, Any] | None:
    """Describe one model and each of its versions; None where the name is unknown.

    `client_input` is the highest serving version's `[client.input]` ({} where it has none).
    """
    entries = [entry for entry in models.index() if entry.name == name]
    if not entries:
        return None
    latest = models.get(name)
    versions = [
        line | _loaded(models.get(name, line["version"])) if line["version"] else line for line in _states(entries)
    ]
    return {
        "name": name,
        "client_input": {} if latest is None else dict(latest.config.client_input),
        "versions": versions,
    }


def _states(entries: Iterable[IndexEntry]) -> list[dict[str, Any]]:
    ordered = sorted(entries, key=lambda entry: int(entry.version) if entry.version.isdigit() else 0)
    return [{"version": e.version, "state": e.state or "UNKNOWN", "reason": e.reason} for e in ordered]


def _loaded(version: LoadedVersion | None) -> dict[str, Any]:
    """Return what only a version in memory has. Durations in ms, batch costs in microseconds."""
    if version is None:
        return {}
    facts = version.facts
    return {
        "runtime": version.config.runtime,
        "platform": facts.platform,
        "sha256": version.sha256,
        "size_bytes": version.size_bytes,
        "load_ms": version.load_ns / NS_PER_MS,
        "warm_up_ms": version.warm_up_ns / NS_PER_MS,
        "warm_up_note": version.warm_up_note,
        "execution_slots": version.instance.slots,
        "batch_costs": [{"rows": rows, "us": ns / 1e3} for rows, ns in version.costs],
        "row_independent": facts.row_independent,
        "row_dependence": facts.row_dependence,
        "inputs": [_spec(spec) for spec in facts.signature.inputs],
        "outputs": [_spec(spec) for spec in facts.signature.outputs],
        "settings": _settings(version),
        "artefact": dict(facts.metadata),
    }


def _settings(version: LoadedVersion) -> dict[str, Any]:
    config = version.config
    padding = config.padding
    return {
        "device": config.device,
        "max_batch_size": config.max_batch_size,
        "dynamic_batching": config.dynamic_batching,
        "preferred_batch_sizes": list(config.preferred_batch_sizes),
        "max_queue_delay_us": config.max_queue_delay_us,
        "max_queue_size": config.max_queue_size,
        "queue_timeout_us": config.queue_timeout_us,
        "preserve_ordering": config.preserve_ordering,
        "instances": config.instances,
        "default_timeout_ms": config.default_timeout_ms,
        "batch_dependent_rows": config.batch_dependent_rows,
        "custom_ops": list(config.custom_ops),
        "optional_inputs": sorted(config.optional_inputs),
        "labelled_outputs": sorted(config.labels),
        "padding": None
        if padding is None
        else {"axis": padding.axis, "buckets": list(padding.buckets), "mask": padding.mask},
        "auto_completed": config.auto_completed,
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape), "optional": spec.optional}
