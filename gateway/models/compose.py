"""Compose the effective ModelConfig of one version: the folder's files and the model's facts, compared."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from gateway.models.check import check, check_padding
from gateway.models.complete import complete, needs_completion, public_signature
from gateway.models.config import ModelConfig, PaddingConfig, Proto
from gateway.models.labels import find_labels
from gateway.models.model_toml import ModelToml
from gateway.models.support import backend_word, load_options, model_filename, refuse_unsupported, runtime_of
from gateway.models.warmup_samples import read_samples
from runtimes.base import ModelFacts


def compose(folder: Path, written: Proto, toml: ModelToml, facts: ModelFacts) -> ModelConfig:
    """Return the effective configuration; reads label and warm-up files of the model's `folder` (blocking).

    Raises ModelConfigError where files and model disagree, or the files ask for what is not supported.
    """
    runtime = runtime_of(written, toml.runtime)
    refuse_unsupported(written, runtime)
    proto = complete(written, facts, backend_word(runtime), model_filename(written, toml))
    check(proto, facts)
    padding = _padding(toml)
    check_padding(proto.name, padding, public_signature(proto, facts.signature))
    batching = proto.dynamic_batching
    queue = batching.default_queue_policy
    options = load_options(written, toml)
    may_merge = facts.row_independent or toml.batch_dependent_rows
    return ModelConfig(
        name=proto.name,
        runtime=runtime,
        proto=proto,
        max_batch_size=proto.max_batch_size,
        dynamic_batching=proto.HasField("dynamic_batching") and proto.max_batch_size > 1 and may_merge,
        preferred_batch_sizes=tuple(sorted(set(batching.preferred_batch_size))),
        max_queue_delay_us=batching.max_queue_delay_microseconds,
        preserve_ordering=batching.preserve_ordering,
        max_queue_size=queue.max_queue_size,
        queue_timeout_us=queue.default_timeout_microseconds,
        instances=options.instances,
        labels=MappingProxyType(dict(find_labels(folder, proto, facts))),
        optional_inputs=frozenset(tensor.name for tensor in proto.input if tensor.optional),
        default_timeout_ms=toml.default_timeout_ms,
        batch_dependent_rows=toml.batch_dependent_rows,
        custom_ops=options.custom_ops,
        device=options.device,
        padding=padding,
        client_input=MappingProxyType(toml.client.input),
        options=options.extra,
        response_cache=proto.response_cache.enable,
        warm_up=toml.warm_up,
        warm_up_samples=read_samples(folder, proto),
        auto_completed=needs_completion(written),
    )


def _padding(toml: ModelToml) -> PaddingConfig | None:
    table = toml.padding
    return None if table is None else PaddingConfig(table.axis, tuple(table.buckets), table.mask)
