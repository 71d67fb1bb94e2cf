"""What a runtime is: the seam between the gateway and the code that executes models.

Knows tensors, signatures and files. Knows nothing of protocols, versions' traffic, batching or HTTP.
A runtime must work without the gateway: this package imports nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype(np.uint8),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype(np.int8),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "BF16": np.dtype("<u2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        "BYTES": np.dtype(np.object_),
    }
)
"""Open Inference Protocol datatype -> how its elements are held in numpy.

BF16 has no numpy type: its arrays are the uint16 bit patterns. BYTES arrays are object arrays of `bytes`.
"""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: OIP datatype, and the full shape as the runtime sees it.

    -1 is a variable dimension. Where the model batches, the batch dimension is part of `shape` (first, -1).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """Inputs and outputs in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where one version's artefact lies. `path` is the model file (or folder, for runtimes that want one).

    `root` is the folder nothing may be read outside of (external tensor data).
    """

    model: str
    version: str
    path: Path
    root: Path


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What can be known of an artefact without executing it.

    `row_independent` is False where rows of one batch influence each other's results (dynamic quantisation,
    batch statistics); `row_dependence` then says which operators. `metadata` is the artefact's own
    (ONNX metadata_props, producer, opset), for lineage.
    """

    signature: ModelSignature
    platform: str
    row_independent: bool = True
    row_dependence: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load. `device` is "cpu" or "cuda[:n]". `threads` 0 = the process-wide pool, else an own pool.

    `custom_ops` names packages of the runtime's fixed allow-list. `instances` is how many batches may
    execute at once (0 = the runtime's choice). `extra` holds runtime-specific options, all text.
    """

    device: str = "cpu"
    instances: int = 0
    threads: int = 0
    custom_ops: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(slots=True)
class ExecuteCall:
    """One batch to execute. Arrays are C-contiguous and are not modified by the runtime.

    `outputs` names the wanted outputs; empty = all. `deadline_ns` is absolute monotonic, 0 = none.
    `raw` is the original protocol message where the runtime can pass it through unchanged.
    """

    inputs: Mapping[str, Array]
    outputs: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    deadline_ns: int = 0
    traceparent: str = ""
    raw: bytes | None = None


class LoadFailed(Exception):
    """The artefact cannot be loaded. The message is fit for an operator: no absolute path, no traceback."""


class ExecutionFailed(Exception):
    """The runtime could not execute the call. `bad_input` tells a client's fault from the runtime's own."""

    def __init__(self, message: str, *, bad_input: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.bad_input = bad_input


ExecuteResult = Mapping[str, Array] | ExecutionFailed
Done = Callable[[ExecuteResult], None]
Cancel = Callable[[], None]
"""Asks to stop; `done` is still called exactly once (a late result or an ExecutionFailed). Idempotent."""


def nothing_to_cancel() -> None:
    """Be the `Cancel` of work that is already over or cannot be stopped."""


@runtime_checkable
class Instance(Protocol):
    """One loaded version, ready to execute.

    `slots` is how many calls it executes at once; the caller keeps its own queue and submits no more.
    """

    slots: int

    def submit(self, call: ExecuteCall, done: Done) -> Cancel:
        """Start executing and return at once. Call on the event loop.

        `done` is called exactly once, on the same loop: before `submit` returns (a cheap model, run
        inline) or later. Never blocks on a lock or a full queue; never raises for a bad call.
        """
        ...

    def submit_stream(self, call: ExecuteCall, emit: Callable[[Mapping[str, Array]], None], done: Done) -> Cancel:
        """As `submit`, with any number of `emit` calls before `done`. A unary model calls only `done`."""
        ...

    async def close(self) -> None:
        """Release everything. The caller has no call in flight. Idempotent."""
        ...


@runtime_checkable
class Runtime(Protocol):
    """Opens artefacts. One object per process and kind; it owns the threads its instances share."""

    def inspect(self, source: ModelSource, options: LoadOptions) -> ModelFacts:
        """Read the artefact without executing it. Blocking: call it in a thread. Raises LoadFailed."""
        ...

    def load(self, source: ModelSource, options: LoadOptions) -> Instance:
        """Load the artefact. Blocking: call it in a thread. Raises LoadFailed."""
        ...

    def close(self) -> None:
        """Stop the shared threads. All instances are closed before."""
        ...
