"""The admin app over real models, by HTTP: metrics, health, model views, problem documents."""

import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.app import admin_app
from gateway.core.errors import Code
from gateway.core.timeline import RequestRecord, Timeline
from gateway.models.lifecycle import ModelManager
from gateway.models.repository import ModelRepository
from gateway.models.settings import ModelsSettings
from gateway.telemetry.collector import Gauges
from gateway.telemetry.exposition import MetricsPage
from gateway.telemetry.metrics import MetricsSink
from runtimes import open_runtime

CONFIG = """backend: "echo"
max_batch_size: 8
version_policy { specific { versions: [1, 2] } }
dynamic_batching { preferred_batch_size: [4], max_queue_delay_microseconds: 100 }
"""
TOML = """default_timeout_ms = 500
[client.input]
kind = "json"
"""


class NoStack:
    """Loaded versions serve nobody here."""

    async def drain(self, timeout_s):
        return None


@pytest.fixture
async def models(tmp_path):
    script = json.dumps({"inputs": ["INPUT0:FP32:-1,4"], "metadata": {"author": "us"}})
    for version, text in (("1", script), ("2", "{"), ("10", script)):
        (tmp_path / "echo" / version).mkdir(parents=True)
        (tmp_path / "echo" / version / "model.json").write_text(text)
    (tmp_path / "echo" / "config.pbtxt").write_text(CONFIG)
    (tmp_path / "echo" / "model.toml").write_text(TOML)
    (tmp_path / "empty").mkdir()
    manager = ModelManager(ModelRepository(tmp_path), open_runtime, lambda loaded: NoStack(), ModelsSettings())
    await manager.load_all()
    yield manager
    await manager.close()


class Switch:
    ready = True


@pytest.fixture
def switch():
    return Switch()


@pytest.fixture
async def client(models, switch):
    sink = MetricsSink()
    sink.observe([RequestRecord("echo", "1", "stable", "http", Code.OK, Timeline(received=1, answered=2_000_001))])
    app = admin_app(MetricsPage(sink, Gauges(), "1.2.3"), models, lambda: switch.ready)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        yield client


async def test_metrics_are_negotiated(client):
    plain = await client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert plain.headers["vary"] == "accept"
    families = {family.name for family in text_string_to_metric_families(plain.text)}
    assert {"gateway_requests", "gateway_request_duration_seconds", "gateway_build_info"} <= families
    other = await client.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert other.text.endswith("# EOF\n")


async def test_health_is_of_the_process_and_tells_readiness(client, switch):
    response = await client.get("/healthz")
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["ready"]) == ("ok", True)
    switch.ready = False
    response = await client.get("/healthz")
    assert (response.status_code, response.json()["ready"]) == (200, False)


async def test_models_are_listed_with_states_and_reasons(client):
    document = (await client.get("/admin/v1/models")).json()
    assert [model["name"] for model in document["models"]] == ["echo", "empty"]
    one, two, ten = document["models"][0]["versions"]
    assert one == {"version": "1", "state": "READY", "reason": ""}
    assert (two["version"], two["state"]) == ("2", "UNAVAILABLE")
    assert "model.json" in two["reason"]
    assert ten == {"version": "10", "state": "UNKNOWN", "reason": ""}
    (nothing,) = document["models"][1]["versions"]
    assert (nothing["version"], nothing["state"]) == ("", "UNAVAILABLE")
    assert nothing["reason"]


async def test_model_is_described_to_operators(client):
    document = (await client.get("/admin/v1/models/echo")).json()
    assert document["name"] == "echo"
    assert document["client_input"] == {"kind": "json"}
    one, two, _ = document["versions"]
    assert set(two) == {"version", "state", "reason"}
    assert (one["state"], one["runtime"], one["platform"]) == ("READY", "echo", "echo")
    assert len(one["sha256"]) == 64
    assert one["size_bytes"] > 0
    assert one["load_ms"] > 0
    assert one["warm_up_ms"] > 0
    assert [cost["rows"] for cost in one["batch_costs"]] == [1, 2, 4, 8]
    assert all(cost["us"] > 0 for cost in one["batch_costs"])
    assert one["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 4], "optional": False}]
    assert one["outputs"][0]["name"] == "OUTPUT0"
    assert one["artefact"] == {"author": "us"}
    settings = one["settings"]
    assert settings["dynamic_batching"] is True
    assert settings["max_batch_size"] == 8
    assert settings["preferred_batch_sizes"] == [4]
    assert settings["max_queue_delay_us"] == 100
    assert settings["default_timeout_ms"] == 500
    assert settings["padding"] is None


async def test_model_without_versions_is_described_by_its_reason(client):
    document = (await client.get("/admin/v1/models/empty")).json()
    assert document["client_input"] == {}
    assert document["versions"][0]["reason"]


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/admin/v1/models/nope", 404, "model 'nope' is not in the model repository"),
        ("GET", "/nothing", 404, "Not Found"),
        ("POST", "/metrics", 405, "Method Not Allowed"),
        ("GET", "/docs", 404, "Not Found"),
    ],
)
async def test_errors_are_problem_documents(client, method, path, status, detail):
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert (problem["detail"], problem["instance"]) == (detail, path)
    assert problem["title"]
    assert problem["code"] in ("NOT_FOUND", "METHOD_NOT_ALLOWED")
    assert ("allow" in response.headers) == (status == 405)


async def test_bug_tells_nothing(client, models, monkeypatch):
    monkeypatch.setattr(models, "index", lambda: 1 / 0)
    response = await client.get("/admin/v1/models")
    assert response.status_code == 500
    assert response.json()["detail"] == "internal error"


async def test_openapi_is_served(client):
    document = (await client.get("/openapi.json")).json()
    assert {"/metrics", "/healthz", "/admin/v1/models", "/admin/v1/models/{model}"} <= set(document["paths"])
