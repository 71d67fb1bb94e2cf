"""Compose the stages of one loaded version: validate > (split) > (pad) > batch > execute. Once per load."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import msgspec

from gateway.batching.batcher import Batcher
from gateway.batching.cost import CostTracker
from gateway.batching.oversize import OversizeStage
from gateway.batching.padding import PaddingSettings, PadStage
from gateway.batching.policy import BatchingSettings
from gateway.core.clock import NS_PER_MS
from gateway.core.timeline import BatchObserver
from gateway.core.types import ServableVersion, Stage
from gateway.dataplane.validate import ValidateStage
from gateway.models.version import LoadedVersion
from runtimes.base import DTYPES

DEFAULT_QUEUE_SIZE = 1024


class VersionStack:
    """A version's own part of the path. `servable` is what the route table points to.

    Heights: validation first, so that nothing unsound waits; splitting above padding and batching, because
    the parts are requests of their own; padding directly above the batcher, because it decides who may
    share a batch. A version that does not merge requests has the same queue (slots must be counted) with
    merging off, and neither splitting nor padding.
    """

    def __init__(self, loaded: LoadedVersion, on_batch: Sequence[BatchObserver] = ()) -> None:
        config = loaded.config
        signature = loaded.facts.signature
        settings = batching_settings(loaded)
        self.batcher = Batcher(
            loaded.instance,
            settings,
            {spec.name: spec.datatype for spec in signature.outputs},
            costs=CostTracker(loaded.costs),
            on_batch=on_batch,
        )
        inner: Stage = self.batcher
        oversize: Stage | None = None
        merging = settings.max_batch_size > 1
        if merging:
            if config.padding is not None:
                padding = PaddingSettings(config.padding.axis, config.padding.buckets, config.padding.mask)
                inner = PadStage(padding, signature, inner)
            oversize = OversizeStage(settings.max_batch_size, inner, max_parts=settings.max_queue_size)
        draft = ServableVersion(
            loaded.model,
            loaded.version,
            signature,
            config.max_batch_size,
            inner,
            config.default_timeout_ms * NS_PER_MS,
            config.labels,
            config.optional_inputs,
        )
        self.servable = msgspec.structs.replace(draft, stack=ValidateStage(draft, inner, oversize))

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing of this version is queued or executing, at most `timeout_s`."""
        try:
            await asyncio.wait_for(self.batcher.drain(), timeout_s)
        except TimeoutError:
            return


def batching_settings(loaded: LoadedVersion) -> BatchingSettings:
    """Translate the model's configuration into the batcher's settings."""
    config = loaded.config
    return BatchingSettings(
        max_batch_size=config.max_batch_size if config.dynamic_batching else 0,
        preferred_batch_sizes=config.preferred_batch_sizes,
        max_queue_delay_us=config.max_queue_delay_us,
        preserve_ordering=config.preserve_ordering,
        max_queue_size=config.max_queue_size or DEFAULT_QUEUE_SIZE,
        queue_timeout_us=config.queue_timeout_us,
        row_bytes=_row_bytes(loaded),
        max_slots=config.instances,
    )


def _row_bytes(loaded: LoadedVersion) -> int:
    """Input bytes of one row; 0 where a dimension varies or an element's size does."""
    total = 0
    for spec in loaded.facts.signature.inputs:
        shape = spec.shape[1:]
        if spec.datatype == "BYTES" or -1 in shape:
            return 0
        total += math.prod(shape) * DTYPES[spec.datatype].itemsize
    return total
