"""Requests over one FP32 input [rows, width], and a batcher over the echo runtime on virtual time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gateway.batching.batcher import Batcher
from gateway.batching.policy import BatchingSettings
from gateway.core.types import InferRequest, InferResponse, Tensor
from runtimes import open_runtime
from runtimes.base import ExecutionFailed, LoadOptions, ModelSource, nothing_to_cancel


def request_of(value=0.0, rows=1, width=2, **fields):
    """A request whose every element is `value`, so that a wrong row is seen."""
    array = np.full((rows, width), value, np.float32)
    key = None if width == 2 else (("INPUT0", (width,)),)
    return InferRequest("m", inputs={"INPUT0": Tensor("FP32", array)}, rows=rows, shape_key=key, **fields)


POISON = 666.0


class Desk:
    """A batcher, its instance, what it executed, and in which order requests completed."""

    def __init__(self, instance, now, **settings):
        self.instance = instance
        self.now = now
        self.batches = []
        self.completed = []
        self.calls = []
        self._submit = instance.submit
        instance.submit = self._noted
        self.batcher = Batcher(
            instance, BatchingSettings(**settings), {"OUTPUT0": "FP32"}, on_batch=[self.batches.append], now=now
        )

    def _noted(self, call, done):
        self.calls.append(call)
        if (call.inputs["INPUT0"] == POISON).any():  # as a model does that refuses a value, such as an index
            done(ExecutionFailed("a value is out of range", bad_input=True))
            return nothing_to_cancel
        return self._submit(call, done)

    def send(self, *args, **fields):
        request = request_of(*args, **fields)
        return self.put(request)

    def put(self, request):
        request.on_outcome.append(lambda done, outcome: self.completed.append(done))
        self.batcher(request)
        return request

    async def settled(self):
        """Return when nothing waits and nothing executes."""
        await self.batcher.drain()

    @property
    def sizes(self):
        """Rows of each execution so far."""
        return [batch.rows for batch in self.batches]

    @property
    def reasons(self):
        return [batch.close_reason for batch in self.batches]


@pytest.fixture
def make_request():
    return request_of


@pytest.fixture
def open_echo(tmp_path):
    def make(slots=1, inputs=("INPUT0:FP32:-1,-1",), **script):
        path = tmp_path / "model.json"
        path.write_text(json.dumps({"inputs": list(inputs), **script}))
        runtime = open_runtime("echo", executor_threads=slots)
        return runtime.load(ModelSource("m", "1", path, tmp_path), LoadOptions())

    return make


@pytest.fixture
def desk(open_echo, virtual_time):
    """Make a desk: `desk(max_batch_size=8, script={"delay_ns": ...}, slots=2)`."""

    def make(*, script=None, slots=1, max_batch_size=8, **settings):
        return Desk(open_echo(slots, **(script or {})), virtual_time, max_batch_size=max_batch_size, **settings)

    return make


@pytest.fixture
def answer():
    """What a request was answered, as its array; errors fail the test."""

    def read(request, name="OUTPUT0"):
        assert isinstance(request.outcome, InferResponse), request.outcome
        return request.outcome.outputs[name].array

    return read
