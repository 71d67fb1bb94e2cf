"""The runtime that answers with its inputs: deterministic, with scripted delay, failure and streaming.

For tests, docs and dry runs. The artefact is a JSON file (`Script`); each output mirrors one input: INPUT0 comes
back as OUTPUT0, and an input whose name lacks INPUT as OUTPUT_<position>. Delays are timers on the loop: no threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from runtimes.base import (
    DTYPES,
    Array,
    Cancel,
    Done,
    ExecuteCall,
    ExecuteResult,
    ExecutionFailed,
    LoadFailed,
    LoadOptions,
    ModelFacts,
    ModelSignature,
    ModelSource,
    TensorSpec,
    nothing_to_cancel,
)
from runtimes.check import wrong_with

Emit = Callable[[Mapping[str, Array]], None]


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the JSON artefact may hold.

    `inputs` are "NAME:DATATYPE:DIMS", as in "INPUT0:FP32:-1,4" (a scalar has no dims: "S:INT64:"). Delay is
    `delay_ns` + rows x `delay_ns_per_row`, rows being the first input's first dimension. Every `fail_every`th
    execution fails (0 = none). A streamed call gets `parts` answers: all but the last by `emit`, `delay_ns` apart.
    The request parameters `echo_fail` ("runtime" or "bad_input") and `echo_parts` script one call.
    """

    inputs: tuple[str, ...]
    delay_ns: int = 0
    delay_ns_per_row: int = 0
    fail_every: int = 0
    parts: int = 1
    row_dependence: str = ""
    metadata: dict[str, str] = {}


class EchoRuntime:
    """See `runtimes.base.Runtime`. Takes the thread counts every runtime takes and starts no thread."""

    def __init__(self, *, executor_threads: int = 0, intra_op_threads: int = 1) -> None:
        self._slots = executor_threads or 1

    def inspect(self, source: ModelSource, options: LoadOptions) -> ModelFacts:
        """Read the script. Raises LoadFailed."""
        script = _read(source, options)
        return ModelFacts(
            signature=_signature(script),
            platform="echo",
            row_independent=not script.row_dependence,
            row_dependence=script.row_dependence,
            metadata=MappingProxyType(script.metadata),
        )

    def load(self, source: ModelSource, options: LoadOptions) -> EchoInstance:
        """Read the script and be ready."""
        script = _read(source, options)
        return EchoInstance(script, _signature(script), slots=options.instances or self._slots)

    def close(self) -> None:
        """Do nothing: there are no threads."""


class EchoInstance:
    """See `runtimes.base.Instance`. Answers in `submit` itself where the script has no delay.

    `executions` counts calls that began to execute (refused, expired and closed ones did not), `rows` their rows.
    """

    def __init__(self, script: Script, signature: ModelSignature, *, slots: int) -> None:
        self.signature = signature
        self.slots = slots
        self.executions = 0
        self.rows = 0
        self._script = script
        self._closed = False
        self._renamed = {out.name: into.name for out, into in zip(signature.outputs, signature.inputs, strict=True)}

    def submit(self, call: ExecuteCall, done: Done) -> Cancel:
        """Answer with the inputs after the scripted delay."""
        return self._start(call, None, done)

    def submit_stream(self, call: ExecuteCall, emit: Emit, done: Done) -> Cancel:
        """Answer in the scripted number of parts, each holding all wanted outputs."""
        return self._start(call, emit, done)

    async def close(self) -> None:
        """Refuse calls from now on."""
        self._closed = True

    def _start(self, call: ExecuteCall, emit: Emit | None, done: Done) -> Cancel:
        refused = self._refuse(call)
        if refused is not None:
            done(refused)
            return nothing_to_cancel
        rows = _rows(call)
        self.executions += 1
        self.rows += rows
        result = self._result(call)
        parts = 1 if emit is None or isinstance(result, ExecutionFailed) else self._parts(call)
        delay_ns = self._script.delay_ns + rows * self._script.delay_ns_per_row
        if delay_ns == 0 and parts == 1:
            done(result)
            return nothing_to_cancel
        return _Playback(result, emit, done).start(delay_ns, parts)

    def _refuse(self, call: ExecuteCall) -> ExecutionFailed | None:
        if self._closed:
            return ExecutionFailed("the model is closed")
        if 0 < call.deadline_ns <= time.monotonic_ns():
            return ExecutionFailed("the deadline passed before execution started")
        fault = wrong_with(self.signature, call)
        return ExecutionFailed(fault, bad_input=True) if fault else None

    def _result(self, call: ExecuteCall) -> ExecuteResult:
        asked = call.parameters.get("echo_fail", "")
        if asked:
            return ExecutionFailed("scripted failure", bad_input=asked == "bad_input")
        if self._script.fail_every and self.executions % self._script.fail_every == 0:
            return ExecutionFailed("scripted failure")
        # Copies: the caller may reuse the memory of its inputs once the call is over.
        return {name: call.inputs[self._renamed[name]].copy() for name in call.outputs or self._renamed}

    def _parts(self, call: ExecuteCall) -> int:
        asked = call.parameters.get("echo_parts", self._script.parts)
        return max(1, asked) if isinstance(asked, int) else self._script.parts


class _Playback:
    """A call that answers over time: one timer per part, the last one calls `done`."""

    __slots__ = ("_delay_s", "_done", "_emit", "_left", "_loop", "_over", "_result", "_timer")

    def __init__(self, result: ExecuteResult, emit: Emit | None, done: Done) -> None:
        self._result = result
        self._emit = emit
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._over = False

    def start(self, delay_ns: int, parts: int) -> Cancel:
        self._delay_s = delay_ns / 1e9
        self._left = parts
        self._arm()
        return self._cancel

    def _arm(self) -> None:
        self._timer: asyncio.Handle = self._loop.call_later(self._delay_s, self._step)

    def _step(self) -> None:
        self._left -= 1
        if self._left and self._emit is not None and not isinstance(self._result, ExecutionFailed):
            self._emit(self._result)
            if not self._over:  # the receiver may have cancelled in `emit`
                self._arm()
        else:
            self._over = True
            self._done(self._result)

    def _cancel(self) -> None:
        if not self._over:
            self._over = True
            self._timer.cancel()
            self._loop.call_soon(self._done, ExecutionFailed("cancelled"))


def _rows(call: ExecuteCall) -> int:
    for array in call.inputs.values():
        return int(array.shape[0]) if array.ndim else 1
    return 0


def _read(source: ModelSource, options: LoadOptions) -> Script:
    name = source.path.name
    if options.extra or options.custom_ops or options.device != "cpu":
        raise LoadFailed("the echo runtime takes no options, custom operators or device: its script is the file")
    try:
        return msgspec.json.decode(source.path.read_bytes(), type=Script)
    except OSError as error:
        raise LoadFailed(f"{name}: cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LoadFailed(f"{name}: is not an echo script ({error})") from error


def _signature(script: Script) -> ModelSignature:
    inputs = tuple(_spec(text) for text in script.inputs)
    outputs = tuple(
        TensorSpec(_output_name(spec.name, position), spec.datatype, spec.shape) for position, spec in enumerate(inputs)
    )
    for specs in (inputs, outputs):
        if not specs or len({spec.name for spec in specs}) != len(specs):
            raise LoadFailed("echo script: inputs must be at least one, and differ in name")
    return ModelSignature(inputs, outputs)


def _spec(text: str) -> TensorSpec:
    name, _, rest = text.partition(":")
    datatype, colon, dims = rest.partition(":")
    try:
        shape = tuple(int(dim) for dim in dims.split(",")) if dims else ()
    except ValueError:
        shape = (-2,)
    if not name or datatype not in DTYPES or not colon or any(dim < -1 for dim in shape):
        raise LoadFailed(f"echo script: input {text!r} must be NAME:DATATYPE:DIMS, as in 'INPUT0:FP32:-1,4'")
    return TensorSpec(name, datatype, shape)


def _output_name(name: str, position: int) -> str:
    return name.replace("INPUT", "OUTPUT") if "INPUT" in name else f"OUTPUT_{position}"
