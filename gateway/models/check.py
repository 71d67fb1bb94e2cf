"""Does config.pbtxt agree with the model? Asked before a session is made: a failed load may keep device memory.

Pure. Every message names the tensor, what the file says and what the model has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import TypeAlias

from gateway.core.oip import model_config_pb2
from gateway.models.config import CONFIG_PBTXT, ModelConfigError, PaddingConfig, Proto
from gateway.models.datatypes import shape_text, to_oip
from runtimes.base import ModelFacts, ModelSignature, TensorSpec

Tensor: TypeAlias = model_config_pb2.ModelInput | model_config_pb2.ModelOutput


def check(config: Proto, facts: ModelFacts) -> None:
    """Raise ModelConfigError for the first thing in the completed `config` that does not fit the model."""
    try:
        _check_batching(config, facts.signature)
        _check_side("input", config.input, facts.signature.inputs, config.max_batch_size)
        _check_side("output", config.output, facts.signature.outputs, config.max_batch_size)
        _check_required(config, facts.signature.inputs)
    except ModelConfigError as error:
        raise ModelConfigError(f"model '{config.name}': {error}") from None


def check_padding(model: str, padding: PaddingConfig | None, signature: ModelSignature) -> None:
    """Raise ModelConfigError where `[padding]` names no mask input, or an axis that is not variable."""
    if padding is None:
        return
    shapes = {spec.name: spec.shape for spec in signature.inputs}
    shape = shapes.get(padding.mask)
    where = f"model '{model}': model.toml: padding"
    if shape is None:
        raise ModelConfigError(f"{where}.mask '{padding.mask}' is no input; inputs are {_names(signature.inputs)}")
    if padding.axis >= len(shape) or shape[padding.axis] != -1:
        raise ModelConfigError(
            f"{where}.axis {padding.axis} is not a variable dimension of input '{padding.mask}' {shape_text(shape)}"
        )


def _check_batching(config: Proto, signature: ModelSignature) -> None:
    size = config.max_batch_size
    if size < 0:
        raise ModelConfigError(f"{CONFIG_PBTXT}: max_batch_size must be 0 or more, got {size}")
    for preferred in config.dynamic_batching.preferred_batch_size:
        if not 0 < preferred <= max(1, size):
            raise ModelConfigError(
                f"{CONFIG_PBTXT}: dynamic_batching.preferred_batch_size must be between 1 and max_batch_size "
                f"({size}), got {preferred}"
            )
    if size == 0:
        return
    for side, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if not spec.shape or spec.shape[0] != -1:
                raise ModelConfigError(
                    f"{CONFIG_PBTXT} says max_batch_size {size}, but {side} '{spec.name}' of the model has no variable "
                    f"first dimension: {shape_text(spec.shape)}; use max_batch_size: 0"
                )


def _check_side(side: str, tensors: Iterable[Tensor], specs: Sequence[TensorSpec], max_batch_size: int) -> None:
    by_name = {spec.name: spec for spec in specs}
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise ModelConfigError(f"{side} '{tensor.name}': listed twice in {CONFIG_PBTXT}")
        seen.add(tensor.name)
        spec = by_name.get(tensor.name)
        if spec is None:
            raise ModelConfigError(f"{side} '{tensor.name}': not in the model; its {side}s are {_names(specs)}")
        _check_dims(side, tensor)
        _check_reshape(side, tensor)
        if not _agrees(tensor, spec, side, max_batch_size):
            raise ModelConfigError(
                f"{side} '{tensor.name}': {CONFIG_PBTXT} says {_written(tensor)}"
                f"{' after the batch dimension' if max_batch_size else ''}, "
                f"the model has {spec.datatype} {shape_text(spec.shape)}"
            )


def _check_dims(side: str, tensor: Tensor) -> None:
    for field, dims in (("dims", tensor.dims), ("reshape", tensor.reshape.shape)):
        if any(dim == 0 or dim < -1 for dim in dims):
            raise ModelConfigError(
                f"{side} '{tensor.name}': {CONFIG_PBTXT}: {field} must be -1 or more than 0, got {shape_text(dims)}"
            )


def _check_reshape(side: str, tensor: Tensor) -> None:
    if not tensor.HasField("reshape"):
        return
    outer, inner = tensor.dims, tensor.reshape.shape
    same_size = prod(dim for dim in outer if dim > 0) == prod(dim for dim in inner if dim > 0)
    if not same_size or list(outer).count(-1) != list(inner).count(-1):
        raise ModelConfigError(
            f"{side} '{tensor.name}': {CONFIG_PBTXT}: dims {shape_text(outer)} and reshape {shape_text(inner)} "
            "do not hold the same elements"
        )


def _agrees(tensor: Tensor, spec: TensorSpec, side: str, max_batch_size: int) -> bool:
    if to_oip(tensor.data_type) != spec.datatype:
        return False
    if side == "output" and spec.shape == (-1,):
        return True  # what a graph without shape information says as well; warm-up compares real outputs
    dims = list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
    full = [-1, *dims] if max_batch_size else dims
    return len(full) == len(spec.shape) and all(has in (-1, says) for says, has in zip(full, spec.shape, strict=True))


def _check_required(config: Proto, specs: Sequence[TensorSpec]) -> None:
    written = {tensor.name: tensor for tensor in config.input}
    for spec in specs:
        tensor = written.get(spec.name)
        if tensor is None and not spec.optional:
            raise ModelConfigError(f"input '{spec.name}': the model needs it, {CONFIG_PBTXT} does not list it")
        if tensor is not None and tensor.optional and not spec.optional:
            raise ModelConfigError(f"input '{spec.name}': {CONFIG_PBTXT} says optional, the model needs it")


def _written(tensor: Tensor) -> str:
    name = model_config_pb2.DataType.Name(tensor.data_type)
    reshape = f" reshape {shape_text(tensor.reshape.shape)}" if tensor.HasField("reshape") else ""
    return f"{name} {shape_text(tensor.dims)}{reshape}"


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"'{spec.name}'" for spec in specs) or "none"
