"""A head that was seen before on a connection is not parsed again: nothing about the answers may show it."""

import json

from gateway.dataplane.admission import AdmissionSettings


def values(answer):
    assert answer.status == 200, answer.body
    return answer.json["outputs"][0]["data"]


async def test_bodies_behind_the_same_head_get_their_own_answers(client, wire):
    for n in range(1, 8):
        assert values(await client.ask(wire.post(wire.document(n, 2, 3, 4)))) == [n, 2, 3, 4]


async def test_bad_body_behind_a_known_head_is_refused_and_the_next_is_served(client, wire):
    good = wire.document(1, 2, 3, 4)
    for _ in range(3):
        assert values(await client.ask(wire.post(good))) == [1, 2, 3, 4]
        assert (await client.ask(wire.post(b"x" * len(good)))).status == 400


async def test_known_head_in_pieces_or_in_company_is_read_as_ever(client, wire):
    request = wire.post(wire.document(5, 6, 7, 8))
    for _ in range(2):
        assert values(await client.ask(request)) == [5, 6, 7, 8]
    client.send(request[:-10])
    await client.writer.drain()
    client.send(request[-10:], request, request)
    for _ in range(3):
        assert values(await client.answer()) == [5, 6, 7, 8]


async def test_head_inside_a_body_is_no_request(client, wire):
    """The body of another message that looks like the known one, byte by byte and of the same size."""
    request = wire.post(wire.document(1, 2, 3, 4))
    for _ in range(2):
        assert values(await client.ask(request)) == [1, 2, 3, 4]
    client.send(wire.head(f"Content-Length: {len(request)}"))
    await client.writer.drain()
    client.send(request)
    assert (await client.answer()).status == 400  # a head is no JSON
    assert values(await client.ask(request)) == [1, 2, 3, 4]


async def test_other_path_of_the_same_length_is_another_head(client, wire):
    for _ in range(3):
        assert values(await client.ask(wire.post(wire.document()))) == [1, 2, 3, 4]
        answer = await client.ask(wire.post(wire.document(), path="/v2/models/nope/infer"))
        assert answer.status == 404
        assert "'nope'" in answer.error


async def test_known_head_waits_behind_a_request_of_the_asgi_path(client, wire):
    request = wire.post(wire.document(1, 2, 3, 4))
    for _ in range(2):
        assert values(await client.ask(request)) == [1, 2, 3, 4]
    client.send(wire.head(method="GET", path="/v2"))
    await client.writer.drain()
    client.send(request)
    assert json.loads((await client.answer()).body)["name"]
    assert values(await client.answer()) == [1, 2, 3, 4]


async def test_budget_holds_for_known_heads_too(served, client, wire, plane):
    request = wire.post(wire.document(), path=wire.GATE)
    for _ in range(2):
        client.send(request)
        await served.until(lambda: plane.gate.held)
        plane.gate.release()
        await client.answer()
    plane.service.byte_budget.limit = 1
    taken = plane.service.byte_budget.take(1)
    try:
        answer = await client.ask(request)
    finally:
        plane.service.byte_budget.give(1)
        plane.service.byte_budget.limit = AdmissionSettings().max_bytes_in_flight
    assert taken
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"


async def test_end_of_a_body_never_becomes_part_of_a_known_head(served, client, wire):
    """A body that ends like a head, and the next request behind it in one segment: sent again as a message of its
    own, the same bytes are what they say, a request for another model."""
    lure = b"POST /v2/models/nope/infer HTTP/1.1\r\nX-Rest: "
    request = wire.post(wire.document(1, 2, 3, 4))
    head = wire.head(f"Content-Length: {20 + len(lure)}")
    for _ in range(2):
        client.send(head, b"x" * 20)
        await served.until(lambda: served.seen(received=20))  # so that the lure begins a segment
        client.send(lure + request)
        assert (await client.answer()).status == 400
        assert values(await client.answer()) == [1, 2, 3, 4]
    answer = await client.ask(lure, request)
    assert answer.status == 404
    assert "'nope'" in answer.error
