"""Large binary bodies go past the parser into aligned memory: nothing about the answer may show it."""

import gc
import gzip
import json
import weakref

import numpy as np
import pytest

from gateway.protocols.exchange import BRIDGE_PATH

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


async def test_requests_behind_a_known_large_head_get_their_own_answers(client, wire, tensor):
    for n in range(5):
        assert np.array_equal(tensor_of(await client.ask(request_of(wire, tensor + n))), tensor + n)


@pytest.mark.parametrize("size", [150, 7_777, 65_536, 1 << 20])
async def test_known_large_heads_in_pieces_or_in_company_are_read_as_ever(client, wire, tensor, size):
    """Small, large and large again, cut anywhere: also within a head, and a message's end with the next one's head."""
    small = wire.post(wire.document())
    for _ in range(2):
        tensor_of(await client.ask(request_of(wire, tensor)))
    stream = request_of(wire, tensor + 1) + small + request_of(wire, tensor + 2) + request_of(wire, tensor + 3) + small
    for at in range(0, len(stream), size):
        client.send(stream[at : at + size])
        await client.writer.drain()
    assert np.array_equal(tensor_of(await client.answer()), tensor + 1)
    assert (await client.answer()).json["outputs"][0]["data"] == [1, 2, 3, 4]
    assert np.array_equal(tensor_of(await client.answer()), tensor + 2)
    assert np.array_equal(tensor_of(await client.answer()), tensor + 3)
    assert (await client.answer()).json["outputs"][0]["data"] == [1, 2, 3, 4]
    assert np.array_equal(tensor_of(await client.ask(request_of(wire, tensor + 4))), tensor + 4)


async def test_other_requests_after_a_large_one_are_served_as_ever(client, wire, tensor):
    for _ in range(3):
        tensor_of(await client.ask(request_of(wire, tensor)))
        assert (await client.ask(wire.head(method="GET", path="/v2"))).status == 200
        other = request_of(wire, tensor).replace(b"/v2/models/wide/", b"/v2/models/nope/")
        assert (await client.ask(other)).status == 404
        assert (await client.ask(wire.post(wire.document()))).json["outputs"][0]["data"] == [1, 2, 3, 4]


async def test_garbage_after_a_large_request_is_refused(client, wire, tensor):
    for _ in range(2):
        tensor_of(await client.ask(request_of(wire, tensor)))
    answer = await client.ask(b"\x00garbage\r\n\r\n" * 50)
    assert answer.status == 400
    assert answer.closes


async def test_client_that_leaves_within_a_known_large_message_returns_its_bytes(served, client, wire, tensor):
    request = request_of(wire, tensor)
    for _ in range(2):
        tensor_of(await client.ask(request))
    client.send(request[:300_000])
    await client.writer.drain()
    await served.until(lambda: served.service.byte_budget.used > 0)
    client.abort()
    await served.until(lambda: served.service.byte_budget.used == 0)
    assert served.service.in_flight == 0


async def test_budget_holds_for_known_large_heads_too(served, client, wire, tensor):
    request = request_of(wire, tensor)
    for _ in range(2):
        tensor_of(await client.ask(request))
    budget = served.service.byte_budget
    limit, budget.limit = budget.limit, 1
    taken = budget.take(1)
    try:
        answer = await client.ask(request)
    finally:
        budget.give(1)
        budget.limit = limit
    assert taken
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"


async def test_large_head_inside_a_body_is_no_request(served, client, wire, tensor):
    """The body of another message that looks like the known one, alone in its segment."""
    request = request_of(wire, tensor)
    for _ in range(2):
        tensor_of(await client.ask(request))
    client.send(wire.head(f"Content-Length: {len(request)}"))
    await client.writer.drain()
    client.send(request)
    assert (await client.answer()).status == 400  # a head is no JSON
    assert np.array_equal(tensor_of(await client.ask(request)), tensor)


async def test_known_large_head_waits_behind_answers_that_are_due(served, client, wire, tensor, plane):
    """Behind one of the hot path and one of the ASGI path (compressed), both held by their model."""
    request = request_of(wire, tensor)
    for _ in range(2):
        tensor_of(await client.ask(request))
    packed = wire.post(gzip.compress(wire.document()), "Content-Encoding: gzip", path=wire.GATE)
    for held in (wire.post(wire.document(), path=wire.GATE), packed):
        client.send(held)
        await served.until(lambda: plane.gate.held)
        client.send(request)
        await served.until(lambda: any(connection.received > 1000 for connection in served.connections))
        plane.gate.release()
        assert (await client.answer()).json["outputs"][0]["data"] == [1, 2, 3, 4]
        assert np.array_equal(tensor_of(await client.answer()), tensor)


@pytest.mark.parametrize("hot_path", [True], indirect=True)  # uvicorn's own cycles need the collector
async def test_a_closed_connection_that_brought_a_large_body_is_freed_without_a_collector(served, wire, tensor):
    gc.collect()
    gc.disable()
    try:
        client = await served.connect()
        tensor_of(await client.ask(request_of(wire, tensor)))
        watched = [weakref.ref(connection) for connection in served.connections]
        client.abort()
        await served.until(lambda: not served.connections)
        await served.until(lambda: all(seen() is None for seen in watched))
    finally:
        gc.enable()


async def test_a_known_head_is_refused_in_the_form_of_its_own_path(served, client, wire, tensor):
    """Between the known heads a call of another path and form, in pieces, so that it is not learned."""
    small, large = wire.post(wire.document()), request_of(wire, tensor)
    bridged = wire.post(b"\x0a\x04nope", "Content-Type: application/x-protobuf", path=BRIDGE_PATH.decode())
    budget = served.service.byte_budget
    for request in (large, small):
        for _ in range(2):
            assert (await client.ask(request)).status == 200
        client.send(bridged[:-3])
        await client.writer.drain()
        await served.until(lambda: served.seen(url=BRIDGE_PATH))
        client.send(bridged[-3:])
        assert (await client.answer()).status == 404
    limit, budget.limit = budget.limit, 1
    budget.take(1)
    try:
        answer = await client.ask(small)
    finally:
        budget.give(1)
        budget.limit = limit
    assert answer.status == 503
    assert "too many request bytes" in answer.error


@pytest.mark.parametrize("hot_path", [True], indirect=True)
@pytest.mark.parametrize("size", ["small", "large"])
async def test_what_nobody_foresaw_behind_a_known_head_is_a_500_and_returns_its_bytes(
    served, client, wire, tensor, size, monkeypatch, caplog
):
    request = wire.post(wire.document()) if size == "small" else request_of(wire, tensor)
    for _ in range(2):
        assert (await client.ask(request)).status == 200

    def broken(*_):
        raise KeyError("x")

    monkeypatch.setattr("gateway.protocols.v2.decode_request", broken)
    answer = await client.ask(request)
    assert answer.status == 500
    assert answer.error == "internal error"
    assert answer.closes
    assert served.service.byte_budget.used == 0
    assert "KeyError" in caplog.text
