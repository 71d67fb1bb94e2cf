"""Large binary bodies go past the parser into aligned memory: nothing about the answer may show it."""

import json

import numpy as np
import pytest

WIDTH = 40_000  # 4 rows of FP32: 640 KB


@pytest.fixture
def tensor():
    return np.arange(WIDTH * 4, dtype=np.float32).reshape(4, WIDTH)


def request_of(wire, tensor, *lines):
    """A binary request for the echo model, its answer binary too."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "INPUT0",
                    "shape": list(tensor.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": tensor.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return wire.post(
        head + tensor.tobytes(), f"Inference-Header-Content-Length: {len(head)}", *lines, path="/v2/models/wide/infer"
    )


def tensor_of(answer):
    assert answer.status == 200, answer.body[:500]
    return np.frombuffer(answer.body[int(answer.headers["inference-header-content-length"]) :], "<f4").reshape(4, -1)


@pytest.mark.parametrize("size", [7_777, 65_536, 1 << 20])
async def test_every_byte_arrives_whatever_the_segments(client, wire, tensor, size):
    stream = request_of(wire, tensor) + request_of(wire, tensor + 1) + wire.post(wire.document())
    for at in range(0, len(stream), size):
        client.send(stream[at : at + size])
        await client.writer.drain()
    assert np.array_equal(tensor_of(await client.answer()), tensor)
    assert np.array_equal(tensor_of(await client.answer()), tensor + 1)
    assert (await client.answer()).json["outputs"][0]["data"] == [1, 2, 3, 4]


async def test_connection_close_ends_behind_a_large_body(client, wire, tensor):
    client.send(request_of(wire, tensor, "Connection: close"), wire.post(wire.document()))
    answer = await client.answer()
    assert np.array_equal(tensor_of(answer), tensor)
    assert answer.closes
    assert await client.rest() == b""


async def test_client_that_leaves_in_the_middle_returns_its_bytes(served, client, wire, tensor):
    client.send(request_of(wire, tensor)[:300_000])
    await client.writer.drain()
    await served.until(lambda: served.service.byte_budget.used > 0)
    client.abort()
    await served.until(lambda: served.service.byte_budget.used == 0)
    assert served.service.in_flight == 0


async def test_size_that_does_not_fit_the_shape_is_named(client, wire, tensor):
    request = request_of(wire, tensor).replace(b'"shape": [4, 40000]', b'"shape": [3, 40000]')
    answer = await client.ask(request)
    assert answer.status == 400
    assert "input byte size mismatch for input 'INPUT0'" in answer.error
