"""Warm-up runs every size through the real instance, within its budget, and tells why a model is not fit."""

import itertools

import pytest

from gateway.models.config import ModelConfig, Proto, WarmUpSample, WarmUpTensor
from gateway.models.warmup import Bounds, WarmUpFailed, plausible, warm_up
from runtimes import open_runtime
from runtimes.base import ExecuteCall, LoadOptions, ModelSource

WIDE = Bounds(budget_ns=10**12, call_timeout_s=30)


@pytest.fixture
async def opened(folder):
    """Open an echo model; gives its instance and signature."""
    runtime = open_runtime("echo")

    def make(inputs=("INPUT0:FP32:-1,4",), **script):
        folder.echo("m", inputs=inputs, **script)
        source = ModelSource("m", "1", folder.root / "m" / "1" / "model.json", folder.root)
        return runtime.load(source, LoadOptions()), runtime.inspect(source, LoadOptions()).signature

    yield make
    runtime.close()


def config(size=8, **more):
    return ModelConfig("m", "echo", Proto(name="m", max_batch_size=size), max_batch_size=size, **more)


class Steps:
    """A clock on which everything takes `step` ns."""

    def __init__(self, step):
        self._ticks = itertools.count(0, step)

    def __call__(self):
        return next(self._ticks)


class Timed:
    """Passes calls on; each takes the next of the given times on its own clock."""

    def __init__(self, inner, durations_ms):
        self.inner = inner
        self.durations_ms = iter(durations_ms)
        self.now = 0

    def submit(self, call, done):
        self.now += int(next(self.durations_ms) * 1e6)
        return self.inner.submit(call, done)


class Watching:
    """Passes calls on and keeps the number of rows of each."""

    def __init__(self, inner):
        self.inner = inner
        self.rows = []

    def submit(self, call, done):
        self.rows.append(next(iter(call.inputs.values())).shape[0])
        return self.inner.submit(call, done)


async def test_warm_up_runs_each_size_at_least_twice_and_keeps_the_best(opened):
    instance, signature = opened()
    watching = Watching(instance)
    warm = await warm_up(watching, config(12), signature, WIDE, Steps(10_000_000))
    assert [rows for rows, _ in warm.costs] == [1, 2, 4, 8, 12]
    assert watching.rows == [1, 1, 2, 2, 4, 4, 8, 8, 12, 12]
    assert all(ns == 10_000_000 for _, ns in warm.costs)
    assert warm.note == ""
    assert warm.ns > 0


async def test_warm_up_cheap_model_runs_more_often_but_not_for_ever(opened):
    instance, signature = opened()
    await warm_up(instance, config(1), signature, WIDE, Steps(1))
    assert instance.executions == 16


@pytest.mark.parametrize(
    ("durations_ms", "best_ms"),
    [
        ([9, 4, 7, 2, 2.1, 1], 2),  # two agree on 2 ms
        ([30, 21, 1], 21),  # 51 ms were spent: enough
        ([2, 1, 0.5, 1] + [0.01] * 20, 0.01),  # the two best agree only later
    ],
)
async def test_warm_up_disturbed_runs_are_repeated_until_two_agree(opened, durations_ms, best_ms):
    instance, signature = opened()
    timed = Timed(instance, durations_ms)
    warm = await warm_up(timed, config(1), signature, WIDE, lambda: timed.now)
    assert warm.costs == ((1, best_ms * 1e6),)


def test_plausible_costs_never_fall_with_the_rows():
    assert plausible([(1, 9), (2, 5), (4, 700), (8, 6), (16, 8)]) == ((1, 5), (2, 5), (4, 6), (8, 6), (16, 8))
    assert plausible([(1, 9)]) == ((1, 9),)


async def test_warm_up_model_without_batches_runs_one_size(opened):
    instance, signature = opened(["INPUT0:FP32:2,4"])
    warm = await warm_up(instance, config(0), signature, WIDE)
    assert [rows for rows, _ in warm.costs] == [1]


async def test_warm_up_slow_model_stops_growing_at_the_budget(opened):
    instance, signature = opened()
    second = 1_000_000_000
    watching = Watching(instance)
    warm = await warm_up(watching, config(64), signature, Bounds(10 * second, 30), Steps(second))
    assert [rows for rows, _ in warm.costs] == [1, 2]
    assert warm.note == "sizes above 2 left out: over the budget of 10 s"
    assert watching.rows == [1, 1, 2, 2]


async def test_warm_up_one_size_runs_whatever_the_budget(opened):
    instance, signature = opened()
    warm = await warm_up(instance, config(64), signature, Bounds(0, 30))
    assert [rows for rows, _ in warm.costs] == [1]


async def test_warm_up_sizes_too_large_for_memory_are_left_out(opened):
    instance, signature = opened([f"INPUT0:INT8:-1,{(1 << 26) - 1}"])
    warm = await warm_up(instance, config(2), signature, WIDE)
    assert [rows for rows, _ in warm.costs] == [1]
    assert "sizes above 1 left out: input 'INPUT0'" in warm.note


async def test_warm_up_runs_samples_count_times(opened):
    instance, signature = opened()
    watching = Watching(instance)
    sample = WarmUpSample("s", 3, 4, {"INPUT0": WarmUpTensor("FP32", (4,), "random")})
    await warm_up(watching, config(1, warm_up_samples=(sample,)), signature, WIDE, Steps(10_000_000))
    assert watching.rows == [1, 1, 3, 3, 3, 3]


async def test_warm_up_samples_stop_at_the_budget(opened):
    instance, signature = opened()
    sample = WarmUpSample("s", 1, 1000, {"INPUT0": WarmUpTensor("FP32", (4,), "zero")})
    watching = Watching(instance)
    await warm_up(watching, config(1, warm_up_samples=(sample,)), signature, Bounds(0, 30), Steps(10_000_000))
    assert watching.rows == [1, 1, 1]


async def test_warm_up_switched_off_runs_nothing(opened):
    instance, signature = opened()
    warm = await warm_up(instance, config(4, warm_up=False), signature, WIDE)
    assert instance.executions == 0
    assert (warm.costs, warm.note) == ((), "switched off in model.toml")


async def test_warm_up_failure_says_the_reason_and_the_way_out(opened):
    instance, signature = opened(fail_every=1)
    with pytest.raises(WarmUpFailed) as raised:
        await warm_up(instance, config(), signature, WIDE)
    message = str(raised.value)
    assert message.startswith("warm-up failed for a batch of 1: scripted failure; ")
    assert "model_warmup" in message
    assert "warm_up = false" in message


async def test_warm_up_second_sample_that_cannot_be_built_fails(opened):
    instance, signature = opened()
    good = WarmUpSample("good", 1, 1, {"INPUT0": WarmUpTensor("FP32", (4,), "zero")})
    bad = WarmUpSample("bad", 1, 1, {"NOPE": WarmUpTensor("FP32", (4,), "zero")})
    with pytest.raises(WarmUpFailed, match="model_warmup 'bad': 'NOPE' is no input"):
        await warm_up(instance, config(1, warm_up_samples=(good, bad)), signature, WIDE)
    with pytest.raises(WarmUpFailed, match="model_warmup 'bad': 'NOPE' is no input"):
        await warm_up(instance, config(1, warm_up_samples=(bad,)), signature, WIDE)


async def test_warm_up_output_unlike_the_signature_fails(opened, facts):
    instance, _ = opened()
    signature = facts(["INPUT0:FP32:-1,4"], ["OUTPUT0:FP32:-1,5"]).signature
    with pytest.raises(WarmUpFailed, match=r"output 'OUTPUT0' has shape \[1, 4\] .* expected \[1, 5\]"):
        await warm_up(instance, config(), signature, WIDE)


async def test_warm_up_call_that_never_answers_fails_and_is_cancelled(facts):
    cancelled = []

    class Silent:
        def submit(self, call, done):
            assert isinstance(call, ExecuteCall)
            return lambda: cancelled.append(call)

    with pytest.raises(WarmUpFailed, match=r"no answer to a batch of 1 within 0.01 s") as raised:
        await warm_up(Silent(), config(), facts(["x:FP32:-1"], []).signature, Bounds(10**12, 0.01))
    assert raised.value.in_flight
    assert len(cancelled) == 1
