"""Which parts of config.pbtxt this gateway honours. What it cannot honour is refused by name, never ignored.

Pure. A user who asks for sequence batching and silently gets none has wrong answers; one who gets an
UNAVAILABLE model with a reason has a question. Fields that change no answer (optimization, metric_tags,
parameters, model_metrics, response_cache) are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import TypeAlias

from gateway.core.oip import model_config_pb2
from gateway.models.config import CONFIG_PBTXT, ModelConfigError, Proto
from gateway.models.model_toml import ModelToml
from runtimes.base import LoadOptions

_Group: TypeAlias = model_config_pb2.ModelInstanceGroup
_Policy = model_config_pb2.ModelQueuePolicy

_RUNTIMES = {"onnxruntime": "onnx", "onnxruntime_onnx": "onnx", "onnx_onnxv1": "onnx", "echo": "echo"}
"""Triton's `backend` and `platform` words -> kinds of `runtimes.open_runtime`."""

DEFAULT_RUNTIME = "onnx"
_MODEL_FILES = {"onnx": "model.onnx", "echo": "model.json"}
_BACKENDS = {"onnx": "onnxruntime"}


def runtime_of(config: Proto, chosen: str) -> str:
    """Name the runtime kind: model.toml's choice, else `backend`, else `platform`, else ONNX."""
    if chosen:
        return chosen
    for field, word in (("backend", config.backend), ("platform", config.platform)):
        if word:
            if word not in _RUNTIMES:
                known = ", ".join(f"'{name}'" for name in _RUNTIMES)
                raise ModelConfigError(
                    f"model '{config.name}': {CONFIG_PBTXT}: {field} '{word}' is not supported; known are {known}"
                )
            return _RUNTIMES[word]
    return DEFAULT_RUNTIME


def backend_word(runtime: str) -> str:
    """Translate a runtime kind back into what config.pbtxt calls `backend`."""
    return _BACKENDS.get(runtime, runtime)


def model_filename(written: Proto, toml: ModelToml) -> str:
    """Name the file inside the version's folder ("" = the runtime wants the folder itself)."""
    return str(written.default_model_filename or _MODEL_FILES.get(runtime_of(written, toml.runtime), ""))


def load_options(written: Proto, toml: ModelToml) -> LoadOptions:
    """Say how to load, from the files alone. KIND_GPU instance groups ask for CUDA."""
    device = toml.device
    for group in written.instance_group:
        if group.kind == _Group.KIND_GPU and device == "cpu":
            device = f"cuda:{group.gpus[0]}" if group.gpus else "cuda"
    return LoadOptions(
        device=device,
        instances=toml.instances or sum(group.count for group in written.instance_group),
        custom_ops=tuple(toml.custom_ops),
        extra=MappingProxyType(dict(toml.options)),
    )


def refuse_unsupported(config: Proto, runtime: str) -> None:
    """Raise ModelConfigError naming the first field that cannot be honoured."""
    for field, why in _unsupported(config, runtime):
        raise ModelConfigError(f"model '{config.name}': {CONFIG_PBTXT}: {field} is not supported: {why}")


def _unsupported(config: Proto, runtime: str) -> Iterator[tuple[str, str]]:
    for field, (asked, why) in _WHOLE_FIELDS.items():
        if asked(config):
            yield field, why
    if config.model_transaction_policy.decoupled and runtime == "onnx":
        yield "model_transaction_policy.decoupled", "an ONNX model answers each request exactly once"
    yield from _unsupported_batching(config)
    yield from _unsupported_groups(config)
    yield from _unsupported_tensors(config)


_WHOLE_FIELDS: dict[str, tuple[Callable[[Proto], object], str]] = {
    "ensemble_scheduling": (lambda c: c.HasField("ensemble_scheduling"), "models cannot be chained"),
    "sequence_batching": (lambda c: c.HasField("sequence_batching"), "requests of one sequence are not kept together"),
    "batch_input": (lambda c: c.batch_input, "ragged batches are not built"),
    "batch_output": (lambda c: c.batch_output, "ragged batches are not built"),
    "cc_model_filenames": (lambda c: c.cc_model_filenames, "one file serves every device"),
    "model_operations": (
        lambda c: c.model_operations.op_library_filename,
        "custom operators come from the allow-list `custom_ops` of model.toml",
    ),
    "model_repository_agents": (lambda c: c.model_repository_agents.agents, "there are no repository agents"),
    "runtime": (lambda c: c.runtime, "a backend's own library cannot be chosen"),
}


def _unsupported_batching(config: Proto) -> Iterator[tuple[str, str]]:
    batching = config.dynamic_batching
    if batching.priority_levels > 1:
        yield "dynamic_batching.priority_levels", f"there is one queue, got {batching.priority_levels} levels"
    if batching.default_priority_level > max(1, batching.priority_levels):
        yield "dynamic_batching.default_priority_level", "there is one queue"
    if batching.priority_queue_policy:
        yield "dynamic_batching.priority_queue_policy", "there is one queue; use default_queue_policy"
    if batching.default_queue_policy.timeout_action == _Policy.DELAY:
        yield "dynamic_batching.default_queue_policy.timeout_action", "DELAY may wait for ever; use REJECT"


def _unsupported_groups(config: Proto) -> Iterator[tuple[str, str]]:
    groups = config.instance_group
    if len(groups) > 1 and any(group.kind != groups[0].kind or group.gpus for group in groups):
        yield "instance_group", "one version runs on one device; give one group"
    for group in groups:
        yield from _unsupported_group(group)


def _unsupported_group(group: _Group) -> Iterator[tuple[str, str]]:
    if group.kind == _Group.KIND_MODEL:
        yield "instance_group.kind", "KIND_MODEL cannot be honoured; use KIND_CPU or KIND_GPU"
    if len(group.gpus) > 1:
        yield "instance_group.gpus", "one version runs on one device"
    if group.count < 0 or group.count > 1024:
        yield "instance_group.count", f"must be between 0 and 1024, got {group.count}"
    for field in ("passive", "profile", "secondary_devices", "host_policy"):
        if getattr(group, field):
            yield f"instance_group.{field}", "it has no meaning here"
    if group.rate_limiter.resources or group.rate_limiter.priority:
        yield "instance_group.rate_limiter", "instances have no named resources"


def _unsupported_tensors(config: Proto) -> Iterator[tuple[str, str]]:
    for tensor in config.input:
        if tensor.allow_ragged_batch:
            yield f"input '{tensor.name}' allow_ragged_batch", "use [padding] of model.toml"
    for side, tensors in (("input", config.input), ("output", config.output)):
        for each in tensors:
            if each.is_shape_tensor:
                yield f"{side} '{each.name}' is_shape_tensor", "shape tensors are TensorRT's"
            if each.is_non_linear_format_io:
                yield f"{side} '{each.name}' is_non_linear_format_io", "tensors are row-major"
