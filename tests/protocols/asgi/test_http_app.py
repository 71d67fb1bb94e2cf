"""The routes of the ASGI door: what a client reads, and how it is refused."""

import numpy as np
import pytest
import tritonclient.http.aio as triton

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
