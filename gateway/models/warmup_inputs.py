"""What to send a model before anybody else does: batch sizes and input arrays. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from gateway.models.config import ModelConfig, WarmUpSample, WarmUpTensor
from runtimes.base import DTYPES, Array, ModelSignature, TensorSpec

MAX_ELEMENTS = 1 << 26  # 256 MiB of FP32; more rows than that are not tried
_SEED = 0


class WarmUpImpossible(Exception):
    """A warm-up batch cannot be built. The message says which input and why."""


def warm_up_sizes(max_batch_size: int, preferred: Iterable[int] = ()) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and `max_batch_size` itself, with the preferred sizes; (1,) for a model without batches.

    Every size that is common in service: the first run of a new size is slow in most runtimes.
    """
    limit = max(1, max_batch_size)
    powers = {1 << power for power in range(limit.bit_length())}
    return tuple(sorted(size for size in powers | {limit} | set(preferred) if 0 < size <= limit))


def batch_inputs(config: ModelConfig, signature: ModelSignature, rows: int) -> dict[str, Array]:
    """Build a batch of `rows`: the first `model_warmup` sample's rows repeated, else zeros and empty BYTES.

    A variable dimension is 1, or the smallest padding bucket on the padded axis. Optional inputs are left out.
    Raises WarmUpImpossible.
    """
    if config.warm_up_samples:
        return sample_inputs(config, signature, config.warm_up_samples[0], rows)
    arrays = {}
    for spec in signature.inputs:
        if not spec.optional:
            dims = _fixed(config, spec)
            shape = (rows, *dims[1:]) if config.max_batch_size else dims
            arrays[spec.name] = _filled(spec.name, spec.datatype, shape, "zero")
    return arrays


def sample_inputs(config: ModelConfig, signature: ModelSignature, sample: WarmUpSample, rows: int) -> dict[str, Array]:
    """Build the arrays of one `model_warmup` sample with `rows` rows. Raises WarmUpImpossible."""
    specs = {spec.name: spec for spec in signature.inputs}
    lead = (rows,) if config.max_batch_size else ()
    arrays = {}
    for name, tensor in sample.inputs.items():
        spec = specs.get(name)
        if spec is None:
            raise WarmUpImpossible(f"model_warmup '{sample.name}': '{name}' is no input of the model")
        if tensor.datatype and tensor.datatype != spec.datatype:
            raise WarmUpImpossible(
                f"model_warmup '{sample.name}': input '{name}' says {tensor.datatype}, the model has {spec.datatype}"
            )
        arrays[name] = _sampled(name, spec.datatype, lead + tensor.dims, tensor)
    return arrays


def _fixed(config: ModelConfig, spec: TensorSpec) -> tuple[int, ...]:
    padding = config.padding
    dims = [1 if dim == -1 else dim for dim in spec.shape]
    if padding is not None and padding.axis < len(dims) and spec.shape[padding.axis] == -1:
        dims[padding.axis] = padding.buckets[0]
    return tuple(dims)


def _filled(name: str, datatype: str, shape: tuple[int, ...], fill: str) -> Array:
    if prod(shape) > MAX_ELEMENTS:
        raise WarmUpImpossible(f"input '{name}': a batch of shape {list(shape)} is too large to warm up with")
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        return np.full(shape, b"", dtype)
    if fill == "random":
        random = np.random.default_rng(_SEED)
        if dtype.kind == "f":
            return random.random(shape).astype(dtype)
        # Small whole numbers are valid wherever the input is an index, as token ids are.
        return random.integers(0, 2, shape).astype(dtype)
    return np.zeros(shape, dtype)


def _sampled(name: str, datatype: str, shape: tuple[int, ...], tensor: WarmUpTensor) -> Array:
    if tensor.fill != "file":
        return _filled(name, datatype, shape, tensor.fill)
    if prod(shape) > MAX_ELEMENTS:
        raise WarmUpImpossible(f"input '{name}': a batch of shape {list(shape)} is too large to warm up with")
    one = _from_file(name, datatype, tensor)
    return np.broadcast_to(one, shape).copy()


def _from_file(name: str, datatype: str, tensor: WarmUpTensor) -> Array:
    """Read one row from the file's bytes, which are laid out as in the binary tensor extension."""
    count = prod(tensor.dims)
    if datatype == "BYTES":
        elements = _bytes_elements(name, tensor.raw)
        flat = np.empty(len(elements), dtype=np.object_)
        flat[:] = elements
    else:
        width = DTYPES[datatype].itemsize
        flat = np.frombuffer(tensor.raw[: len(tensor.raw) // width * width], DTYPES[datatype])
    if flat.size != count:
        raise WarmUpImpossible(f"input '{name}': its warm-up file holds {flat.size} elements, dims need {count}")
    return flat.reshape(tensor.dims)


def _bytes_elements(name: str, raw: bytes) -> list[bytes]:
    elements, start = [], 0
    while start < len(raw):
        if len(raw) - start < 4:
            raise WarmUpImpossible(f"input '{name}': its warm-up file ends inside an element")
        (length,) = struct.unpack_from("<I", raw, start)
        start += 4
        if len(raw) - start < length:
            raise WarmUpImpossible(f"input '{name}': its warm-up file ends inside an element")
        elements.append(raw[start : start + length])
        start += length
    return elements


def mismatch(config: ModelConfig, signature: ModelSignature, outputs: Mapping[str, Array], rows: int) -> str:
    """Say how real outputs of a batch of `rows` differ from the signature; "" where they do not."""
    for spec in signature.outputs:
        array = outputs.get(spec.name)
        if array is None:
            return f"output '{spec.name}' is missing from the model's answer"
        wanted = (rows, *spec.shape[1:]) if config.max_batch_size else spec.shape
        fits = len(wanted) == array.ndim and all(
            want in (-1, size) for want, size in zip(wanted, array.shape, strict=True)
        )
        if not fits:
            return (
                f"output '{spec.name}' has shape {list(array.shape)} for a batch of {rows} rows, "
                f"expected {list(wanted)}; set max_batch_size and dims in config.pbtxt to what the model does"
            )
    return ""
