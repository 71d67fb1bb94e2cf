"""Limits: refused before anything is kept, told in `{"error": ..}`; the answer arrives although the client sends on."""

import asyncio
import json

import pytest

from gateway.dataplane.admission import AdmissionSettings

LIMITS = {"max_body_bytes": 200_000, "max_json_bytes": 20_000, "max_header_bytes": 4096, "max_headers": 20}


@pytest.fixture
async def limited(serve):
    return await serve(**LIMITS, max_url_bytes=500)


@pytest.fixture
async def tight(limited):
    return await limited.connect()


async def refused(client, status, text):
    answer = await client.answer()
    assert (answer.status, answer.closes) == (status, True), answer
    assert text in answer.error
    assert await client.rest() == b""


async def test_a_header_too_large_is_refused_in_one_segment(tight, wire):
    tight.send(wire.head("Content-Length: 0", "X-Big: " + "x" * 4096))
    await refused(tight, 431, "header larger than 4096 bytes")


async def test_a_header_too_large_is_refused_before_it_ends(tight, wire):
    tight.send(wire.head()[:-2])
    for _ in range(200):
        tight.send(b"X-More: " + b"x" * 50 + b"\r\n")
        await asyncio.sleep(0)
    await refused(tight, 431, "header larger than 4096 bytes")


async def test_a_header_line_without_end_is_refused(tight, wire):
    tight.send(wire.head()[:-2], b"X-Big: ")
    for _ in range(50):
        tight.send(b"x" * 200)
        await asyncio.sleep(0)
    await refused(tight, 431, "header larger")


async def test_too_many_headers_are_refused(tight, wire):
    tight.send(wire.head(*(f"X-{n}: 1" for n in range(21))))
    await refused(tight, 431, "more than 20 headers")


async def test_a_repeated_header_counts(tight, wire):
    tight.send(wire.head(*["X: 1"] * 21))
    await refused(tight, 431, "more than 20 headers")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_target_too_long_is_refused(tight, wire, method):
    tight.send(wire.head(method=method, path="/" + "a" * 500))
    await refused(tight, 414, "request target longer than 500 bytes")


async def test_a_target_that_never_ends_is_refused(tight):
    tight.send(b"GET /")
    for _ in range(20):
        tight.send(b"a" * 100)
        await asyncio.sleep(0)
    await refused(tight, 414, "request target longer than 500 bytes")


async def test_json_too_large_names_the_binary_form(tight, wire):
    tight.send(wire.head("Content-Length: 20001"))
    await refused(tight, 413, "send tensors in the binary form (Inference-Header-Content-Length)")


async def test_json_too_large_in_chunks_is_refused_when_the_limit_is_met(tight, wire):
    tight.send(wire.head("Transfer-Encoding: chunked"))
    for _ in range(30):
        tight.send(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        await asyncio.sleep(0)
    await refused(tight, 413, "Inference-Header-Content-Length")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/v2/models/echo/infer", "Inference-Header-Content-Length: 10"),
        ("/v2/models/echo/infer", "Content-Encoding: gzip"),
        ("/v2/repository/index", "Content-Type: application/json"),
    ],
)
async def test_other_bodies_have_the_larger_limit(tight, wire, path, line):
    tight.send(wire.head("Content-Length: 200001", line, path=path))
    await refused(tight, 413, "larger than 200000 bytes")


@pytest.mark.parametrize("length", ["9" * 4000, "9" * 18, "-1", "x", "1.5", ""])
async def test_a_header_length_that_is_none_is_refused(served, wire, length):
    client = await served.connect()
    answer = await client.ask(wire.post(b" " * 100_000, f"Inference-Header-Content-Length: {length}"))
    assert answer.status in (400, 413)
    assert answer.error


@pytest.mark.parametrize("pieces", [1, 3, 50])
async def test_large_binary_bodies_follow_each_other(served, wire, pieces):
    client = await served.connect()
    size = 200_000
    tensor = {"name": "INPUT0", "shape": [1, size // 4], "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    data = bytes(range(250)) * (size // 250)
    request = wire.post(head + data, f"Inference-Header-Content-Length: {len(head)}", path="/v2/models/wide/infer")
    stream = (request + wire.post(wire.document())) * 2
    step = len(stream) // pieces + 1
    for at in range(0, len(stream), step):
        client.send(stream[at : at + step])
        await asyncio.sleep(0)
    for _ in range(2):
        answer = await client.answer()
        assert answer.body[int(answer.headers["inference-header-content-length"]) :] == data
        assert (await client.answer()).json["outputs"][0]["data"] == [1, 2, 3, 4]


async def test_the_json_part_of_a_binary_request_has_the_json_limit(tight, wire):
    answer = await tight.ask(wire.post(b" " * 30_000, "Inference-Header-Content-Length: 25000"))
    assert answer.status == 413
    assert "binary form" in answer.error


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("path", ["/v2/models/echo/infer", "/nowhere", "/v2/repository/index"])
async def test_no_reset_eats_the_refusal_of_a_client_still_sending(limited, wire, framing, path):
    """More is under way than both sockets' buffers hold when the answer is written."""
    tight = await limited.connect()
    lines = ["Content-Length: 9000000"] if framing == "length" else ["Transfer-Encoding: chunked"]
    tight.send(wire.head(*lines, path=path))
    piece = b"x" * 100_000
    for _ in range(90):
        tight.send(piece if framing == "length" else b"186a0\r\n" + piece + b"\r\n")
    answer = await tight.answer()
    early = framing == "chunked" and path != "/v2/models/echo/infer"  # answered before the body was too large
    assert answer.status == (404 if early and path == "/nowhere" else 413)
    assert answer.closes or early
    assert await tight.rest() == b""


async def test_a_body_beyond_the_limit_after_its_answer_gets_no_second_one(limited, tight, wire):
    tight.send(wire.head("Transfer-Encoding: chunked", path="/nowhere"), b"1\r\nx\r\n")
    assert (await tight.answer()).status == 404
    for _ in range(3):
        tight.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
    assert await tight.rest() == b""


@pytest.mark.parametrize(
    "more", [b"1;" + b"x" * 100 + b"\r\n", b"0\r\n" + b"X-T: 1\r\n" * 20], ids=["extensions", "trailers"]
)
async def test_what_surrounds_chunks_is_bounded(tight, wire, more):
    tight.send(wire.head("Transfer-Encoding: chunked"))
    if more.startswith(b"0"):
        tight.send(more)
        for _ in range(100):
            tight.send(b"X-Trailer: " + b"x" * 200 + b"\r\n")
            await asyncio.sleep(0)
    else:
        tight.send(b"1;")
        for _ in range(100):
            tight.send(b"x" * 200)
            await asyncio.sleep(0)
    answer = await tight.answer()
    assert answer.status in (400, 431)
    assert "4096 bytes" in answer.error


async def test_trailers_in_one_segment_are_bounded(tight, wire):
    tight.send(wire.head("Transfer-Encoding: chunked"), b"0\r\n" + b"X-T: 1\r\n" * 1000 + b"\r\n")
    await refused(tight, 431, "header larger")


async def test_trailers_do_not_disturb_the_next_request(tight, wire):
    body = wire.chunked(wire.document(), 50)[:-2] + b"X-T: 1\r\nX-T: 2\r\n\r\n"
    for _ in range(3):
        assert (await tight.ask(wire.head("Transfer-Encoding: chunked"), body)).status == 200
    tight.send(wire.head("Host: again"))
    await refused(tight, 400, "more than one Host header")


async def test_connections_beyond_the_limit_are_told(serve, wire):
    served = await serve(max_connections=2)
    first, second = await served.connect(), await served.connect()
    assert (await first.ask(wire.post(wire.document()))).status == 200
    await served.until(lambda: len(served.connections) == 2)
    third = await served.connect()
    answer = await third.answer()
    assert (answer.status, answer.closes, answer.headers["retry-after"]) == (503, True, "1")
    assert answer.error == "too many connections"
    assert await third.rest() == b""
    third.abort()
    second.abort()
    await served.until(lambda: len(served.connections) == 1)
    fourth = await served.connect()
    assert (await fourth.ask(wire.post(wire.document()))).status == 200


class TestByteBudget:
    @pytest.fixture
    def admission(self):
        return AdmissionSettings(max_bytes_in_flight=10_000)

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_bodies_beyond_the_budget_are_refused_before_they_come(self, served, wire, framing):
        first, second = await served.connect(), await served.connect()
        first.send(wire.head("Content-Length: 8000"), b"x")
        await served.until(lambda: served.service.byte_budget.used == 8000)
        if framing == "length":
            second.send(wire.head("Content-Length: 3000"))
        else:
            second.send(wire.head("Transfer-Encoding: chunked"), b"bb8\r\n" + b"x" * 3000 + b"\r\n")
        answer = await second.answer()
        assert (answer.status, answer.headers["retry-after"], answer.closes) == (503, "1", True)
        assert answer.error == "too many request bytes in flight"
        assert await second.rest() == b""
        first.abort()
        await served.until(lambda: served.service.byte_budget.used == 0)
        third = await served.connect()
        assert (await third.ask(wire.post(wire.document()))).status == 200

    async def test_bytes_are_held_until_the_answer_and_no_longer(self, served, client, wire):
        body = wire.document()
        client.send(wire.post(body, path=wire.GATE))
        await served.until(lambda: served.plane.gate.held)
        assert served.service.byte_budget.used == len(body)
        served.plane.gate.release()
        assert (await client.answer()).status == 200
        await served.until(lambda: served.service.byte_budget.used == 0)

    @pytest.mark.parametrize("stage", ["body", "queued", "executing"])
    async def test_an_aborted_request_gives_its_bytes_back(self, served, wire, stage):
        clients = [await served.connect() for _ in range(3)]
        for client in clients:
            request = wire.post(wire.document(), path=wire.GATE)
            client.send(request[:-1] if stage == "body" else request)
        await served.until(lambda: served.service.byte_budget.used > 0)
        if stage != "body":
            await served.until(lambda: served.plane.arrived == 3)
        if stage == "executing":
            await served.until(lambda: served.plane.gate.held)
        for client in clients:
            client.abort()
        await served.until(lambda: served.service.byte_budget.used == 0)
        await served.until(lambda: served.service.in_flight == 0)


async def test_a_client_that_does_not_read_is_not_read_from(served, wire):
    """Its requests stop being taken when its answers pile up; when it reads again, all is answered."""
    client = await served.connect(limit=1 << 16)
    client.reader._transport.pause_reading()
    request = wire.post(wire.document(*[0.12345678] * 8000, width=8000), path="/v2/models/wide/infer")
    count = 400
    for _ in range(count):
        client.send(request)
    await served.until(lambda: any(c._write_paused_s for c in served.connections))
    taken = -1
    while taken != served.plane.arrived:
        taken = served.plane.arrived
        for _ in range(50):
            await asyncio.sleep(0)
    assert taken < count
    client.reader._transport.resume_reading()
    for _ in range(count):
        answer = await client.answer()
        assert answer.status == 200, answer


async def test_a_client_that_never_reads_is_ended(served, wire):
    client = await served.connect(limit=1 << 16)
    client.reader._transport.pause_reading()
    request = wire.post(wire.document(*[0.12345678] * 8000, width=8000), path="/v2/models/wide/infer")
    for _ in range(1000):
        client.send(request)
    await served.until(lambda: any(c._write_paused_s for c in served.connections))
    served.later(60)
    assert served.connections
    served.later(1)
    await served.until(lambda: not served.connections)


# Slow clients: `later` lets the sweep see seconds pass.


async def test_a_silent_connection_is_closed(served, client):
    await served.until(lambda: served.connections)
    served.later(11)
    assert await client.rest() == b""


async def test_a_slow_header_is_cut_with_408(served, client, wire):
    client.send(wire.head()[:20])
    await served.until(lambda: any(c._head_bytes for c in served.connections))
    served.later(10)
    assert served.connections
    client.send(b"x")
    for _ in range(20):
        await asyncio.sleep(0)
    served.later(1)
    await refused(client, 408, "the request header took too long")


@pytest.mark.parametrize("path", ["/v2/models/echo/infer", "/v2/repository/index", "/nowhere"])
async def test_a_slow_body_is_cut_with_408_or_unanswered(served, client, wire, path):
    client.send(wire.head("Content-Length: 100000", path=path), b"x" * 2000)
    await served.until(lambda: served.seen(received=2000))
    if path == "/nowhere":
        assert (await client.answer()).status == 404
    served.later(10)
    assert served.connections
    served.later(1)
    if path != "/nowhere":
        answer = await client.answer()
        assert answer.status == 408
        assert answer.error == "the request body came too slowly"
    assert await client.rest() == b""


async def test_a_body_at_the_least_rate_is_waited_for(served, client, wire):
    body = wire.document() + b" " * 20_000
    client.send(wire.head(f"Content-Length: {len(body)}"))
    sent = 0
    while sent < len(body):
        client.send(body[sent : sent + 1100])
        sent += len(body[sent : sent + 1100])
        await served.until(lambda at=sent: served.seen(received=at))
        served.later(1)
    assert (await client.answer()).status == 200


async def test_an_idle_connection_is_closed_after_the_keep_alive_time(served, client, wire):
    assert (await client.ask(wire.post(wire.document()))).status == 200
    served.later(75)
    assert served.connections
    served.later(1)
    assert await client.rest() == b""


async def test_waiting_for_an_answer_is_not_idleness(served, client, wire):
    client.send(wire.post(wire.document(), path=wire.GATE))
    await served.until(lambda: served.plane.gate.held)
    served.later(200)
    served.plane.gate.release()
    assert (await client.answer()).status == 200


async def test_a_refused_client_that_stays_is_ended(served, client):
    client.send(b"nonsense\r\n\r\n")
    assert (await client.answer()).status == 400
    served.later(2)
    assert served.connections
    served.later(1)
    await served.until(lambda: not served.connections)


async def test_earlier_answers_survive_a_later_bad_request(served, client, wire):
    """What was asked properly is answered, in order, however long it takes; then the refusal; then the end."""
    client.send(wire.post(wire.document(), path=wire.GATE), b"nonsense\r\n\r\n")
    await served.until(lambda: served.plane.gate.held)
    served.later(30)
    served.plane.gate.release()
    assert (await client.answer()).status == 200
    answer = await client.answer()
    assert (answer.status, answer.closes) == (400, True)
    assert json.loads(answer.body) == {"error": "invalid HTTP request"}
    assert await client.rest() == b""


async def test_a_slow_pipelined_header_does_not_lose_the_answer_before(served, client, wire):
    client.send(wire.post(wire.document(), path=wire.GATE), b"POST /v2")
    await served.until(lambda: served.plane.gate.held)
    served.later(11)
    served.plane.gate.release()
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 408
