"""A loaded version in the words of the model metadata answer. Pure."""

from __future__ import annotations

from gateway.core.types import ModelMetadata
from gateway.models.version import LoadedVersion

_LINEAGE = "onnx."  # the runtime's own keys; a file's other metadata may hold anything, of any size
_MAX_VALUE = 256


def metadata_of(loaded: LoadedVersion, ready: tuple[str, ...]) -> ModelMetadata:
    """Describe `loaded`; `ready` are all versions of its model that serve."""
    facts = loaded.facts
    return ModelMetadata(loaded.model, ready, facts.platform, facts.signature, _parameters(loaded))


def _parameters(loaded: LoadedVersion) -> dict[str, str]:
    facts, config = loaded.facts, loaded.config
    parameters = {
        "version": loaded.version,
        "sha256": loaded.sha256,
        "size_bytes": str(loaded.size_bytes),
        "runtime": config.runtime,
        "device": config.device,
        "row_independent": "true" if facts.row_independent else "false",
        "row_dependence": facts.row_dependence,
        "batching": batching_of(loaded),
        "warm_up_batch_sizes": ",".join(str(rows) for rows, _ in loaded.costs),
        "warm_up": loaded.warm_up_note,
    }
    parameters |= {key: value for key, value in facts.metadata.items() if key.startswith(_LINEAGE)}
    return {key: value[:_MAX_VALUE] for key, value in parameters.items() if value}


def batching_of(loaded: LoadedVersion) -> str:
    """Say in words whether requests are merged, and why not."""
    config = loaded.config
    if config.dynamic_batching:
        merged = f"requests are merged up to {config.max_batch_size} rows"
        return merged if loaded.facts.row_independent else f"{merged}, although rows influence each other"
    if config.max_batch_size < 1:
        return "none: the model has no batch dimension"
    if config.proto.HasField("dynamic_batching") and not loaded.facts.row_independent:
        return "requests are not merged: rows influence each other; batch_dependent_rows = true merges them anyway"
    return "requests are not merged"
