"""Fill what config.pbtxt leaves out from the model's own signature, by Triton's rules. Pure.

The batching rules apply only where the file lacks inputs or outputs (or is absent): a complete file means
what it says, so without `dynamic_batching {}` it does not merge requests.
Precedent: Triton's onnxruntime backend, ModelState::AutoCompleteMaxBatch and AutoCompleteIO.
"""

from __future__ import annotations

from typing import Any

from gateway.core.oip import model_config_pb2
from gateway.models.config import Proto
from gateway.models.datatypes import to_oip, to_proto
from runtimes.base import ModelFacts, ModelSignature, TensorSpec

DEFAULT_MAX_BATCH_SIZE = 4  # Triton's default-max-batch-size


def needs_completion(written: Proto) -> bool:
    """Tell whether the file leaves the signature (and with it the batching) to the model."""
    return not (written.input and written.output)


def complete(written: Proto, facts: ModelFacts, backend: str, filename: str) -> Proto:
    """Return a completed copy of `written`; says nothing about whether the two agree (see `check`)."""
    config = Proto()
    config.CopyFrom(written)
    if needs_completion(written):
        _complete_batching(config, facts.signature)
    batched = config.max_batch_size > 0
    _complete_tensors(config.input, facts.signature.inputs, batched)
    _complete_tensors(config.output, facts.signature.outputs, batched)
    if not written.input:
        for tensor, spec in zip(config.input, facts.signature.inputs, strict=True):
            tensor.optional = spec.optional
    config.platform = config.platform or facts.platform
    config.backend = config.backend or backend
    config.default_model_filename = config.default_model_filename or filename
    policy = config.version_policy
    if policy.WhichOneof("policy_choice") in (None, "latest") and not policy.latest.num_versions:
        policy.latest.num_versions = 1
    return config


def public_signature(config: Proto, model: ModelSignature) -> ModelSignature:
    """Build what clients see: the completed config's dims (batch dimension first), in the model's order."""
    lead = (-1,) if config.max_batch_size else ()
    inputs = {tensor.name: tensor for tensor in config.input}
    outputs = {tensor.name: tensor for tensor in config.output}
    return ModelSignature(
        tuple(
            TensorSpec(s.name, to_oip(t.data_type), lead + tuple(t.dims), t.optional)
            for s in model.inputs
            if (t := inputs.get(s.name)) is not None
        ),
        tuple(
            TensorSpec(s.name, to_oip(t.data_type), lead + tuple(t.dims))
            for s in model.outputs
            if (t := outputs.get(s.name)) is not None
        ),
    )


def can_batch(signature: ModelSignature) -> bool:
    """Tell whether every input and output has a variable first dimension."""
    tensors = signature.inputs + signature.outputs
    return bool(signature.inputs) and all(spec.shape and spec.shape[0] == -1 for spec in tensors)


def _complete_batching(config: Proto, signature: ModelSignature) -> None:
    if not can_batch(signature):
        return
    if config.max_batch_size == 0:
        config.max_batch_size = DEFAULT_MAX_BATCH_SIZE
    if config.max_batch_size > 1 and config.WhichOneof("scheduling_choice") is None:
        config.dynamic_batching.SetInParent()


def _complete_tensors(tensors: Any, specs: tuple[TensorSpec, ...], batched: bool) -> None:
    """Complete one side (a repeated field) in place: all of it where nothing is written, else each entry's gaps."""
    by_name = {spec.name: spec for spec in specs}
    if not tensors:
        for name in by_name:
            tensors.add(name=name)
    for tensor in tensors:
        if tensor.name in by_name:
            _fill(tensor, by_name[tensor.name], batched)


def _fill(tensor: model_config_pb2.ModelInput, spec: TensorSpec, batched: bool) -> None:
    if tensor.data_type == model_config_pb2.TYPE_INVALID:
        tensor.data_type = to_proto(spec.datatype)
    if tensor.dims:
        return
    dims = spec.shape[1:] if batched else spec.shape
    if dims:
        tensor.dims.extend(dims)
    else:
        # Triton's rule: dims may not be empty, so one value per row is [1] outside and nothing inside.
        tensor.dims.append(1)
        tensor.reshape.SetInParent()
