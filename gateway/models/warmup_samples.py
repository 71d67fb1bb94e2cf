"""`model_warmup` of config.pbtxt as values: what to send before the version is ready. Reads the samples' files."""

from __future__ import annotations

from pathlib import Path

from gateway.core.oip import model_config_pb2
from gateway.models.config import CONFIG_PBTXT, WARM_UP_FOLDER, ModelConfigError, Proto, WarmUpSample, WarmUpTensor
from gateway.models.datatypes import to_oip
from gateway.models.files import read_inside

MAX_SAMPLE_BYTES = 64 << 20
MAX_COUNT = 1000  # TensorFlow Serving's bound on recorded warm-up requests

_FILLS = {"zero_data": "zero", "random_data": "random", "input_data_file": "file"}


def read_samples(folder: Path, config: Proto) -> tuple[WarmUpSample, ...]:
    """Read all samples of `config` (as written). Raises ModelConfigError naming the sample and input."""
    return tuple(_sample(folder, config, sample) for sample in config.model_warmup)


def _sample(folder: Path, config: Proto, written: model_config_pb2.ModelWarmup) -> WarmUpSample:
    where = f"model '{config.name}': {CONFIG_PBTXT}: model_warmup '{written.name}'"
    if written.count > MAX_COUNT:
        raise ModelConfigError(f"{where}: count must be at most {MAX_COUNT}, got {written.count}")
    if written.batch_size > max(1, config.max_batch_size):
        raise ModelConfigError(
            f"{where}: batch_size must be at most max_batch_size ({config.max_batch_size}), got {written.batch_size}"
        )
    inputs = {
        name: _tensor(folder, f"{where} input '{name}'", tensor) for name, tensor in sorted(written.inputs.items())
    }
    return WarmUpSample(written.name, written.batch_size, max(1, written.count), inputs)


def _tensor(folder: Path, where: str, written: model_config_pb2.ModelWarmup.Input) -> WarmUpTensor:
    choice = written.WhichOneof("input_data_type")
    if choice is None:
        raise ModelConfigError(f"{where}: needs zero_data, random_data or input_data_file")
    if any(dim <= 0 for dim in written.dims):
        raise ModelConfigError(f"{where}: dims must be more than 0, got {list(written.dims)}")
    raw = b""
    if choice == "input_data_file":
        raw = read_inside(folder, f"{WARM_UP_FOLDER}/{written.input_data_file}", where, MAX_SAMPLE_BYTES)
    return WarmUpTensor(to_oip(written.data_type), tuple(written.dims), _FILLS[choice], raw)
