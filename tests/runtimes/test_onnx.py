"""What is ONNX Runtime's own: threads, sessions, strings, custom operators, devices."""

import asyncio
import gc
import os
import weakref

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtimes.base import ExecuteCall, ExecutionFailed, LoadFailed, LoadOptions


def threads():
    return len(os.listdir("/proc/self/task"))


def mlp(build, width=256):
    rng = np.random.default_rng(7)
    weights = [rng.standard_normal((width, width), np.float32) / 16 for _ in range(2)]
    return build.model(
        [
            helper.make_node("MatMul", ["x", "w0"], ["h"]),
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("MatMul", ["t", "w1"], ["l"]),
            helper.make_node("Softmax", ["l"], ["y"], axis=1),
        ],
        [build.value("x", "FP32", (-1, width))],
        [build.value("y", "FP32", (-1, width))],
        [numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(weights)],
    )


def counting_loop(build):
    """y = x after n rounds: the same input size, but as dear as n says."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["cond"], ["go_on"]), helper.make_node("Neg", ["v"], ["w"])],
        "body",
        [build.value("i", "INT64", ()), build.value("cond", "BOOL", ()), build.value("v", "FP32", (1,))],
        [build.value("go_on", "BOOL", ()), build.value("w", "FP32", (1,))],
    )
    return build.model(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        [build.value("n", "INT64", ()), build.value("x", "FP32", (1,))],
        [build.value("y", "FP32", (1,))],
    )


async def submit(instance, outcome, inputs):
    """Return whether the call was answered inline, and its result."""
    done = outcome()
    instance.submit(ExecuteCall(inputs), done)
    inline = bool(done.results)
    return inline, await done.result()


async def prime(instance, outcome, inputs, rounds=12):
    for _ in range(rounds):
        inline, _ = await submit(instance, outcome, inputs)
    return inline


async def test_result_equals_plain_onnxruntime_bit_for_bit(onnx_runtime, build, saved, run):
    source = saved(mlp(build))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    plain = ort.InferenceSession(source.path, options, providers=["CPUExecutionProvider"])
    instance = onnx_runtime.load(source, LoadOptions())
    rng = np.random.default_rng(1)

    for rows in (1, 2, 7, 32, 1, 64, 1):
        x = rng.standard_normal((rows, 256), np.float32)
        result = await run(instance, {"x": x})
        assert result["y"].tobytes() == plain.run(["y"], {"x": x})[0].tobytes()


def test_thread_count_stays_flat_over_300_models(onnx_runtime, build, saved):
    source = saved(mlp(build, width=8))
    instances = [onnx_runtime.load(source, LoadOptions())]
    before = threads()

    instances += [onnx_runtime.load(source, LoadOptions()) for _ in range(300)]

    assert threads() == before


@pytest.mark.parametrize("asked", [{"threads": 3}, {"extra": {"intra_op_thread_count": "3"}}])
def test_own_threads_are_per_model_and_end_with_it(onnx_runtime, build, saved, asked):
    source = saved(mlp(build, width=8))
    onnx_runtime.load(source, LoadOptions())
    before = threads()

    own = onnx_runtime.load(source, LoadOptions(**asked))
    assert threads() == before + 2  # the third is the caller's

    asyncio.run(own.close())
    gc.collect()
    assert threads() == before


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"thread_count": "3"}, "option 'thread_count' is unknown .* known is 'intra_op_thread_count'"),
        ({"intra_op_thread_count": "many"}, "whole number from 0 to 1024, got 'many'"),
        ({"intra_op_thread_count": "-1"}, "got '-1'"),
        ({"intra_op_thread_count": "99999"}, "got '99999'"),
    ],
)
def test_options_are_strict(onnx_runtime, build, saved, extra, said):
    source = saved(build.identity(("FP32", (1,))))

    for ask in (onnx_runtime.inspect, onnx_runtime.load):
        with pytest.raises(LoadFailed, match=said):
            ask(source, LoadOptions(extra=extra))


async def test_session_is_released_on_close(onnx_runtime, build, saved):
    instance = onnx_runtime.load(saved(build.identity(("BYTES", (-1,)))), LoadOptions())
    session = weakref.ref(instance._execute)

    await instance.close()
    gc.collect()

    assert session() is None


async def test_cheap_calls_move_inline_and_dear_ones_stay_on_threads(onnx_runtime, build, saved, outcome):
    instance = onnx_runtime.load(saved(mlp(build)), LoadOptions())
    small, large = {"x": np.ones((1, 256), np.float32)}, {"x": np.ones((4096, 256), np.float32)}

    inline, _ = await submit(instance, outcome, small)
    assert not inline  # nothing is known yet
    assert instance.slots == 2

    assert await prime(instance, outcome, small)
    assert instance.slots == 1

    assert not await prime(instance, outcome, large, rounds=3)
    assert instance.slots == 2

    inline, _ = await submit(instance, outcome, small)
    assert inline
    assert instance.slots == 1


async def test_model_that_becomes_dear_leaves_the_loop(onnx_runtime, build, saved, outcome):
    instance = onnx_runtime.load(saved(counting_loop(build)), LoadOptions())
    x = np.ones(1, np.float32)
    assert await prime(instance, outcome, {"n": np.array(1), "x": x})

    for _ in range(30):
        inline, _ = await submit(instance, outcome, {"n": np.array(5000), "x": x})
        if not inline:
            break

    assert not inline
    assert await prime(instance, outcome, {"n": np.array(1), "x": x})  # and comes back when cheap again


async def test_long_text_does_not_run_inline_because_short_text_does(onnx_runtime, build, saved, outcome):
    instance = onnx_runtime.load(saved(build.identity(("BYTES", (-1,)))), LoadOptions())
    assert await prime(instance, outcome, {"INPUT0": np.array([b"short"], np.object_)})

    inline, _ = await submit(instance, outcome, {"INPUT0": np.array([b"x" * 3_000_000], np.object_)})

    assert not inline


@pytest.mark.parametrize("element", [b"a\x00b", b"\x00", b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80"])
async def test_text_onnx_cannot_carry_is_refused_by_name(onnx_runtime, build, saved, run, element):
    instance = onnx_runtime.load(saved(build.identity(("FP32", (-1,)), ("BYTES", (-1,)))), LoadOptions())

    for _ in range(6):
        inputs = {"INPUT0": np.ones(1, np.float32), "INPUT1": np.array([b"fine", element], np.object_)}
        result = await run(instance, inputs)
        assert isinstance(result, ExecutionFailed)
        assert result.bad_input
        assert "input 'INPUT1'" in str(result)


async def test_text_beside_bf16_input_comes_back_exactly(onnx_runtime, build, saved, run):
    model = build.model(
        [helper.make_node("Cast", ["b"], ["f"], to=TensorProto.FLOAT), helper.make_node("Identity", ["t"], ["u"])],
        [build.value("b", "BF16", (-1,)), build.value("t", "BYTES", (-1,))],
        [build.value("f", "FP32", (-1,)), build.value("u", "BYTES", (-1,))],
    )
    instance = onnx_runtime.load(saved(model), LoadOptions())
    text = np.array(["\u00fc".encode(), b""], np.object_)

    result = await run(instance, {"b": np.array([0x3F80, 0xC000], np.uint16), "t": text})

    assert result["f"].tolist() == [1.0, -2.0]
    assert result["u"].tolist() == text.tolist()


async def test_text_output_beside_bf16_output_comes_back_exactly(onnx_runtime, build, saved, run):
    model = build.model(
        [helper.make_node("Identity", ["b"], ["c"]), helper.make_node("Constant", [], ["t"], value_strings=["\u00fc"])],
        [build.value("b", "BF16", (-1,)), build.value("h", "FP16", (-1,))],
        [build.value("c", "BF16", (-1,)), build.value("t", "BYTES", (1,))],
    )
    instance = onnx_runtime.load(saved(model), LoadOptions())

    result = await run(instance, {"b": np.array([1, 0xFFFF], np.uint16), "h": np.ones(1, np.float16)})

    assert result["c"].tolist() == [1, 0xFFFF]
    assert result["t"].tolist() == ["\u00fc".encode()]


def test_text_into_a_model_with_bf16_out_is_refused_at_load(onnx_runtime, build, saved):
    source = saved(build.identity(("BF16", (-1,)), ("BYTES", (-1,))))

    for ask in (onnx_runtime.inspect, onnx_runtime.load):
        with pytest.raises(LoadFailed, match="BYTES input 'INPUT1' and give BF16 output 'OUTPUT0'"):
            ask(source, LoadOptions())


@pytest.mark.parametrize("element", ["text", 7, None])
async def test_elements_that_are_not_bytes_are_refused_by_name(onnx_runtime, build, saved, run, element):
    instance = onnx_runtime.load(saved(build.identity(("BYTES", (-1,)))), LoadOptions())

    result = await run(instance, {"INPUT0": np.array([element], np.object_)})

    assert isinstance(result, ExecutionFailed)
    assert result.bad_input
    assert "INPUT0" in str(result)


async def test_wrong_dtype_for_bf16_is_the_callers_fault(onnx_runtime, build, saved, run):
    instance = onnx_runtime.load(saved(build.identity(("BF16", (-1,)))), LoadOptions())

    result = await run(instance, {"INPUT0": np.ones(2, np.float32)})

    assert isinstance(result, ExecutionFailed)
    assert result.bad_input


async def test_value_an_operator_refuses_is_the_callers_fault(onnx_runtime, build, saved, run):
    table = numpy_helper.from_array(np.arange(5, dtype=np.float32), "t")
    model = build.model(
        [helper.make_node("Gather", ["t", "i"], ["y"])],
        [build.value("i", "INT64", (-1,))],
        [build.value("y", "FP32", (-1,))],
        [table],
    )
    instance = onnx_runtime.load(saved(model), LoadOptions())

    result = await run(instance, {"i": np.array([10])})

    assert isinstance(result, ExecutionFailed)
    assert result.bad_input
    assert "Gather" in str(result)
    assert "onnxruntime_src" not in str(result)


async def test_failure_inside_the_model_is_not_the_callers_fault(onnx_runtime, build, saved, run):
    model = build.model(
        [helper.make_node("Reshape", ["x", "s"], ["y"])],
        [build.value("x", "FP32", (-1,)), build.value("s", "INT64", (-1,))],
        [build.value("y", "FP32", (-1, -1))],
    )
    instance = onnx_runtime.load(saved(model), LoadOptions())

    result = await run(instance, {"x": np.ones(6, np.float32), "s": np.array([4, 4])})

    assert isinstance(result, ExecutionFailed)
    assert not result.bad_input
    assert "Reshape" in str(result)
    assert "onnxruntime_src" not in str(result)


async def test_missing_input_is_refused_inline_too(onnx_runtime, build, saved, outcome):
    # The native session does not look: it would run the graph with a hole in it.
    instance = onnx_runtime.load(saved(build.identity(("FP32", (-1,)), ("FP32", (-1,)))), LoadOptions())
    one, two = np.ones(1, np.float32), np.ones(2, np.float32)
    assert await prime(instance, outcome, {"INPUT0": one, "INPUT1": two})

    for inputs in ({"INPUT0": two}, {"INPUT0": one, "OTHER": two}):
        inline, result = await submit(instance, outcome, inputs)
        assert inline
        assert isinstance(result, ExecutionFailed)
        assert result.bad_input


async def test_expired_call_is_refused_inline_too(onnx_runtime, build, saved, outcome):
    instance = onnx_runtime.load(saved(build.identity(("FP32", (-1,)))), LoadOptions())
    inputs, done = {"INPUT0": np.ones(1, np.float32)}, outcome()
    assert await prime(instance, outcome, inputs)

    instance.submit(ExecuteCall(inputs, deadline_ns=1), done)

    assert "deadline" in str(done.results[0])


async def test_text_output_that_is_not_utf8_is_the_models_fault(onnx_runtime, build, saved, run):
    tensor = helper.make_tensor("c", TensorProto.STRING, [1], [b"caf\xe9"])
    model = build.model([helper.make_node("Constant", [], ["y"], value=tensor)], [], [build.value("y", "BYTES", (1,))])
    instance = onnx_runtime.load(saved(model), LoadOptions())

    result = await run(instance, {})

    assert isinstance(result, ExecutionFailed)
    assert not result.bad_input
    assert "not valid UTF-8" in str(result)


async def test_model_without_inputs_executes(onnx_runtime, build, saved, run):
    constant = numpy_helper.from_array(np.array([3.0], np.float32))
    model = build.model([helper.make_node("Constant", [], ["y"], value=constant)], [], [build.value("y", "FP32", (1,))])
    instance = onnx_runtime.load(saved(model), LoadOptions())

    for _ in range(6):
        assert (await run(instance, {}))["y"].tolist() == [3.0]


# A thread of the dispatchers held fast, to see what happens to the jobs behind it.
