"""Requests that two parsers could cut differently, and targets and upgrades that are none: one answer or an end."""

import logging

import pytest

HOST = b"Host: gateway\r\n"
START = b"POST /v2/models/echo/infer HTTP/1.1\r\n"
SECOND = b"GET /v2/health/live HTTP/1.1\r\nHost: gateway\r\n\r\n"
CHUNKED = START + HOST + b"Transfer-Encoding: chunked\r\n"

BROKEN = {
    "CL and TE": CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "TE and CL": START + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two equal CL": START + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "two CL": START + HOST + b"Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc",
    "CL list": START + HOST + b"Content-Length: 3, 3\r\n\r\nabc",
    "CL signed": START + HOST + b"Content-Length: +3\r\n\r\nabc",
    "CL negative": START + HOST + b"Content-Length: -3\r\n\r\nabc",
    "CL hex": START + HOST + b"Content-Length: 0x3\r\n\r\nabc",
    "CL empty": START + HOST + b"Content-Length: \r\n\r\n",
    "CL with space": START + HOST + b"Content-Length: 3 0\r\n\r\nabc",
    "CL beyond 64 bits": START + HOST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "TE unknown": START + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE identity": START + HOST + b"Transfer-Encoding: identity\r\n\r\n",
    "TE not last": START + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE twice": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE identity then chunked": START
    + HOST
    + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE behind a space": START + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE in 1.0": CHUNKED.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n0\r\n\r\n",
    "obs-fold": START + HOST + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": START.replace(b"\r\n", b"\n") + b"Host: gateway\nContent-Length: 0\n\n",
    "bare LF in the head": START + b"Host: gateway\nContent-Length: 0\r\n\r\n",
    "bare CR": START + HOST + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": START + HOST + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "space in a name": START + HOST + b"X y: 1\r\nContent-Length: 0\r\n\r\n",
    "empty name": START + HOST + b": 1\r\nContent-Length: 0\r\n\r\n",
    "no host": START + b"Content-Length: 0\r\n\r\n",
    "two hosts": START + HOST + HOST + b"Content-Length: 0\r\n\r\n",
    "two different hosts": START + HOST + b"host: other\r\nContent-Length: 0\r\n\r\n",
    "chunk size hex prefix": CHUNKED + b"\r\n0x1\r\na\r\n0\r\n\r\n",
    "chunk size space": CHUNKED + b"\r\n1 \r\na\r\n0\r\n\r\n",
    "chunk size negative": CHUNKED + b"\r\n-1\r\na\r\n0\r\n\r\n",
    "chunk size overflow": CHUNKED + b"\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n",
    "chunk size empty": CHUNKED + b"\r\n\r\na\r\n0\r\n\r\n",
    "chunk size LF": CHUNKED + b"\r\n1\na\n0\n\n",
    "chunk data longer": CHUNKED + b"\r\n1\r\nab\r\n0\r\n\r\n",
    "chunk extension LF": CHUNKED + b"\r\n1;a=\nb\r\na\r\n0\r\n\r\n",
    "lower-case method": b"post /v2 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /v2/health/live\r\n" + HOST + b"\r\n",
    "version 1.2": b"GET /v2/health/live HTTP/1.2\r\n" + HOST + b"\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "target without path": b"GET http://gateway HTTP/1.1\r\n" + HOST + b"\r\n",
    "target with bytes": b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "target not closed": b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT gateway:443 HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("at", ["together", "split"])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_request_that_is_none_has_one_answer_and_the_end(served, client, name, at, caplog):
    caplog.set_level(logging.ERROR)
    data = BROKEN[name] + SECOND
    if at == "together":
        client.send(data)
    else:
        for place in range(0, len(data), 11):
            client.send(data[place : place + 11])
            await served.until(lambda: True)
    answer = await client.answer()
    assert answer.status in (400, 501, 505), answer
    assert answer.error
    assert answer.closes
    assert await client.rest() == b""
    assert served.plane.arrived == 0
    assert caplog.text == ""


async def test_http_2_0_in_the_request_line_is_refused(client):
    client.send(b"GET /v2/health/live HTTP/2.0\r\n" + HOST + b"\r\n")
    answer = await client.answer()
    assert (answer.status, answer.closes) == (505, True)


async def test_gzip_as_transfer_coding_is_refused(client):
    client.send(START + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SECOND)
    answer = await client.answer()
    assert (answer.status, answer.error) == (501, "of the transfer codings only 'chunked' is supported")
    assert await client.rest() == b""


async def test_lines_before_a_request_are_skipped(client, wire):
    """RFC 9112 2.2: a server should ignore at least one empty line before the request line."""
    assert (await client.ask(b"\r\n\r\n", wire.post(wire.document()))).status == 200


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
async def test_an_upgrade_is_ignored_and_the_connection_ends(client, wire, upgrade):
    lines = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}")
    client.send(wire.head(*lines, method="GET", path="/v2/health/live"), SECOND)
    answer = await client.answer()
    assert (answer.status, answer.closes) == (200, True)
    assert await client.rest() == b""


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("at", ["together", "split"])
async def test_a_request_that_offers_an_upgrade_keeps_its_body(served, client, wire, framing, at):
    """Java's HTTP client offers h2c with every first request, bodies included."""
    body = wire.document()
    lines = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]
    lines.append(f"Content-Length: {len(body)}" if framing == "length" else "Transfer-Encoding: chunked")
    data = wire.head(*lines) + (body if framing == "length" else wire.chunked(body, 50)) + SECOND
    for place in range(0, len(data), 40 if at == "split" else len(data)):
        client.send(data[place : place + (40 if at == "split" else len(data))])
        await served.until(lambda: True)
    answer = await client.answer()
    assert (answer.status, answer.closes) == (200, True)
    assert answer.json["outputs"][0]["data"] == [1, 2, 3, 4]
    assert await client.rest() == b""
    assert served.plane.arrived == 1


async def test_many_requests_that_offer_an_upgrade_are_one_answer(client, wire):
    client.send(wire.head("Connection: Upgrade", "Upgrade: h2c", method="GET", path="/v2/health/live") * 2000)
    assert (await client.answer()).status == 200
    assert await client.rest() == b""


async def test_a_broken_body_is_refused_once_and_nothing_is_executed(served, client, wire):
    for path in ("/v2/models/echo/infer", "/v2/repository/index", "/v2/health/live"):
        client = await served.connect()
        client.send(wire.head("Transfer-Encoding: chunked", path=path))
        await served.until(lambda: served.seen(phase=2))
        client.send(b"1\r\n{\r\nx\r\n")
        statuses = []
        while not client.reader.at_eof():
            answer = await client.answer()
            statuses.append(answer.status)
            if answer.closes or answer.status == 405:
                break
        assert statuses in ([400], [405])
        assert await client.rest() == b""
    assert served.plane.arrived == 0


async def test_a_bad_request_behind_asgi_answers_waits_for_them(served, client, wire):
    client.send(
        wire.head(method="GET", path="/v2/health/live"),
        wire.head(method="GET", path="/nowhere"),
        wire.head("Transfer-Encoding: chunked", path="/nowhere"),
        b"zz\r\n",
        SECOND,
    )
    answers = [await client.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 404, 400]
    assert answers[2].closes
    assert await client.rest() == b""
