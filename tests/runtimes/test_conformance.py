"""What every runtime must do, whatever executes behind it."""

import asyncio
import threading
import time

import numpy as np
import pytest

from runtimes.base import ExecuteCall, ExecutionFailed, Instance, LoadFailed, LoadOptions, ModelSource, Runtime

ROW = ("FP32", (-1, 4))


def rows(count, start=0):
    return np.arange(start, start + count * 4, dtype=np.float32).reshape(count, 4)


def test_seams_are_met(kit):
    assert isinstance(kit.runtime, Runtime)
    assert isinstance(kit.load(ROW), Instance)


def test_inspect_tells_names_datatypes_and_shapes(kit, sample):
    datatype, _ = sample

    signature = kit.runtime.inspect(kit.source((datatype, (-1, 2)), ("INT64", ())), LoadOptions()).signature

    assert [(s.name, s.datatype, s.shape) for s in signature.inputs] == [
        ("INPUT0", datatype, (-1, 2)),
        ("INPUT1", "INT64", ()),
    ]
    assert [(s.name, s.datatype, s.shape) for s in signature.outputs] == [
        ("OUTPUT0", datatype, (-1, 2)),
        ("OUTPUT1", "INT64", ()),
    ]


async def test_datatype_comes_back_bit_for_bit(kit, sample, run):
    datatype, array = sample
    instance = kit.load((datatype, (-1, 2)))

    for _ in range(6):  # on threads first, then inline where the runtime does that
        result = await run(instance, {"INPUT0": array})
        assert list(result) == ["OUTPUT0"]
        output = result["OUTPUT0"]
        assert output.dtype == array.dtype
        assert output.shape == array.shape
        if datatype == "BYTES":
            assert output.tolist() == array.tolist()
        else:
            assert output.tobytes() == array.tobytes()


async def test_zero_rows_give_zero_rows(kit, sample, run):
    datatype, array = sample
    instance = kit.load((datatype, (-1, 2)))

    result = await run(instance, {"INPUT0": array[:0]})

    assert result["OUTPUT0"].shape == (0, 2)
    assert result["OUTPUT0"].dtype == array.dtype


async def test_scalar_keeps_its_shape(kit, run):
    result = await run(kit.load(("INT64", ())), {"INPUT0": np.array(7, np.int64)})

    assert result["OUTPUT0"].shape == ()
    assert result["OUTPUT0"] == 7


async def test_inputs_may_be_read_only_and_are_not_touched(kit, run):
    array = np.frombuffer(rows(2).tobytes(), np.float32).reshape(2, 4)

    result = await run(kit.load(ROW), {"INPUT0": array})

    assert np.array_equal(result["OUTPUT0"], rows(2))
    assert np.array_equal(array, rows(2))
    assert not np.shares_memory(result["OUTPUT0"], array)


async def test_wanted_outputs_only_and_in_the_order_asked(kit, run):
    instance = kit.load(ROW, ROW, ROW)
    inputs = {f"INPUT{i}": rows(1, i) for i in range(3)}

    one = await run(instance, inputs, outputs=["OUTPUT1"])
    two = await run(instance, inputs, outputs=("OUTPUT2", "OUTPUT0"))
    every = await run(instance, inputs)

    assert list(one) == ["OUTPUT1"]
    assert np.array_equal(one["OUTPUT1"], rows(1, 1))
    assert list(two) == ["OUTPUT2", "OUTPUT0"]
    assert list(every) == ["OUTPUT0", "OUTPUT1", "OUTPUT2"]


@pytest.mark.parametrize("primed", [0, 8])
@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({}, (), "missing input 'INPUT0'"),
        ({"OTHER": rows(1)}, (), "unknown input 'OTHER'"),
        ({"INPUT0": rows(1), "OTHER": rows(1)}, (), "unknown input 'OTHER'"),
        ({"INPUT0": rows(1).astype(np.float64)}, (), "input 'INPUT0': expected FP32"),
        ({"INPUT0": rows(1)[:, :3].copy()}, (), r"expected shape \[-1, 4\], got \[1, 3\]"),
        ({"INPUT0": rows(1)[0]}, (), r"expected shape \[-1, 4\], got \[4\]"),
        ({"INPUT0": rows(1)}, ("NONE",), "unknown output 'NONE'"),
    ],
)
async def test_bad_call_is_the_callers_fault_and_named(kit, run, inputs, outputs, said, primed):
    instance = kit.load(ROW)
    for _ in range(primed):
        await run(instance, {"INPUT0": rows(1)})

    result = await run(instance, inputs, outputs=outputs)

    assert isinstance(result, ExecutionFailed)
    assert result.bad_input
    with pytest.raises(ExecutionFailed, match=said):
        raise result
    assert np.array_equal((await run(instance, {"INPUT0": rows(1)}))["OUTPUT0"], rows(1))


async def test_done_is_called_once_and_on_the_loop(kit, outcome):
    instance = kit.load(ROW)
    calls = [outcome() for _ in range(50)]

    cancels = [instance.submit(ExecuteCall({"INPUT0": rows(1, i)}), done) for i, done in enumerate(calls)]
    for i, done in enumerate(calls):
        assert np.array_equal((await done.result())["OUTPUT0"], rows(1, i))
    for cancel in cancels:  # too late: nothing more may come of it
        cancel()
        cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    await instance.close()

    assert [len(done.results) for done in calls] == [1] * 50
    assert {ident for done in calls for ident in done.threads} == {threading.get_ident()}


async def test_calls_of_different_sizes_do_not_mix_up(kit, run):
    instance = kit.load(ROW)
    sizes = [1, 17, 3, 256, 1, 40] * 10

    results = await asyncio.gather(*(run(instance, {"INPUT0": rows(size, i)}) for i, size in enumerate(sizes)))

    for i, (size, result) in enumerate(zip(sizes, results, strict=True)):
        assert np.array_equal(result["OUTPUT0"], rows(size, i))


async def test_cancelled_call_still_ends_exactly_once(kit, outcome):
    instance = kit.load(ROW)
    calls = [outcome() for _ in range(50)]

    for done in calls:
        cancel = instance.submit(ExecuteCall({"INPUT0": rows(1)}), done)
        cancel()
        cancel()
    results = [await done.result() for done in calls]
    for _ in range(5):
        await asyncio.sleep(0)

    assert [len(done.results) for done in calls] == [1] * 50
    for result in results:
        assert "OUTPUT0" in result if not isinstance(result, ExecutionFailed) else str(result) == "cancelled"


async def test_expired_call_is_refused(kit, run):
    instance = kit.load(ROW)
    for _ in range(8):
        result = await run(instance, {"INPUT0": rows(1)}, deadline_ns=time.monotonic_ns() - 1)
        assert isinstance(result, ExecutionFailed)
        assert "deadline" in str(result)
        result = await run(instance, {"INPUT0": rows(1)}, deadline_ns=time.monotonic_ns() + 60 * 10**9)
        assert np.array_equal(result["OUTPUT0"], rows(1))


async def test_stream_of_a_unary_model_is_one_answer(kit, outcome):
    parts, done = [], outcome()

    kit.load(ROW).submit_stream(ExecuteCall({"INPUT0": rows(1)}), parts.append, done)

    assert np.array_equal((await done.result())["OUTPUT0"], rows(1))
    assert parts == []


async def test_close_is_idempotent_and_refuses_calls(kit, run):
    instance = kit.load(ROW)
    await run(instance, {"INPUT0": rows(1)})

    await instance.close()
    await instance.close()
    kit.runtime.close()
    kit.runtime.close()

    result = await run(instance, {"INPUT0": rows(1)})
    assert isinstance(result, ExecutionFailed)
    assert "closed" in str(result)


def test_missing_file_is_a_load_failure_without_a_path(kit, tmp_path):
    source = ModelSource("m", "1", tmp_path / "model.none", tmp_path)

    for ask in (kit.runtime.inspect, kit.runtime.load):
        with pytest.raises(LoadFailed, match=r"model\.none: cannot be read") as caught:
            ask(source, LoadOptions())
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 64, b"{}", b"[1,2]", b"\xff\xfe" * 40])
def test_garbage_is_a_load_failure(kit, saved, content):
    source = saved(content)

    for ask in (kit.runtime.inspect, kit.runtime.load):
        with pytest.raises(LoadFailed, match=r"model\.onnx"):
            ask(source, LoadOptions())


async def test_instances_option_sets_the_slots(kit):
    assert kit.load(ROW, instances=3).slots == 3
    assert kit.load(ROW).slots == 2
