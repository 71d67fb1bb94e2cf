"""A thousand small models in one process: threads stay as many as for one, and all of them answer."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http.aio as triton
from onnx import TensorProto, helper

pytestmark = pytest.mark.soak

MODELS = 1000


def small_model():
    """Y = X . W, four numbers to two."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["Y"])],
        "small",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor("W", TensorProto.FLOAT, [4, 2], range(8))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def repository(root, count):
    for number in range(count):
        (root / f"small{number:04}/1").mkdir(parents=True)
        (root / f"small{number:04}/1/model.onnx").write_bytes(small_model())
    return root


def threads(gateway):
    return len(list(Path(f"/proc/{gateway.process.pid}/task").iterdir()))


async def ask_all(gateway, count):
    x = np.ones((1, 4), np.float32)
    async with triton.InferenceServerClient(gateway.http) as client:

        async def ask(number):
            tensor = triton.InferInput("X", [1, 4], "FP32")
            tensor.set_data_from_numpy(x)
            return (await client.infer(f"small{number:04}", [tensor])).as_numpy("Y").tolist()

        answers = await asyncio.gather(*(ask(number) for number in range(count)))
    assert answers == [[[12, 16]]] * count


def resident_mb(gateway):
    return int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]) * 4096 / 1e6


async def test_a_thousand_models_share_their_threads(start_gateway, tmp_path):
    figures = {}
    for count in (1, MODELS):
        started = time.monotonic()
        gateway = start_gateway(repository(tmp_path / str(count), count))
        start_s = time.monotonic() - started
        await ask_all(gateway, count)
        figures[count] = threads(gateway)
        print(
            f"\n{count} models: ready in {start_s:.1f} s, {figures[count]} threads, "
            f"{resident_mb(gateway):.0f} MB resident"
        )
        assert gateway.stop() == 0
    assert figures[MODELS] <= figures[1] + 2
