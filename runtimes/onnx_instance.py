"""One loaded ONNX model: decides per call between the event loop and a dispatcher thread, by measured cost.

A call that takes 10 us must not pay 50 us to reach a thread; one that takes 10 ms must not stop the loop. Cost
is learned per input size (power of two of elements), so a large batch of a cheap model still goes to a thread.
Rules: `_cost_ns`, `_threaded` and `slots` are written on the loop only; a thread hands its figure back with the result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any

from runtimes.base import (
    Array,
    Cancel,
    Done,
    ExecuteCall,
    ExecuteResult,
    ExecutionFailed,
    ModelSignature,
    nothing_to_cancel,
)
from runtimes.check import wrong_with
from runtimes.onnx_execute import Execute
from runtimes.onnx_files import clean
from runtimes.onnx_threads import Dispatchers, Job

INLINE_BELOW_NS = 150_000  # a thread hop costs about 50 us of CPU and as much latency; the loop may stop for this long
UNKNOWN_NS = 1 << 62
SIZES = 65  # bit lengths of an element count
OUTLIER = 4  # a sample counts as at most this multiple of the average: preemption is not the model's cost


class OnnxInstance:
    """See `runtimes.base.Instance`. `slots` is 1 while calls run inline, else how many threads may serve it."""

    def __init__(
        self, execute: Execute, signature: ModelSignature, dispatchers: Dispatchers, *, slots: int, inline: bool
    ) -> None:
        self.signature = signature
        self.slots = slots
        self.threaded_calls = 0  # calls on their way through a thread
        self.cpu_clock = time.thread_time_ns if inline else time.monotonic_ns
        self._execute: Execute = execute
        self._dispatchers = dispatchers
        self._thread_slots = slots
        self._all_outputs = [spec.name for spec in signature.outputs]
        self._input_count = len(signature.inputs)
        self._texts = tuple(spec.name for spec in signature.inputs if spec.datatype == "BYTES")
        self._inline_below_ns = INLINE_BELOW_NS if inline else 0
        self._cost_ns = [UNKNOWN_NS] * SIZES
        self._closed = False

    def submit(self, call: ExecuteCall, done: Done) -> Cancel:
        """Execute inline where the measured cost of this size is small, else on a dispatcher thread."""
        inputs = call.inputs
        elements = 0
        for array in inputs.values():
            elements += array.size
        if self._texts:
            elements += self._text_bytes(inputs)
        size = elements.bit_length()
        expected_ns = self._cost_ns[size]
        if expected_ns < self._inline_below_ns:
            return self._run_inline(call, done, size, expected_ns)
        return self._dispatch(call, done, size)

    def submit_stream(self, call: ExecuteCall, emit: Callable[[Mapping[str, Array]], None], done: Done) -> Cancel:
        """Execute as `submit`: an ONNX model answers once."""
        return self.submit(call, done)

    async def close(self) -> None:
        """Let the session go; its memory is freed when the last running call ends. Idempotent."""
        self._execute = _closed
        self._inline_below_ns = 0
        self._closed = True

    def execute(self, call: ExecuteCall) -> ExecuteResult:
        """Execute now, on whatever thread this is. Never raises."""
        if len(call.inputs) != self._input_count:
            return self._explain(call, None)
        names = call.outputs or self._all_outputs
        try:
            return dict(zip(names, self._execute(names, call.inputs, None), strict=True))
        except Exception as error:  # as in submit
            return self._explain(call, error)

    def thread_result(self, size: int, taken_ns: int) -> None:
        """Take over on the loop what a thread measured; 0 = nothing was executed."""
        self.threaded_calls -= 1
        if taken_ns:
            old = self._cost_ns[size]
            # Downward at once: a first run pays allocations and is ten times dearer than the ones after it.
            self._cost_ns[size] = taken_ns if taken_ns < old else old + ((min(taken_ns, old * OUTLIER) - old) >> 3)

    def _run_inline(self, call: ExecuteCall, done: Done, size: int, expected_ns: int) -> Cancel:
        inputs = call.inputs
        if len(inputs) != self._input_count:
            done(self._explain(call, None))
            return nothing_to_cancel
        if self.slots != 1 and not self.threaded_calls:
            self.slots = 1
        names = call.outputs or self._all_outputs
        started_ns = monotonic_ns()
        if 0 < call.deadline_ns <= started_ns:
            done(_expired())
            return nothing_to_cancel
        try:
            values = self._execute(names, inputs, None)
        except Exception as error:  # onnxruntime raises a dozen types, UnicodeDecodeError and MemoryError among them
            done(self._explain(call, error))
            return nothing_to_cancel
        taken_ns = monotonic_ns() - started_ns
        if taken_ns > expected_ns * OUTLIER:
            taken_ns = expected_ns * OUTLIER
        self._cost_ns[size] = expected_ns + ((taken_ns - expected_ns) >> 3)
        done(dict(zip(names, values, strict=True)))
        return nothing_to_cancel

    def _dispatch(self, call: ExecuteCall, done: Done, size: int) -> Cancel:
        if self._closed:  # the threads may be gone
            done(self.execute(call))
            return nothing_to_cancel
        self.slots = self._thread_slots
        self.threaded_calls += 1
        job = Job(_ThreadCall(self, call, size), done, asyncio.get_running_loop())
        self._dispatchers.put(job)
        return job.cancel

    def _text_bytes(self, inputs: Mapping[str, Array]) -> int:
        try:
            return sum(sum(map(len, inputs[name].reshape(-1).tolist())) for name in self._texts)
        except (KeyError, TypeError):  # refused later, with its name
            return 0

    def _explain(self, call: ExecuteCall, error: Exception | None) -> ExecutionFailed:
        if isinstance(error, ExecutionFailed):
            return error
        fault = wrong_with(self.signature, call)
        if fault:
            return ExecutionFailed(fault, bad_input=True)
        if isinstance(error, UnicodeDecodeError):  # from an output, or from onnxruntime's own error text
            return ExecutionFailed("the model produced text that is not valid UTF-8")
        # The shapes fit, so INVALID_ARGUMENT comes from an operator that refused a value, such as an index; a
        # decoder that cannot read an image only says RUNTIME_EXCEPTION.
        text = clean(error) if error else "failed"
        refused = type(error).__name__ == "InvalidArgument" or "DecodeImage" in text
        return ExecutionFailed(text, bad_input=refused)


class _ThreadCall:
    """A call while it is with a dispatcher thread."""

    __slots__ = ("_call", "_instance", "_size", "_taken_ns")

    def __init__(self, instance: OnnxInstance, call: ExecuteCall, size: int) -> None:
        self._instance = instance
        self._call = call
        self._size = size
        self._taken_ns = 0

    def execute(self) -> ExecuteResult:
        if 0 < self._call.deadline_ns <= monotonic_ns():
            return _expired()
        # Thread time, not wall time: after the run this thread may wait milliseconds for a busy loop's
        # interpreter lock, and a cheap model would then never come back inline.
        clock = self._instance.cpu_clock
        started_ns = clock()
        result = self._instance.execute(self._call)
        if not isinstance(result, ExecutionFailed):
            self._taken_ns = clock() - started_ns
        return result

    def delivered(self) -> None:
        self._instance.thread_result(self._size, self._taken_ns)


def _closed(*_: Any) -> list[Array]:
    raise ExecutionFailed("the model is closed")


def _expired() -> ExecutionFailed:
    return ExecutionFailed("the deadline passed before execution started")
