"""Run a loaded version before it serves: each batch size at least twice, bounded in time. Knows no states.

The best time per size feeds the batcher's cost model. Sizes stop growing when the next one would not fit the
budget, so a model of 1 s a row is ready after seconds, not minutes; its largest sizes then start cold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.clock import NS_PER_S, Clock, monotonic_ns
from gateway.models.config import ModelConfig
from gateway.models.warmup_inputs import WarmUpImpossible, batch_inputs, mismatch, sample_inputs, warm_up_sizes
from runtimes.base import Array, ExecuteCall, ExecuteResult, ExecutionFailed, Instance, ModelSignature

RUNS_PER_SIZE = 2
# Cheap models get more runs: their first ones pay for threads and caches (measured: 1.2 ms, then 15 us), other loads
# disturb them, and the runtime learns from them whether the model is cheap enough to run on the loop.
MAX_RUNS_PER_SIZE = 16
CHEAP_NS = 3_000_000  # a size that took less than this in all is run again
NOISY_NS = 50_000_000  # so is one whose two best runs differ by more than a quarter, up to this time in all
HINT = "; a model_warmup sample in config.pbtxt chooses other inputs, warm_up = false in model.toml skips this"


class WarmUpFailed(Exception):
    """The version cannot answer what it will be asked. The message is fit for the repository index.

    `in_flight`: the runtime still holds a call, so the instance may not be closed.
    """

    def __init__(self, message: str, *, in_flight: bool = False) -> None:
        super().__init__(message)
        self.in_flight = in_flight


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What was measured: best ns per batch size, whole time in ns, and why larger sizes were left out ("" = none)."""

    costs: tuple[tuple[int, int], ...] = ()
    ns: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`budget_ns`: no further size is begun that would not fit. `call_timeout_s`: one call that takes longer fails."""

    budget_ns: int
    call_timeout_s: float


async def warm_up(
    instance: Instance, config: ModelConfig, signature: ModelSignature, bounds: Bounds, clock: Clock = monotonic_ns
) -> WarmUp:
    """Run all sizes and samples; raise WarmUpFailed with a reason. Call on the event loop."""
    if not config.warm_up:
        return WarmUp(note="switched off in model.toml")
    started = clock()
    costs: list[tuple[int, int]] = []
    note = ""
    for rows in warm_up_sizes(config.max_batch_size, config.preferred_batch_sizes):
        if costs and not _fits(costs[-1], rows, clock() - started, bounds.budget_ns):
            note = f"sizes above {costs[-1][0]} left out: over the budget of {bounds.budget_ns / NS_PER_S:g} s"
            break
        try:
            inputs = batch_inputs(config, signature, rows)
        except WarmUpImpossible as error:
            if not costs:
                raise WarmUpFailed(f"warm-up failed: {error}{HINT}") from None
            note = f"sizes above {costs[-1][0]} left out: {error}"
            break
        best = await _best_of(_Run(instance, config, signature, bounds, clock), inputs, rows)
        costs.append((rows, best))
    await _run_samples(_Run(instance, config, signature, bounds, clock), started)
    return WarmUp(plausible(costs), clock() - started, note)


def plausible(costs: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Lower what is above the time of a larger batch: then the smaller one was disturbed (another load holds the GIL
    for 20 ms and more while it parses a file, which is a thousand runs of a cheap model)."""
    bound, kept = costs[-1][1], []
    for rows, ns in reversed(costs):
        bound = min(bound, ns)
        kept.append((rows, bound))
    return tuple(reversed(kept))


@dataclass(frozen=True, slots=True)
class _Run:
    instance: Instance
    config: ModelConfig
    signature: ModelSignature
    bounds: Bounds
    clock: Clock


def _fits(last: tuple[int, int], rows: int, spent_ns: int, budget_ns: int) -> bool:
    last_rows, last_ns = last
    return spent_ns + RUNS_PER_SIZE * last_ns * rows // last_rows <= budget_ns


async def _best_of(run: _Run, inputs: Mapping[str, Array], rows: int) -> int:
    times: list[int] = []
    while not _enough(times):
        times.append(await _execute(run, inputs, rows))
        times.sort()
    return times[0]


def _enough(times: list[int]) -> bool:
    """Tell whether the sorted `times` of one size say what it costs."""
    if len(times) < RUNS_PER_SIZE or sum(times) < CHEAP_NS:
        return len(times) == MAX_RUNS_PER_SIZE
    noisy = times[1] * 4 > times[0] * 5
    return not noisy or len(times) == MAX_RUNS_PER_SIZE or sum(times) >= NOISY_NS


async def _run_samples(run: _Run, started: int) -> None:
    for sample in run.config.warm_up_samples:
        rows = max(1, sample.batch_size)
        try:
            inputs = sample_inputs(run.config, run.signature, sample, rows)
        except WarmUpImpossible as error:
            raise WarmUpFailed(f"warm-up failed: {error}") from None
        for _ in range(sample.count):
            await _execute(run, inputs, rows)
            if run.clock() - started > run.bounds.budget_ns:
                return


async def _execute(run: _Run, inputs: Mapping[str, Array], rows: int) -> int:
    """Execute one batch and return its ns, taken when the runtime calls back."""
    answer: asyncio.Future[tuple[ExecuteResult, int]] = asyncio.get_running_loop().create_future()

    def done(result: ExecuteResult) -> None:
        if not answer.done():
            answer.set_result((result, run.clock()))

    started = run.clock()
    cancel = run.instance.submit(ExecuteCall(inputs), done)
    timeout_s = run.bounds.call_timeout_s
    await asyncio.wait([answer], timeout=timeout_s)
    if not answer.done():
        cancel()
        await asyncio.wait([answer], timeout=timeout_s)
        raise WarmUpFailed(
            f"warm-up failed: no answer to a batch of {rows} within {timeout_s:g} s", in_flight=not answer.done()
        )
    result, ended = answer.result()
    if isinstance(result, ExecutionFailed):
        raise WarmUpFailed(f"warm-up failed for a batch of {rows}: {result.message}{HINT}")
    wrong = mismatch(run.config, run.signature, result, rows)
    if wrong:
        raise WarmUpFailed(f"warm-up failed: {wrong}")
    return ended - started
