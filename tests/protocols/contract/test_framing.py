"""How requests are cut out of the byte stream: keep-alive, pipelining, chunks, Expect, HTTP/1.0, ends."""

import asyncio
import resource

import pytest


def values(answer):
    assert answer.status == 200, answer
    return answer.json["outputs"][0]["data"]


async def test_a_connection_serves_many_requests(client, wire):
    for number in range(5):
        answer = await client.ask(wire.post(wire.document(number, 2, 3, 4)))
        assert values(answer) == [number, 2, 3, 4]
        assert not answer.closes


async def test_hot_and_asgi_answers_have_the_same_headers(client, wire):
    answer = await client.ask(wire.post(wire.document(), "X-Request-Id: r1", "X-Gateway-Timing: 1"))
    assert sorted(answer.headers) == [
        "content-length",
        "content-type",
        "date",
        "server-timing",
        "x-gateway-route",
        "x-gateway-version",
        "x-request-id",
    ]
    assert answer.body == (
        b'{"model_name":"echo","model_version":"1","outputs":[{"name":"OUTPUT0","datatype":"FP32","shape":[1,4],'
        b'"data":[1.0,2.0,3.0,4.0]}]}'
    )


async def test_bytes_may_come_one_by_one(client, wire):
    request = wire.post(wire.document())
    for at in range(len(request)):
        client.send(request[at : at + 1])
        await asyncio.sleep(0)
    assert values(await client.answer()) == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_chunked_bodies_are_served(client, wire, size):
    body = wire.chunked(wire.document(), size)
    for _ in range(2):
        answer = await client.ask(wire.head("Transfer-Encoding: chunked"), body)
        assert values(answer) == [1, 2, 3, 4]


async def test_chunk_extensions_and_trailers_are_dropped(client, wire):
    body = wire.document()
    answer = await client.ask(
        wire.head("Transfer-Encoding: chunked"),
        b'%x;a=1;b="2"\r\n%b\r\n0\r\n' % (len(body), body),
        b"Inference-Header-Content-Length: 7\r\nX-Request-Timeout-Ms: nonsense\r\nX-Request-Id: t\r\n\r\n",
    )
    assert values(answer) == [1, 2, 3, 4]
    assert "x-request-id" not in answer.headers


async def test_a_hundred_thousand_one_byte_chunks_cost_no_more_than_the_body(served, client, wire):
    body = wire.document(*[1] * 30_000, width=30_000)
    body = body + b" " * (100_000 - len(body) % 100_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await client.ask(
        wire.head("Transfer-Encoding: chunked", path="/v2/models/wide/infer"), wire.chunked(body, 1)
    )
    assert answer.status == 200
    # The bytes of both ends of the connection are in this process: 0.6 MB on the wire, each way of holding it.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
    assert served.service.byte_budget.used == 0


@pytest.mark.parametrize("expectation", ["100-continue", "100-Continue"])
async def test_expect_is_answered_before_the_body_comes(client, wire, expectation):
    body = wire.document()
    for _ in range(2):
        client.send(wire.head(f"Content-Length: {len(body)}", f"Expect: {expectation}"))
        assert await client.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        answer = await client.ask(body)
        assert values(answer) == [1, 2, 3, 4]


async def test_expect_behind_a_pending_answer_waits_its_turn(served, client, wire):
    body = wire.document(5, 6, 7, 8)
    client.send(wire.post(wire.document(), path=wire.GATE))
    await served.until(lambda: served.plane.gate.held)
    client.send(wire.head(f"Content-Length: {len(body)}", "Expect: 100-continue"))
    await served.until(lambda: served.seen(phase=2))
    served.plane.gate.release()
    first = await client.answer()
    assert (values(first), first.interim) == ([1, 2, 3, 4], [])
    assert await client.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert values(await client.ask(body)) == [5, 6, 7, 8]


async def test_expect_for_a_body_too_large_is_refused_without_continue(serve, wire):
    served = await serve(max_json_bytes=1000)
    client = await served.connect()
    answer = await client.ask(wire.head("Content-Length: 2000", "Expect: 100-continue"))
    assert (answer.status, answer.interim, answer.closes) == (413, [], True)


async def test_expect_of_an_unknown_path_leaves_no_ambiguity(client, wire):
    """Whether the client then sends its body or not, the connection must not take it for the next request."""
    client.send(wire.head("Content-Length: 5", "Expect: 100-continue", path="/nowhere"))
    answer = await client.answer()
    assert answer.status == 404
    assert answer.interim == [100] or answer.closes


async def test_pipelined_requests_are_answered_in_order(client, wire):
    count = 50
    client.send(*(wire.post(wire.document(n, 0, 0, 0)) for n in range(count)))
    assert [values(await client.answer())[0] for _ in range(count)] == list(range(count))


async def test_pipelined_requests_that_finish_out_of_order_are_answered_in_order(served, client, wire):
    client.send(
        wire.post(wire.document(1, 0, 0, 0), path=wire.GATE),
        wire.post(wire.document(2, 0, 0, 0)),
        wire.head(method="GET", path="/v2/health/live"),
        wire.post(wire.document(3, 0, 0, 0)),
        wire.post(b"{", path=wire.GATE),
        wire.head(method="GET", path="/nowhere"),
        wire.post(wire.document(4, 0, 0, 0)),
    )
    await served.until(lambda: served.plane.gate.held)
    served.plane.gate.release()
    answers = [await client.answer() for _ in range(7)]
    assert [a.status for a in answers] == [200, 200, 200, 200, 400, 404, 200]
    assert [values(answers[i])[0] for i in (0, 1, 3, 6)] == [1, 2, 3, 4]
    assert answers[2].json == {"live": True}


async def test_more_pipelined_requests_than_are_taken_at_once_are_all_answered(serve, wire):
    served = await serve(max_pipelined=4)
    client = await served.connect()
    count = 300
    for n in range(count):
        client.send(wire.post(wire.document(n, 0, 0, 0), path=wire.GATE))
        await asyncio.sleep(0)
    for n in range(count):
        answer = asyncio.ensure_future(client.answer())
        while not answer.done():
            served.plane.gate.release()
            await asyncio.sleep(0)
        assert values(answer.result())[0] == n


async def test_pipelined_large_bodies_are_not_taken_for_headers(client, wire):
    """The end of a body and the beginning of the next head share a segment."""
    body = wire.document() + b" " * 100_000
    request = wire.post(body)
    stream = request * 6
    for at in range(0, len(stream), 90_001):
        client.send(stream[at : at + 90_001])
        await asyncio.sleep(0)
    for _ in range(6):
        assert values(await client.answer()) == [1, 2, 3, 4]


async def test_connection_close_is_honoured(client, wire):
    answer = await client.ask(wire.post(wire.document(), "Connection: close"))
    assert values(answer) == [1, 2, 3, 4]
    assert answer.closes
    assert await client.rest() == b""


async def test_nothing_is_answered_behind_connection_close(served, client, wire):
    client.send(wire.post(wire.document(), "Connection: close"), wire.post(wire.document(), path=wire.GATE))
    assert values(await client.answer()) == [1, 2, 3, 4]
    assert await client.rest() == b""
    assert served.plane.gate.executions == 0


@pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",)])
async def test_http_1_0_is_answered_and_closed(client, wire, lines):
    answer = await client.ask(wire.post(wire.document(), *lines, version="1.0"))
    assert values(answer) == [1, 2, 3, 4]
    assert answer.closes
    assert await client.rest() == b""


async def test_http_1_0_needs_no_host(client, wire):
    body = wire.document()
    answer = await client.ask(b"POST /v2/models/echo/infer HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    assert values(answer) == [1, 2, 3, 4]


async def test_a_head_request_has_no_body(client, wire):
    client.send(wire.head(method="HEAD", path="/v2/health/live"), wire.post(wire.document()))
    answer = await client.answer(head=True)
    assert (answer.status, answer.headers["content-length"]) == (200, "13")
    assert values(await client.answer()) == [1, 2, 3, 4]


async def test_absolute_form_and_query_are_understood(client, wire):
    for path in ("http://gateway/v2/models/echo/infer", "/v2/models/echo/infer?x=1", "/v2/models/%65cho/infer"):
        assert values(await client.ask(wire.post(wire.document(), path=path))) == [1, 2, 3, 4]


async def test_a_client_gone_early_leaves_nothing(served, wire):
    request = wire.post(wire.document())
    for end in (1, 20, len(request) - 30, len(request) - 1):
        client = await served.connect()
        client.send(request[:end])
        await served.until(lambda: any(c.since_s for c in served.connections))
        client.abort()
    await served.until(lambda: not served.connections)
    await served.until(lambda: served.service.byte_budget.used == 0)
    assert served.plane.arrived == 0


async def test_a_half_closed_connection_counts_as_gone(served, client, wire):
    """As nginx does by default: FIN after the request cancels what is not answered yet."""
    client.send(wire.post(wire.document(), path=wire.GATE))
    await served.until(lambda: served.plane.gate.held)
    client.send(wire.post(wire.document(), path=wire.GATE))
    await served.until(lambda: served.service.in_flight or served.plane.arrived)
    client.writer.write_eof()
    assert await client.rest() == b""
    await served.until(lambda: served.service.in_flight == 0)


async def test_a_client_gone_while_queued_is_never_executed(served, wire):
    gate = served.plane.gate
    first, second, third = [await served.connect() for _ in range(3)]
    first.send(wire.post(wire.document(1, 0, 0, 0), path=wire.GATE))
    await served.until(lambda: gate.held)
    for waiting, number in ((second, 2), (third, 3)):
        waiting.send(wire.post(wire.document(number, 0, 0, 0), path=wire.GATE))
    await served.until(lambda: served.plane.arrived == 3)
    second.abort()
    await served.until(lambda: served.service.in_flight == 2)
    gate.release()
    assert values(await first.answer())[0] == 1
    await served.until(lambda: gate.held)
    gate.release()
    assert values(await third.answer())[0] == 3
    assert (gate.executions, gate.rows) == (2, 2)
    assert [record.code.name for record in served.plane.records].count("CANCELLED") == 1


async def test_a_client_gone_with_requests_pipelined_cancels_all_of_them(served, client, wire):
    gate = served.plane.gate
    client.send(*(wire.post(wire.document(n, 0, 0, 0), path=wire.GATE) for n in range(5)))
    await served.until(lambda: gate.held)
    client.abort()
    await served.until(lambda: not served.connections)
    await served.until(lambda: served.service.in_flight == 0)
    began = gate.rows
    gate.release()
    for _ in range(10):
        await asyncio.sleep(0)
    assert gate.rows == began
