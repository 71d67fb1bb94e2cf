"""A whole worker in this process: doors, loading, draining."""

import asyncio

import numpy as np
import pytest
import tritonclient.grpc.aio as triton

from gateway.app.sockets import bind, port_of

ROW = {"inputs": [{"name": "INPUT0", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 counters of the worker, which announce nothing
            await asyncio.sleep(0.001)


async def test_both_doors_answer_and_count(folder, start):
    folder.onnx("same", "FP32:-1,2")
    serving = await start()
    body = {"inputs": [{"name": "IN0", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    answer = await serving.http.post("/v2/models/same/infer", json=body)
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]
    async with serving.grpc() as client:
        tensor = triton.InferInput("IN0", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.array([[5, 6]], np.float32))
        result = await client.infer("same", [tensor])
        assert result.as_numpy("OUT0").tolist() == [[5, 6]]
        statistics = await client.get_inference_statistics("same", as_json=True)
        assert statistics["model_stats"][0]["inference_stats"]["success"]["count"] == "2"


async def test_models_are_not_ready_while_they_load_and_ready_afterwards(folder, compose, gate):
    folder.echo("late")
    serving = compose()
    starting = asyncio.create_task(serving.worker.start())
    await until(lambda: serving.worker.grpc_port)
    assert (await serving.http.get("/v2/health/live")).status_code == 200
    assert (await serving.http.get("/v2/health/ready")).status_code == 503
    assert (await serving.http.get("/v2/models/late/ready")).status_code == 503
    refused = await serving.http.post("/v2/models/late/infer", json=ROW)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert "not at ready state" in refused.json()["error"] or "no version at ready state" in refused.json()["error"]
    unknown = await serving.http.post("/v2/models/never/infer", json=ROW)
    assert unknown.status_code == 404
    gate.set()
    await starting
    assert (await serving.http.get("/v2/health/ready")).status_code == 200
    assert (await serving.http.post("/v2/models/late/infer", json=ROW)).status_code == 200
    assert serving.worker.totals() == "http NOT_FOUND=1 http NOT_READY=1 http OK=1"


async def test_drain_answers_what_is_in_flight(folder, start):
    folder.echo("slow", delay_ns=200_000_000)
    serving = await start()
    asked = asyncio.create_task(serving.http.post("/v2/models/slow/infer", json=ROW))
    await until(lambda: serving.worker.service.in_flight)
    await serving.worker.stop()
    assert (await asked).status_code == 200
    assert serving.worker.service.in_flight == 0


async def test_draining_worker_says_it_is_not_ready_but_serves(folder, start):
    folder.echo("echo")
    serving = await start(drain_grace_s=0.3)
    stopping = asyncio.create_task(serving.worker.stop())
    await until(lambda: serving.worker.service.draining)
    assert (await serving.http.get("/v2/health/ready")).status_code == 503
    assert (await serving.http.post("/v2/models/echo/infer", json=ROW)).status_code == 200
    await stopping


async def test_drain_ends_when_its_time_is_over(folder, start):
    folder.echo("stuck", delay_ns=5_000_000_000)
    serving = await start(drain_timeout_s=0.05)
    asked = asyncio.create_task(serving.http.post("/v2/models/stuck/infer", json=ROW))
    await until(lambda: serving.worker.service.in_flight)
    async with asyncio.timeout(4):  # the model alone would take longer
        await serving.worker.stop()
    asked.cancel()
    await asyncio.wait({asked})


async def test_model_that_cannot_be_loaded_does_not_stop_the_others(folder, start):
    folder.echo("good")
    folder.echo("bad", pbtxt="max_batch_size: -4\n")
    serving = await start()
    states = {entry.name: entry.state for entry in serving.worker.models.index()}
    assert states == {"good": "READY", "bad": "UNAVAILABLE"}
    assert (await serving.http.get("/v2/health/ready")).status_code == 200
    assert (await serving.http.post("/v2/models/good/infer", json=ROW)).status_code == 200


async def test_required_model_that_cannot_be_loaded_keeps_the_server_from_ready(folder, start):
    folder.echo("good")
    folder.root.joinpath("empty").mkdir()
    serving = await start(required_models=("good", "empty"))
    assert (await serving.http.get("/v2/health/ready")).status_code == 503
    assert (await serving.http.post("/v2/models/good/infer", json=ROW)).status_code == 200


async def test_only_the_models_asked_for_are_loaded(folder, start):
    folder.echo("one")
    folder.echo("two")
    serving = await start(load_models=("two",))
    assert [(version.model, version.version) for version in serving.worker.models.ready()] == [("two", "1")]


async def test_taken_grpc_port_is_an_error_that_names_it(folder, compose):
    folder.echo("one")
    with bind("127.0.0.1", 0, "test") as taken:
        taken.listen()
        serving = compose(grpc_port=port_of(taken))
        with pytest.raises(OSError, match=str(port_of(taken))):
            await serving.worker.start()


async def test_gauges_say_what_is_there(folder, start):
    folder.echo("slow", delay_ns=200_000_000, pbtxt="max_batch_size: 1\n", toml="warm_up = false\ninstances = 1\n")
    folder.echo("bad", pbtxt="max_batch_size: -4\n")
    serving = await start()
    gauges = serving.worker.gauges()
    assert sorted(gauges.ready()) == [("bad", "1", False), ("slow", "1", True)]
    assert gauges.queue_rows() == [("slow", "1", 0)]
    asked = [asyncio.create_task(serving.http.post("/v2/models/slow/infer", json=ROW)) for _ in range(2)]
    await until(lambda: gauges.queue_rows() == [("slow", "1", 1)])  # one executes, one waits
    assert gauges.requests_in_flight() == 2
    assert gauges.body_bytes_in_flight() > 0
    assert [(await answer).status_code for answer in asked] == [200, 200]
    await until(lambda: gauges.requests_in_flight() == 0)
    assert gauges.body_bytes_in_flight() == 0
