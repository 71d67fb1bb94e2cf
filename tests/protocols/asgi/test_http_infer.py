"""Inference over ASGI: forms, codings, limits, and clients that leave."""

import asyncio
import contextlib
import gzip
import json
import zlib

import numpy as np
import pytest

from gateway.core.errors import Code
from gateway.core.oip import service_pb2
from gateway.protocols.exchange import Exchange

ROW = {"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


# Inference


async def test_infer_answers_json(client, plane):
    response = await client.post("/v2/models/echo/infer", json={"id": "7", **ROW}, headers={"x-request-id": "abc"})
    assert response.status_code == 200
    assert response.headers["x-gateway-version"] == "2"
    assert response.headers["x-request-id"] == "abc"
    assert response.json() == {
        "model_name": "echo",
        "model_version": "2",
        "id": "7",
        "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
    }
    (record,) = plane.records
    assert (record.model, record.version, record.code, record.protocol) == ("echo", "2", Code.OK, "http")
    assert record.timeline.answered >= record.timeline.execute_end > record.timeline.received > 0
    assert plane.service.byte_budget.used == 0
    assert plane.service.in_flight == 0


async def test_infer_answers_the_binary_form(client):
    header = json.dumps(
        {
            "inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body = header + np.arange(4, dtype="<f4").tobytes()
    response = await client.post(
        "/v2/models/echo/infer", content=body, headers={"inference-header-content-length": str(len(header))}
    )
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    assert np.frombuffer(response.content[length:], "<f4").tolist() == [0, 1, 2, 3]


async def test_predict_answers_rows_and_columns(client, plane):
    rows = await client.post("/v1/models/echo:predict", json={"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]})
    assert rows.json() == {"predictions": [[1, 2, 3, 4], [5, 6, 7, 8]]}
    columns = await client.post(
        "/v1/models/words/versions/1:predict", json={"inputs": {"INPUT0": [["a"], [{"b64": "/w=="}]]}}
    )
    assert columns.json() == {"outputs": [["a"], [{"b64": "/w=="}]]}
    label = await client.post("/v1/models/echo/labels/stable:predict", json={"instances": [[1, 2, 3, 4]]})
    assert label.status_code == 404
    assert "'stable'" in label.json()["error"]
    assert {record.protocol for record in plane.records} == {"v1"}


async def test_bridge_answers_protobuf(client):
    message = service_pb2.ModelInferRequest(model_name="echo", raw_input_contents=[np.arange(4, dtype="<f4").tobytes()])
    message.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 4])
    body = message.SerializeToString()
    response = await client.post(
        "/inference.GRPCInferenceService/ModelInfer", content=body, headers={"content-type": "application/x-protobuf"}
    )
    assert response.status_code == 200
    answer = service_pb2.ModelInferResponse.FromString(response.content)
    assert answer.model_version == "2"
    assert np.frombuffer(answer.raw_output_contents[0], "<f4").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("path", ["/v2/models/echo/infer", "/v1/models/echo:predict"])
async def test_broken_json_is_400_and_recorded(client, plane, path):
    response = await client.post(path, content=b"{")
    assert response.status_code == 400
    assert response.json()["error"]
    (record,) = plane.records
    assert (record.model, record.code) == ("echo", Code.INVALID_ARGUMENT)


async def test_unknown_model_is_404_and_no_label(client, plane):
    response = await client.post("/v2/models/nope/infer", json=ROW)
    assert response.status_code == 404
    assert plane.records[0].model == ""


@pytest.mark.parametrize("path", ["/v1/models/a:b:predict", "/v1/models/a:b/versions/1:predict"])
async def test_name_that_cannot_be_is_404(client, path):
    response = await client.post(path, json={"instances": [1]})
    assert (response.status_code, response.json()) == (404, {"error": "Not Found"})


async def test_passed_deadline_is_504(client):
    response = await client.post("/v2/models/stuck/infer", json=ROW, headers={"x-request-timeout-ms": "20"})
    assert response.status_code == 504


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_compressed_bodies_both_ways(client, plane, coding):
    rows = {"instances": [[1, 2, 3, 4]] * 400}
    body = json.dumps(rows).encode()
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    headers = {"content-encoding": coding, "accept-encoding": coding}
    response = await client.post("/v1/models/echo:predict", content=packed, headers=headers)
    assert response.status_code == 200
    assert response.headers["content-encoding"] == coding
    assert response.json() == {"predictions": rows["instances"]}
    assert plane.service.byte_budget.used == 0


async def test_large_answer_is_compressed_off_the_loop(client):
    header = json.dumps(
        {
            "inputs": [
                {"name": "INPUT0", "shape": [4000, 4], "datatype": "FP32", "parameters": {"binary_data_size": 64000}}
            ]
        }
    ).encode()
    response = await client.post(
        "/v2/models/echo/infer",
        content=header + np.ones(16000, "<f4").tobytes(),
        headers={"inference-header-content-length": str(len(header)), "accept-encoding": "gzip"},
    )
    assert response.headers["content-encoding"] == "gzip"
    assert response.json()["outputs"][0]["shape"] == [4000, 4]


@pytest.mark.parametrize(
    ("headers", "body", "status", "words"),
    [
        ({}, b" " * 10_001, 413, "binary form"),
        ({"inference-header-content-length": "2"}, b" " * 100_001, 413, "100000"),
        ({"content-encoding": "gzip"}, gzip.compress(b" " * 10_001), 413, "decompressed"),
        ({"content-encoding": "gzip"}, gzip.compress(b" " * 10_000_000), 413, "decompressed"),
        ({"content-encoding": "gzip"}, b"no gzip", 400, "gzip"),
        ({"content-encoding": "br"}, b"x", 415, "'br'"),
        ({"content-encoding": "gzip, gzip"}, b"x", 415, "content-encoding"),
    ],
    ids=["json", "binary", "expands", "bomb", "broken", "unknown", "chained"],
)
async def test_bodies_over_a_limit_or_unreadable(client, plane, headers, body, status, words):
    response = await client.post("/v2/models/echo/infer", content=body, headers=headers)
    assert response.status_code == status
    assert words in response.json()["error"]
    assert response.headers["connection"] == "close"
    assert plane.service.byte_budget.used == 0


async def test_chunked_body_is_counted_as_it_comes(client, plane):
    sent = 0

    async def chunks():
        nonlocal sent
        for _ in range(1000):
            sent += 1000
            yield b" " * 1000

    response = await client.post("/v2/models/echo/infer", content=chunks())
    assert response.status_code == 413
    assert plane.service.byte_budget.used == 0


async def test_full_byte_budget_is_503_with_retry_after(client, plane):
    budget = plane.service.byte_budget
    budget.used, budget.limit = 50, 60
    response = await client.post("/v2/models/echo/infer", json=ROW)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert budget.used == 50


# Connections, spoken in ASGI's own messages


def scope(path, headers=()):
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
    }


class Connection:
    """One ASGI connection whose client is the test."""

    def __init__(self, *messages):
        self.incoming = asyncio.Queue()
        self.sent = []
        for message in messages:
            self.incoming.put_nowait(message)

    async def receive(self):
        return await self.incoming.get()

    async def send(self, message):
        self.sent.append(message)


BODY = {"type": "http.request", "body": json.dumps(ROW).encode(), "more_body": False}
GONE = {"type": "http.disconnect"}


async def test_client_that_leaves_cancels_its_request(app, plane):
    connection = Connection(BODY)
    serving = asyncio.create_task(app(scope("/v2/models/stuck/infer"), connection.receive, connection.send))
    await plane.arrived.wait()
    connection.incoming.put_nowait(GONE)
    await serving
    assert connection.sent == []
    (record,) = plane.records
    assert (record.model, record.code) == ("stuck", Code.CANCELLED)
    assert plane.service.in_flight == 0
    assert plane.service.byte_budget.used == 0


async def test_client_that_leaves_in_mid_body_is_no_request(app, plane):
    connection = Connection({"type": "http.request", "body": b"{", "more_body": True}, GONE)
    await app(scope("/v2/models/echo/infer"), connection.receive, connection.send)
    assert connection.sent == []
    assert plane.records == []
    assert plane.service.byte_budget.used == 0


async def test_server_that_stops_cancels_what_waits(app, plane):
    connection = Connection(BODY)
    serving = asyncio.create_task(app(scope("/v2/models/stuck/infer"), connection.receive, connection.send))
    await plane.arrived.wait()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert plane.records[0].code is Code.CANCELLED
    assert plane.service.in_flight == 0


@pytest.mark.parametrize("length", [b"x", b"-1", b"9" * 30])
async def test_content_length_that_is_no_number_is_400(app, length):
    connection = Connection(BODY)
    headers = [(b"content-length", length)]
    await app(scope("/v2/models/echo/infer", headers), connection.receive, connection.send)
    assert connection.sent[0]["status"] == 400


async def test_failure_to_encode_is_500_and_finishes(app, plane, monkeypatch):
    monkeypatch.setattr(Exchange, "answer", lambda *_: 1 / 0)
    connection = Connection(BODY)
    await app(scope("/v2/models/echo/infer"), connection.receive, connection.send)
    assert connection.sent[0]["status"] == 500
    assert connection.sent[1]["body"] == b'{"error":"internal error"}'
    assert plane.service.in_flight == 0
