import json

import numpy as np
import pytest

from runtimes import open_runtime
from runtimes.base import ExecuteCall, ExecutionFailed, LoadFailed, LoadOptions


@pytest.fixture
def echo(saved):
    runtime = open_runtime("echo")

    def load(*inputs, **script):
        return runtime.load(saved(json.dumps({"inputs": inputs, **script}).encode(), "model.json"), LoadOptions())

    load.inspect = lambda text: runtime.inspect(saved(text.encode(), "model.json"), LoadOptions())
    return load


INPUT = {"IN": np.arange(3, dtype=np.int64)}


def parts_of(instance, call, done):
    parts = []
    instance.submit_stream(call, parts.append, done)
    return parts


async def test_outputs_are_named_after_inputs(echo, run):
    result = await run(echo("INPUT7:INT64:-1", "other:INT64:-1"), {"INPUT7": INPUT["IN"], "other": INPUT["IN"]})

    assert list(result) == ["OUTPUT7", "OUTPUT_1"]


async def test_bytes_may_hold_anything(echo, run):
    array = np.array([b"a\x00b", b"\xff\xfe"], np.object_)

    result = await run(echo("IN:BYTES:-1"), {"IN": array})

    assert result["OUTPUT_0"].tolist() == [b"a\x00b", b"\xff\xfe"]


async def test_without_delay_the_answer_comes_before_submit_returns(echo, outcome):
    done = outcome()

    echo("IN:INT64:-1").submit(ExecuteCall(INPUT), done)

    assert len(done.results) == 1


async def test_delay_is_fixed_plus_per_row(echo, outcome, monkeypatch):
    instance, done, asked = echo("IN:INT64:-1", delay_ns=1_000_000, delay_ns_per_row=2_000_000), outcome(), []
    import asyncio

    loop = asyncio.get_running_loop()
    later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda delay, *rest: (asked.append(delay), later(0, *rest))[1])

    instance.submit(ExecuteCall(INPUT), done)
    assert done.results == []
    await done.result()

    assert asked[0] == pytest.approx(0.007)


async def test_delayed_call_can_be_cancelled(echo, outcome):
    instance, done = echo("IN:INT64:-1", delay_ns=3600 * 10**9), outcome()

    cancel = instance.submit(ExecuteCall(INPUT), done)
    cancel()
    cancel()
    assert done.results == []  # never from inside cancel

    assert str(await done.result()) == "cancelled"
    assert len(done.results) == 1


async def test_executions_count_what_ran_and_not_what_was_refused(echo, run):
    instance = echo("IN:INT64:-1")

    await run(instance, INPUT)
    await run(instance, INPUT, deadline_ns=1)
    await run(instance, {})
    await run(instance, INPUT)
    await instance.close()
    await run(instance, INPUT)

    assert (instance.executions, instance.rows) == (2, 6)


async def test_every_nth_call_fails(echo, run):
    instance = echo("IN:INT64:-1", fail_every=3)

    results = [await run(instance, INPUT) for _ in range(7)]

    assert [isinstance(result, ExecutionFailed) for result in results] == [False, False, True] * 2 + [False]


@pytest.mark.parametrize(("asked", "bad_input"), [("runtime", False), ("bad_input", True)])
async def test_request_parameter_fails_one_call(echo, run, asked, bad_input):
    instance = echo("IN:INT64:-1")

    result = await run(instance, INPUT, parameters={"echo_fail": asked})

    assert isinstance(result, ExecutionFailed)
    assert result.bad_input is bad_input
    assert not isinstance(await run(instance, INPUT), ExecutionFailed)


async def test_stream_emits_all_parts_but_the_last(echo, outcome):
    instance, done = echo("IN:INT64:-1", parts=3), outcome()

    parts = parts_of(instance, ExecuteCall(INPUT), done)
    last = await done.result()

    assert [part["OUTPUT_0"].tolist() for part in (*parts, last)] == [[0, 1, 2]] * 3


async def test_number_of_parts_can_be_asked_for(echo, outcome):
    instance, done = echo("IN:INT64:-1", parts=3), outcome()

    parts = parts_of(instance, ExecuteCall(INPUT, parameters={"echo_parts": 5}), done)
    await done.result()
    assert len(parts) == 4

    done = outcome()
    parts = parts_of(instance, ExecuteCall(INPUT, parameters={"echo_parts": "many"}), done)
    await done.result()
    assert len(parts) == 2


async def test_stream_cancelled_by_its_receiver_stops(echo, outcome):
    instance, done, parts = echo("IN:INT64:-1", parts=9), outcome(), []

    cancel = instance.submit_stream(ExecuteCall(INPUT), lambda part: (parts.append(part), cancel()), done)

    assert str(await done.result()) == "cancelled"
    assert len(parts) == 1


async def test_failing_stream_emits_nothing(echo, outcome):
    instance, done = echo("IN:INT64:-1", parts=9), outcome()

    parts = parts_of(instance, ExecuteCall(INPUT, parameters={"echo_fail": "runtime"}), done)

    assert isinstance(await done.result(), ExecutionFailed)
    assert parts == []


async def test_unary_submit_ignores_parts(echo, run):
    assert list(await run(echo("IN:INT64:-1", parts=4), INPUT)) == ["OUTPUT_0"]


def test_inspect_reports_what_is_scripted(echo):
    facts = echo.inspect('{"inputs": ["IN:FP32:-1,4"], "row_dependence": "Scripted", "metadata": {"author": "me"}}')

    assert facts.platform == "echo"
    assert (facts.row_independent, facts.row_dependence) == (False, "Scripted")
    assert dict(facts.metadata) == {"author": "me"}


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs": []}',
        '{"inputs": ["A:FP32:1", "A:FP32:1"]}',
        '{"inputs": ["INPUT0:FP32:1", "OUTPUT0:FP32:1"], "typo": 1}',
        '{"inputs": ["A:FP31:1"]}',
        '{"inputs": ["A:FP32"]}',
        '{"inputs": [":FP32:1"]}',
        '{"inputs": ["A:FP32:x"]}',
        '{"inputs": ["A:FP32:-2"]}',
        '{"inputs": ["A:FP32:1"], "delay_ns": "long"}',
    ],
)
def test_broken_script_is_a_load_failure(echo, text):
    with pytest.raises(LoadFailed, match="echo script"):
        echo.inspect(text)


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"extra": {"x": "1"}}, {"custom_ops": ("a",)}])
def test_options_are_refused(saved, options):
    source = saved(b'{"inputs": ["A:FP32:1"]}', "model.json")

    with pytest.raises(LoadFailed, match="takes no options"):
        open_runtime("echo").load(source, LoadOptions(**options))


async def test_scalar_input_is_one_row(echo, run):
    instance = echo("A:INT64:")

    await run(instance, {"A": np.array(5)})

    assert instance.rows == 1
