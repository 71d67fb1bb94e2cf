"""The effective configuration of one version, once config.pbtxt, model.toml and the model agree. Types only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from gateway.core.oip import model_config_pb2

CONFIG_PBTXT = "config.pbtxt"
MODEL_TOML = "model.toml"
WARM_UP_FOLDER = "warmup"  # Triton's: input_data_file is relative to <model>/warmup

Proto: TypeAlias = model_config_pb2.ModelConfig

NOTHING: Mapping[str, Any] = MappingProxyType({})


class ModelConfigError(Exception):
    """A model's configuration cannot be honoured. The message names the model, the file and the field.

    It is fit for an operator and for the repository index: no absolute path, no traceback.
    """


@dataclass(frozen=True, slots=True)
class PaddingConfig:
    """Pad variable-length inputs to the next bucket so that different lengths share a batch.

    `axis` counts in the array the runtime gets (0 is the rows, so >= 1). `buckets` are increasing lengths.
    `mask` names the input whose zeros mark padding: without one padding would change answers.
    """

    axis: int
    buckets: tuple[int, ...]
    mask: str


@dataclass(frozen=True, slots=True)
class WarmUpTensor:
    """One input of a warm-up sample: OIP datatype, dims without the batch dimension, how to fill it.

    `fill` is "zero", "random" or "file" (then `raw` holds the file's bytes in the binary tensor format).
    """

    datatype: str
    dims: tuple[int, ...]
    fill: str
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class WarmUpSample:
    """One `model_warmup` entry of config.pbtxt. `batch_size` 0 = the model has no batch dimension."""

    name: str
    batch_size: int
    count: int
    inputs: Mapping[str, WarmUpTensor]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The effective configuration of one version: nothing left to guess. Times in the unit of their name.

    `dynamic_batching` says whether requests are merged; `max_batch_size` 0 = no batch dimension.
    `proto` is what the model configuration endpoint answers; it agrees with the fields here.
    """

    name: str
    runtime: str
    proto: Proto
    max_batch_size: int = 0
    dynamic_batching: bool = False
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    preserve_ordering: bool = False
    max_queue_size: int = 0  # 0 = the server's default
    queue_timeout_us: int = 0
    instances: int = 0  # 0 = the runtime's choice
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NOTHING)
    optional_inputs: frozenset[str] = frozenset()
    default_timeout_ms: int = 0  # 0 = the server's default
    batch_dependent_rows: bool = False
    custom_ops: tuple[str, ...] = ()
    device: str = "cpu"
    padding: PaddingConfig | None = None
    client_input: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    options: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    response_cache: bool = False
    warm_up: bool = True
    warm_up_samples: tuple[WarmUpSample, ...] = ()
    auto_completed: bool = False

    @property
    def version_policy(self) -> model_config_pb2.ModelVersionPolicy:
        """Which versions are served; `latest { num_versions: 1 }` where the file does not say."""
        return self.proto.version_policy
