"""The ASGI door over a real data plane with echo models: what a client reads, byte for byte where it matters."""

import asyncio
import contextlib
import gzip
import json
import socket
import zlib

import httpx
import numpy as np
import pytest
import tritonclient.http.aio as triton

from gateway.core.errors import Code
from gateway.core.oip import service_pb2
from gateway.dataplane.admission import AdmissionSettings
from gateway.dataplane.service import InferenceService
from gateway.dataplane.version_stack import VersionStack
from gateway.models.lifecycle import ModelManager
from gateway.models.repository import ModelRepository
from gateway.models.settings import ModelsSettings
from gateway.protocols.exchange import Exchange
from gateway.protocols.http import http_app
from gateway.protocols.http_server import GatewayServer
from gateway.protocols.http_settings import HttpSettings
from gateway.routing.router import Router, RouteTable
from runtimes import open_runtime

CONFIG = 'backend: "echo"\nmax_batch_size: 8\nversion_policy { all {} }\n'
LIMITS = HttpSettings(max_body_bytes=100_000, max_json_bytes=10_000)


def write_model(root, name, *, inputs=("INPUT0:FP32:-1,4",), versions=("1",), toml="", **script):
    folder = root / name
    for version in versions:
        (folder / version).mkdir(parents=True)
        (folder / version / "model.json").write_text(json.dumps({"inputs": inputs, **script}))
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "model.toml").write_text(toml)


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path, "echo", versions=("1", "2"))
    write_model(tmp_path, "words", inputs=("INPUT0:BYTES:-1",))
    write_model(tmp_path, "stuck", toml="warm_up = false", delay_ns=3600 * 10**9)
    write_model(tmp_path, "broken", versions=("1",))
    (tmp_path / "broken" / "1" / "model.json").write_text("{")
    return tmp_path


class Plane:
    """A data plane as the application composes it; `records` are what its observers saw."""

    def __init__(self, repository):
        self.records = []
        self.router = Router()
        self.arrived = asyncio.Event()
        self.models = ModelManager(
            ModelRepository(repository), open_runtime, self._build, ModelsSettings(drain_timeout_s=0.05)
        )
        self.models.on_change = self._publish
        self.service = InferenceService(self.router, self.models, AdmissionSettings(), [self.records.append])

        infer = self.service.infer
        self.service.infer = lambda request: (infer(request), self.arrived.set())

    def _build(self, loaded):
        return VersionStack(loaded, on_batch=(self.service.statistics_of.observe_batch,))

    def _publish(self):
        known = {}
        for entry in self.models.index():
            known.setdefault(entry.name, {})[entry.version] = entry.state
        self.router.replace(RouteTable.of([v.stack.servable for v in self.models.ready()], known))


@pytest.fixture
async def plane(repository):
    plane = Plane(repository)
    await plane.models.load_all()
    plane.service.started = True
    yield plane
    await plane.service.close()
    await plane.models.close()


@pytest.fixture
def app(plane):
    return http_app(plane.service, Exchange(plane.service, LIMITS.max_json_bytes), LIMITS)


@pytest.fixture
async def client(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.fixture
async def url(app):
    """Serve the app by uvicorn alone, as any ASGI server would."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = GatewayServer(app)
    await server.start([listener])
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    await server.stop(1.0)


ROW = {"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


# Server


async def test_server_metadata_announces_what_exists(client):
    response = await client.get("/v2")
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert document["name"] == "model-gateway"
    assert document["extensions"] == [
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "parameters",
        "statistics",
    ]


async def test_health_speaks_by_code_and_body(client, plane):
    live, ready = await client.get("/v2/health/live"), await client.get("/v2/health/ready")
    assert (live.status_code, live.json()) == (200, {"live": True})
    assert (ready.status_code, ready.json()) == (200, {"ready": True})
    plane.service.draining = True
    ready = await client.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    assert (await client.get("/v2/health/live")).status_code == 200


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready", "/v2"])
async def test_head_is_get_without_a_body(client, path):
    response = await client.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "status", "document"),
    [
        ("/v2/models/echo/ready", 200, {"name": "echo", "ready": True}),
        ("/v2/models/echo/versions/1/ready", 200, {"name": "echo", "ready": True}),
        ("/v2/models/broken/ready", 503, {"name": "broken", "ready": False}),
        ("/v2/models/broken/versions/1/ready", 503, {"name": "broken", "ready": False}),
        ("/v2/models/nope/ready", 404, {"error": "Request for unknown model: 'nope' is not found"}),
        (
            "/v2/models/echo/versions/9/ready",
            404,
            {"error": "Request for unknown model: 'echo' version 9 is not found"},
        ),
    ],
)
async def test_model_ready(client, path, status, document):
    response = await client.get(path)
    assert (response.status_code, response.json()) == (status, document)


# Views


@pytest.mark.parametrize("path", ["/v2/models/echo", "/v2/models/echo/versions/2"])
async def test_model_metadata_is_the_protocols_document(client, path):
    document = (await client.get(path)).json()
    parameters = document.pop("parameters")
    assert document == {
        "name": "echo",
        "versions": ["1", "2"],
        "platform": "echo",
        "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, 4]}],
    }
    assert parameters["version"] == "2"


async def test_version_is_a_path_and_not_a_query(client):
    document = (await client.get("/v2/models/echo?version=1")).json()
    assert document["parameters"]["version"] == "2"


async def test_model_config_is_tritons_document(client):
    document = (await client.get("/v2/models/echo/config")).json()
    assert document["name"] == "echo"
    assert document["backend"] == "echo"
    assert document["max_batch_size"] == 8
    assert document["version_policy"] == {"all": {}}
    (given,) = document["input"]
    assert (given["name"], given["data_type"], given["dims"]) == ("INPUT0", "TYPE_FP32", [4])
    assert given["optional"] is False
    assert "default_model_filename" in document


async def test_statistics_count_what_was_served(client):
    for _ in range(3):
        assert (await client.post("/v2/models/echo/infer", json=ROW)).status_code == 200
    await client.post("/v2/models/echo/versions/1/infer", json={"inputs": []})
    (first, second) = (await client.get("/v2/models/echo/stats")).json()["model_stats"]
    assert (second["name"], second["version"]) == ("echo", "2")
    assert second["inference_count"] == 3
    assert second["execution_count"] == 3
    assert second["inference_stats"]["success"]["count"] == 3
    assert second["inference_stats"]["compute_infer"]["ns"] > 0
    assert [size["batch_size"] for size in second["batch_stats"]] == [1]
    assert second["last_inference"] > 1_600_000_000_000
    assert first["version"] == "1"
    assert first["inference_stats"]["fail"]["count"] == 1
    assert set(second) >= {"response_stats", "memory_usage"}


async def test_statistics_of_one_version_and_of_all(client):
    one = (await client.get("/v2/models/echo/versions/1/stats")).json()["model_stats"]
    assert [(line["name"], line["version"], line["inference_count"]) for line in one] == [("echo", "1", 0)]
    everything = (await client.get("/v2/models/stats")).json()["model_stats"]
    assert [(line["name"], line["version"]) for line in everything] == [
        ("echo", "1"),
        ("echo", "2"),
        ("stuck", "1"),
        ("words", "1"),
    ]
    assert (await client.get("/v2/models/nope/stats")).status_code == 404


async def test_repository_index_lists_states_with_reasons(client):
    lines = (await client.post("/v2/repository/index")).json()
    by_name = {(line["name"], line["version"]): line for line in lines}
    assert by_name["echo", "1"] == {"name": "echo", "version": "1", "state": "READY"}
    assert by_name["broken", "1"]["state"] == "UNAVAILABLE"
    assert by_name["broken", "1"]["reason"]
    ready = (await client.post("/v2/repository/index", json={"ready": True})).json()
    assert {line["state"] for line in ready} == {"READY"}
    assert (await client.post("/v2/repository/index", content=b"{}")).json() == lines


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not valid JSON"),
        (b"[]", 400, "'ready'"),
        (b'{"ready": 1}', 400, "'ready'"),
        (b" " * 70_000, 413, "larger than"),
    ],
    ids=["broken", "list", "number", "large"],
)
async def test_repository_index_refuses_bad_bodies(client, body, status, words):
    response = await client.post("/v2/repository/index", content=body)
    assert response.status_code == status
    assert words in response.json()["error"]


# V1 views


async def test_v1_status_is_tensorflow_servings(client):
    assert (await client.get("/v1/models/echo")).json() == {
        "model_version_status": [
            {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            for version in ("2", "1")
        ]
    }
    (broken,) = (await client.get("/v1/models/broken/versions/1")).json()["model_version_status"]
    assert broken["state"] == "END"
    assert broken["status"]["error_code"] == "UNKNOWN"
    assert broken["status"]["error_message"]


async def test_v1_metadata_names_types_in_tensorflows_words(client):
    document = (await client.get("/v1/models/words/versions/1/metadata")).json()
    assert document["model_spec"] == {"name": "words", "signature_name": "", "version": "1"}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["INPUT0"] == {
        "dtype": "DT_STRING",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False},
        "name": "INPUT0",
    }
    echo = (await client.get("/v1/models/echo/metadata")).json()
    assert (
        echo["metadata"]["signature_def"]["signature_def"]["serving_default"]["outputs"]["OUTPUT0"]["dtype"]
        == "DT_FLOAT"
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/models/nope", "'nope' is not found"),
        ("/v1/models/echo/versions/7", "version 7 is not found"),
        ("/v1/models/echo/labels/stable", "no version label 'stable'"),
        ("/v1/models/echo/labels/stable/metadata", "no version label 'stable'"),
    ],
)
async def test_v1_unknown_names_are_404(client, path, words):
    response = await client.get(path)
    assert response.status_code == 404
    assert words in response.json()["error"]


# Errors


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2/health/live", "GET, HEAD"),
        ("DELETE", "/v2/models/echo", "GET, HEAD"),
        ("GET", "/v2/models/echo/infer", "POST"),
        ("GET", "/v2/models/echo/versions/1/infer", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", "/v1/models/echo:predict", "POST"),
        ("GET", "/v1/models/echo/versions/1:predict", "POST"),
        ("GET", "/v1/models/echo/labels/x:predict", "POST"),
    ],
)
async def test_wrong_method_is_405_with_allow(client, method, path, allow):
    response = await client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    assert response.json() == {"error": "Method Not Allowed"}


@pytest.mark.parametrize(
    "path", ["/", "/v2/", "/v3", "/v2/models", "/docs", "/v2/models/echo/x", "/v2/models/a%2Fb/c/d"]
)
async def test_unknown_path_is_404(client, path):
    response = await client.get(path)
    assert response.status_code == 404
    assert response.json() == {"error": "Not Found"}


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "/v2/repository/models/echo/load", "explicit model load / unload is not allowed"),
        ("POST", "/v2/repository/models/echo/unload", "explicit model load / unload is not allowed"),
        ("POST", "/v2/repository/mine/models/echo/load", "explicit model load / unload is not allowed"),
        ("POST", "/v2/repository/mine/index", "'repository_name'"),
        ("POST", "/v2/models/echo/generate", "generate"),
        ("POST", "/v2/models/echo/versions/1/generate_stream", "generate"),
        ("POST", "/v1/models/echo:classify", "':classify'"),
        ("POST", "/v1/models/echo/versions/1:regress", "':regress'"),
        ("GET", "/v2/systemsharedmemory/status", "system shared memory"),
        ("POST", "/v2/cudasharedmemory/region/a/register", "CUDA shared memory"),
        ("GET", "/v2/logging", "logging"),
        ("POST", "/v2/models/echo/trace/setting", "trace"),
    ],
)
async def test_what_others_have_and_this_has_not_is_501(client, method, path, words):
    response = await client.request(method, path)
    assert response.status_code == 501
    assert words in response.json()["error"]


async def test_bug_in_a_view_tells_nothing(plane, client, monkeypatch):
    monkeypatch.setattr(plane.service, "index", lambda ready_only: 1 / 0)
    response = await client.post("/v2/repository/index")
    assert (response.status_code, response.json()) == (500, {"error": "internal error"})


async def test_not_ready_model_says_when_to_come_back(client):
    response = await client.get("/v2/models/broken")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


async def test_openapi_documents_the_routes(client, app):
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/v2", "/v2/models/{model}/infer", "/v1/models/{model}:predict", "/v2/repository/index"} <= set(paths)
    infer = paths["/v2/models/{model}/versions/{version}/infer"]["post"]
    assert [parameter["name"] for parameter in infer["parameters"]] == ["model", "version"]
    assert "/v2/logging" not in paths
    identifiers = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(identifiers) == len(set(identifiers))


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


# The standard client, over sockets


async def test_tritonclient_reads_every_view(url):
    async with triton.InferenceServerClient(url) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("echo", "1")
        assert not await client.is_model_ready("broken")
        assert (await client.get_server_metadata())["name"] == "model-gateway"
        assert (await client.get_model_metadata("echo"))["inputs"][0]["shape"] == [-1, 4]
        assert (await client.get_model_config("echo", "1"))["max_batch_size"] == 8
        assert len((await client.get_inference_statistics())["model_stats"]) == 4
        assert {line["name"] for line in await client.get_model_repository_index()} == {
            "echo",
            "words",
            "stuck",
            "broken",
        }
        with pytest.raises(Exception, match="not allowed"):
            await client.load_model("echo")


async def test_tritonclient_infers_in_both_forms(url):
    async with triton.InferenceServerClient(url) as client:
        for binary in (True, False):
            given = triton.InferInput("INPUT0", [2, 4], "FP32")
            values = np.arange(8, dtype=np.float32).reshape(2, 4)
            given.set_data_from_numpy(values, binary_data=binary)
            wanted = triton.InferRequestedOutput("OUTPUT0", binary_data=binary)
            result = await client.infer("echo", [given], outputs=[wanted], request_compression_algorithm="gzip")
            assert np.array_equal(result.as_numpy("OUTPUT0"), values)
