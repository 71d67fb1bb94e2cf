"""Content codings of requests and answers, bombs included: the same on both paths."""

import gzip
import json
import zlib

import pytest

LONG = [0.5] * 4000


def raw_deflate(body):
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def big(wire):
    return wire.document(*LONG, width=4000)


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
    ],
)
async def test_a_compressed_body_is_served(client, wire, coding, pack):
    for _ in range(2):
        answer = await client.ask(wire.post(pack(wire.document()), f"Content-Encoding: {coding}"))
        assert answer.status == 200, answer
        assert answer.json["outputs"][0]["data"] == [1, 2, 3, 4]


async def test_a_compressed_binary_body_is_served(client, wire):
    head = b'{"inputs":[{"name":"INPUT0","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}'
    body = gzip.compress(head + bytes(16), mtime=0)
    lines = ("Content-Encoding: gzip", f"Inference-Header-Content-Length: {len(head)}")
    answer = await client.ask(wire.post(body, *lines))
    assert answer.status == 200
    assert answer.json["outputs"][0]["data"] == [0, 0, 0, 0]


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "nonsense"])
async def test_an_unknown_coding_is_415(served, wire, coding):
    client = await served.connect()
    answer = await client.ask(wire.post(gzip.compress(wire.document(), mtime=0), f"Content-Encoding: {coding}"))
    assert answer.status == 415
    assert "use gzip or deflate" in answer.error


PACKED = gzip.compress(b"{}", mtime=0)  # a time in it would give the case another name in each process


@pytest.mark.parametrize("body", [b"", b"nonsense", PACKED[:-3], PACKED + b"x"])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_broken_compressed_data_is_400(served, wire, body, coding):
    client = await served.connect()
    answer = await client.ask(wire.post(body, f"Content-Encoding: {coding}"))
    assert answer.status == 400
    assert f"not valid {coding} data" in answer.error


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_bomb_is_stopped_at_the_limit(serve, wire, coding, pack):
    served = await serve(max_json_bytes=1_000_000)
    client = await served.connect()
    answer = await client.ask(wire.post(pack(b" " * 50_000_000), f"Content-Encoding: {coding}"))
    assert (answer.status, answer.error) == (413, "the decompressed body is larger than 1000000 bytes")
    await served.until(lambda: served.service.byte_budget.used == 0)


async def test_a_bomb_within_a_bomb_is_not_opened(served, wire):
    client = await served.connect()
    answer = await client.ask(
        wire.post(gzip.compress(gzip.compress(b" " * 1_000_000), mtime=0), "Content-Encoding: gzip")
    )
    assert answer.status == 400
    assert "JSON" in answer.error or "UTF-8" in answer.error


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip;q=0.5", "gzip"),
        ("br, gzip", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0", ""),
        ("identity", ""),
        ("br", ""),
        ("", ""),
    ],
)
async def test_long_answers_are_compressed_as_accepted(client, wire, accept, coding):
    plain = (await client.ask(wire.post(big(wire), path="/v2/models/wide/infer"))).body
    answer = await client.ask(wire.post(big(wire), f"Accept-Encoding: {accept}", path="/v2/models/wide/infer"))
    assert answer.headers.get("content-encoding", "") == coding
    body = answer.body
    if coding:
        assert len(body) < len(plain) / 2
        body = gzip.decompress(body) if coding == "gzip" else zlib.decompress(body)
    assert body == plain


async def test_very_long_answers_are_compressed_off_the_loop_in_order(client, wire):
    document = wire.document(*[0.25] * 40_000, width=40_000)
    client.send(
        wire.post(document, "Accept-Encoding: gzip", path="/v2/models/wide/infer"),
        wire.post(wire.document()),
    )
    first, second = await client.answer(), await client.answer()
    assert json.loads(gzip.decompress(first.body))["outputs"][0]["shape"] == [1, 40_000]
    assert second.json["outputs"][0]["shape"] == [1, 4]


async def test_short_answers_and_errors_stay_as_they_are(client, wire):
    for body in (wire.document(), b"{"):
        answer = await client.ask(wire.post(body, "Accept-Encoding: gzip"))
        assert "content-encoding" not in answer.headers
        assert json.loads(answer.body)


async def test_a_client_gone_while_its_answer_is_compressed_leaves_nothing(served, wire):
    client = await served.connect()
    document = wire.document(*[0.25] * 40_000, width=40_000)
    client.send(wire.post(document, "Accept-Encoding: gzip", path="/v2/models/wide/infer"))
    await served.until(lambda: served.plane.arrived == 1)
    client.abort()
    await served.until(lambda: not served.connections)
    await served.until(lambda: served.service.in_flight == 0 and served.service.byte_budget.used == 0)
