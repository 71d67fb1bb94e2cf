"""Calls that wait for a dispatcher thread: cancelled, expired, left behind by a closed loop."""

import asyncio
import threading

import numpy as np
import pytest

from runtimes import open_runtime
from runtimes.base import ExecuteCall, LoadOptions
from runtimes.onnx_threads import Dispatchers, Job


async def submit(instance, outcome, inputs):
    """Return whether the call was answered inline, and its result."""
    done = outcome()
    instance.submit(ExecuteCall(inputs), done)
    inline = bool(done.results)
    return inline, await done.result()


class Gate:
    def __init__(self):
        self.entered = threading.Event()
        self.open = threading.Event()

    def execute(self):
        self.entered.set()
        assert self.open.wait(30)
        return {}

    def delivered(self):
        pass


@pytest.fixture
def held_runtime():
    runtime, gate = open_runtime("onnx", executor_threads=1), Gate()
    yield runtime, gate
    gate.open.set()
    runtime.close()


async def test_call_no_thread_has_taken_is_dropped_on_cancel(held_runtime, build, saved, outcome):
    runtime, gate = held_runtime
    instance = runtime.load(saved(build.identity(("FP32", (-1,)))), LoadOptions())
    first, second = outcome(), outcome()
    runtime._dispatchers.put(Job(gate, outcome(), asyncio.get_running_loop()))

    cancel = instance.submit(ExecuteCall({"INPUT0": np.ones(3, np.float32)}), first)
    instance.submit(ExecuteCall({"INPUT0": np.ones(3, np.float32)}), second)
    cancel()
    cancel()
    assert first.results == []  # never from inside cancel

    assert str(await first.result()) == "cancelled"
    assert second.results == []
    gate.open.set()
    assert (await second.result())["OUTPUT0"].tolist() == [1, 1, 1]
    assert len(first.results) == 1


async def test_call_that_expires_behind_another_is_not_executed(held_runtime, build, saved, outcome, monkeypatch):
    runtime, gate = held_runtime
    instance = runtime.load(saved(build.identity(("FP32", (-1,)))), LoadOptions())
    done = outcome()
    runtime._dispatchers.put(Job(gate, outcome(), asyncio.get_running_loop()))

    instance.submit(ExecuteCall({"INPUT0": np.ones(3, np.float32)}, deadline_ns=1), done)
    gate.open.set()

    assert "deadline" in str(await done.result())


def test_result_for_a_closed_loop_is_dropped_quietly(outcome):
    dispatchers, gate, delivered = Dispatchers(1), Gate(), []
    dispatchers.start()
    loop = asyncio.new_event_loop()

    dispatchers.put(Job(gate, delivered.append, loop))
    assert gate.entered.wait(30)
    loop.close()
    gate.open.set()
    dispatchers.close()

    assert delivered == []


def test_closing_the_runtime_lets_queued_jobs_finish_and_ends_its_threads(build, saved, outcome):
    runtime = open_runtime("onnx", executor_threads=3)
    before = {thread.name for thread in threading.enumerate()}
    runtime.load(saved(build.identity(("FP32", (-1,)))), LoadOptions())
    runtime.load(saved(build.identity(("FP32", (-1,)))), LoadOptions())
    assert len({thread.name for thread in threading.enumerate()} - before) == 3

    runtime.close()

    assert {thread.name for thread in threading.enumerate()} == before


# Custom operators and devices.
