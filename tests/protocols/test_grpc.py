"""The gRPC door over both transports, through real clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.core.errors import Code
from gateway.protocols.grpc import GrpcDoor, GrpcSettings


def infer_message(model="echo", request_id="", values=(1.0, 2.0, 3.0, 4.0)):
    message = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    message.inputs.add(name="x", datatype="FP32", shape=[1, len(values)])
    message.raw_input_contents.append(np.array(values, np.float32).tobytes())
    return message


@pytest.fixture
def stub(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def until(condition):
    while not condition():  # noqa: ASYNC110 - conditions of the service under test have no event
        await asyncio.sleep(0)


async def test_infer_answers_with_raw_contents_and_trailers(stub, service):
    call = stub.ModelInfer(infer_message(request_id="a1"), metadata=(("x-request-id", "req-9"),))
    answer = await call
    assert (answer.model_name, answer.model_version, answer.id) == ("echo", "3", "a1")
    assert answer.outputs[0].name == "out_x"
    assert list(answer.outputs[0].shape) == [1, 4]
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [1, 2, 3, 4]
    trailing = dict(await call.trailing_metadata())
    assert trailing["x-request-id"] == "req-9"
    assert trailing["x-gateway-version"] == "3"


async def test_infer_is_reported_once_with_its_times_and_bytes(stub, service):
    message = infer_message()
    answer = await stub.ModelInfer(message)
    await until(lambda: service.records)
    (record,) = service.records
    assert (record.code, record.protocol) == (Code.OK, "grpc")
    assert 0 < record.timeline.received <= record.timeline.decoded <= record.timeline.answered
    assert (record.bytes_in, record.bytes_out) == (message.ByteSize(), answer.ByteSize())
    assert record.request_id == ""
    assert service.byte_budget.used == 0


async def test_the_answer_tells_route_and_times_where_wanted(stub, service):
    call = stub.ModelInfer(infer_message(), metadata=(("x-gateway-timing", "1"), ("x-request-id", "bad id")))
    trailing = dict(await call.trailing_metadata())
    assert "total;dur=" in trailing["server-timing"]
    assert trailing["x-gateway-route"] == "rule=only"
    assert "x-request-id" not in trailing


async def test_an_answer_that_comes_later_is_delivered(stub):
    answers = await asyncio.gather(*(stub.ModelInfer(infer_message("later", str(i))) for i in range(32)))
    assert [answer.id for answer in answers] == [str(i) for i in range(32)]


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("nope", grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'nope' is not found"),
        ("busy", grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"),
        ("broken", grpc.StatusCode.INTERNAL, "the answer of model 'broken' cannot be encoded"),
    ],
)
async def test_failures_keep_their_code_and_words(stub, service, model, code, words):
    error = await failure(stub.ModelInfer(infer_message(model)))
    assert error.code() is code
    assert error.details() == words
    await until(lambda: service.records)
    assert service.records[0].code is not Code.OK
    assert service.byte_budget.used == 0


async def test_a_refusal_tells_when_to_come_back(stub):
    error = await failure(stub.ModelInfer(infer_message("busy")))
    assert dict(error.trailing_metadata())["retry-after"] == "7"


async def test_a_bad_message_names_the_input(stub, service):
    message = infer_message(request_id="b2")
    message.raw_input_contents[0] = b"123"
    error = await failure(stub.ModelInfer(message))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == (
        "[request id: b2] input byte size mismatch for input 'x' for model 'echo'. Expected 16, got 3"
    )
    assert service.byte_budget.used == 0


async def test_bytes_that_are_no_message_are_the_clients_fault(channel):
    for method in ("ModelInfer", "ModelReady"):
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        error = await failure(call(b"\xff\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_requests_beyond_the_byte_budget_are_refused(stub, service):
    service.byte_budget.limit = 10
    error = await failure(stub.ModelInfer(infer_message()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "bytes in flight" in error.details()
    assert service.byte_budget.used == 0


async def test_a_message_beyond_the_limit_is_refused(open_door):
    async with grpc.aio.insecure_channel(await open_door(max_message_bytes=100)) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        error = await failure(stub.ModelInfer(infer_message(values=[0.0] * 100)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()


@pytest.mark.parametrize(
    ("arguments", "at_most_s"),
    [
        ({"timeout": 30}, 30),
        ({"metadata": (("x-request-timeout-ms", "2500"),)}, 2.5),
        ({"timeout": 30, "metadata": (("x-request-timeout-ms", "2500"),)}, 2.5),
    ],
)
async def test_the_tightest_deadline_reaches_the_request(stub, service, arguments, at_most_s):
    await stub.ModelInfer(infer_message(), **arguments)
    request = service.requests[0]
    left_s = (request.deadline_ns - request.timeline.received) / 1e9
    assert at_most_s - 2 < left_s <= at_most_s + 0.2  # a client rounds its timeout up


async def test_a_bad_timeout_header_is_named(stub):
    error = await failure(stub.ModelInfer(infer_message(), metadata=(("x-request-timeout-ms", "soon"),)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "x-request-timeout-ms" in error.details()


async def test_the_callers_trace_reaches_the_request(stub, service):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await stub.ModelInfer(infer_message(), metadata=(("traceparent", trace),))
    assert service.requests[0].trace.trace_id == "0af7651916cd43dd8448eb211c80319c"


async def test_client_cancel_completes_the_queued_request(stub, service):
    call = stub.ModelInfer(infer_message("hold"))
    await asyncio.wait(
        [asyncio.ensure_future(service.arrived.wait()), asyncio.ensure_future(call.code())],
        return_when="FIRST_COMPLETED",
    )
    call.cancel()
    await until(lambda: service.records)
    assert service.held[0].outcome.code is Code.CANCELLED
    assert service.records[0].code is Code.CANCELLED
    service.release()
    assert len(service.records) == 1
    assert service.byte_budget.used == 0


async def test_a_passed_deadline_is_recorded_as_one(stub, service):
    error = await failure(stub.ModelInfer(infer_message("hold"), timeout=0.05))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: service.records)
    assert service.records[0].code in (Code.DEADLINE, Code.CANCELLED)


async def test_everything_else_unary(stub, service):
    assert (await stub.ServerLive(service_pb2.ServerLiveRequest())).live
    assert (await stub.ServerReady(service_pb2.ServerReadyRequest())).ready
    assert (await stub.ModelReady(service_pb2.ModelReadyRequest(name="echo"))).ready
    assert not (await stub.ModelReady(service_pb2.ModelReadyRequest(name="echo", version="9"))).ready
    server = await stub.ServerMetadata(service_pb2.ServerMetadataRequest())
    assert server.name == "model-gateway"
    assert "classification" in server.extensions
    model = await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="echo"))
    assert (model.platform, list(model.versions)) == ("onnxruntime_onnx", ["3"])
    assert (model.inputs[0].name, model.inputs[0].datatype, list(model.inputs[0].shape)) == ("x", "FP32", [-1, 4])
    config = await stub.ModelConfig(service_pb2.ModelConfigRequest(name="echo"))
    assert config.config.max_batch_size == 8
    stats = await stub.ModelStatistics(service_pb2.ModelStatisticsRequest())
    assert stats.model_stats[0].inference_count == 5
    index = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest())
    assert [(line.name, line.state, line.reason) for line in index.models] == [
        ("echo", "READY", ""),
        ("old", "UNAVAILABLE", "unloaded"),
    ]
    assert len((await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True))).models) == 1


async def test_unknown_models_are_not_found(stub):
    error = await failure(stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="nope")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "Request for unknown model: 'nope' is not found"


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("RepositoryModelLoad", "model control mode is not EXPLICIT"),
        ("RepositoryModelUnload", "model control mode is not EXPLICIT"),
        ("SystemSharedMemoryStatus", "shared memory is not supported"),
        ("CudaSharedMemoryRegister", "shared memory is not supported"),
        ("TraceSetting", "not supported"),
        ("LogSettings", "not supported"),
    ],
)
async def test_what_is_not_offered_says_so(stub, method, words):
    error = await failure(getattr(stub, method)(getattr(service_pb2, f"{method}Request")()))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert words in error.details()


async def test_an_unknown_method_is_unimplemented(channel):
    error = await failure(channel.unary_unary("/inference.GRPCInferenceService/Nope")(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_follows_readiness(channel, service):
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "inference.GRPCInferenceService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    service.ready = False
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    error = await failure(stub.Check(health_pb2.HealthCheckRequest(service="nope")))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_watching_health_sees_changes_and_the_end(open_door, service, monkeypatch):
    monkeypatch.setattr("gateway.protocols.grpc_aio.HEALTH_POLL_S", 0.01)
    async with grpc.aio.insecure_channel(await open_door()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        service.ready = False
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="nope"))
        assert (await unknown.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        service.ready = True
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stop = asyncio.ensure_future(open_door.doors[0].stop(5))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        unknown.cancel()
        await stop


async def test_reflection_lists_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    call.cancel()
    names = {service.name for service in answer.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names


async def test_tritonclient_runs_unchanged(open_door):
    async with triton.InferenceServerClient(await open_door()) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("echo")
        assert (await client.get_model_metadata("echo", as_json=True))["inputs"][0]["datatype"] == "FP32"
        assert (await client.get_model_config("echo")).config.name == "echo"
        assert (await client.get_model_repository_index()).models[0].name == "echo"
        texts = triton.InferInput("text", [2], "BYTES")
        texts.set_data_from_numpy(np.array([b"a\0b", b""], np.object_))
        halves = triton.InferInput("half", [1, 2], "FP16")
        halves.set_data_from_numpy(np.array([[0.5, 2]], np.float16))
        answer = await client.infer("echo", [texts, halves], request_id="7", timeout=5_000_000, priority=1)
        assert answer.as_numpy("out_text").tolist() == [b"a\0b", b""]
        assert answer.as_numpy("out_half").tolist() == [[0.5, 2]]
        assert answer.get_response().id == "7"


async def test_stop_lets_calls_in_flight_finish(open_door, service):
    async with grpc.aio.insecure_channel(await open_door()) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer(infer_message("hold"))
        task = asyncio.ensure_future(call)
        await service.arrived.wait()
        stop = asyncio.ensure_future(open_door.doors[0].stop(20))
        await asyncio.sleep(0)
        service.release()
        assert (await task).model_version == "3"
        await stop


async def test_stop_cancels_what_outlives_the_grace(open_door, service):
    async with grpc.aio.insecure_channel(await open_door()) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        task = asyncio.ensure_future(failure(stub.ModelInfer(infer_message("hold"))))
        await service.arrived.wait()
        await open_door.doors[0].stop(0)
        assert (await task).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        await until(lambda: service.records)
        assert service.records[0].code is Code.CANCELLED


async def test_a_busy_port_is_an_error(open_door, service, transport):
    address = await open_door(reuse_port=False)
    port = int(address.rpartition(":")[2])
    door = GrpcDoor(service, GrpcSettings(port=port, transport=transport, reuse_port=False))
    with pytest.raises(OSError, match="cannot listen for gRPC"):
        await door.start()
    await door.stop(0)


async def test_the_native_transport_refuses_what_it_cannot_do(service):
    credentials = grpc.ssl_server_credentials([(b"key", b"chain")])
    with pytest.raises(ValueError, match="TLS"):
        GrpcDoor(service, GrpcSettings(transport="native"), credentials)
    with pytest.raises(ValueError, match="connection age"):
        GrpcDoor(service, GrpcSettings(transport="native", max_connection_age_ms=1000))


async def test_the_native_transport_needs_its_package(service, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygrpc_native", None)
    with pytest.raises(RuntimeError, match="fastgrpc"):
        GrpcDoor(service, GrpcSettings(transport="native"))


async def test_a_bug_in_a_view_is_internal_and_tells_nothing(stub, service, monkeypatch):
    def broken(name, version):
        raise KeyError("/secret/path")

    monkeypatch.setattr(service, "metadata", broken)
    error = await failure(stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="echo")))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")


async def test_connections_may_have_an_age(service):
    door = GrpcDoor(service, GrpcSettings(port=0, max_connection_age_ms=60_000))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await door.start()}") as channel:
        answer = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer_message())
    assert answer.model_name == "echo"
    await door.stop(0)


async def test_tls_is_spoken_where_credentials_are_given(service, certificate):
    key, chain = certificate
    door = GrpcDoor(service, GrpcSettings(port=0), grpc.ssl_server_credentials([(key, chain)]))
    port = await door.start()
    credentials = grpc.ssl_channel_credentials(chain)
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        answer = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer_message())
    assert answer.model_name == "echo"
    await door.stop(0)


@pytest.fixture
def certificate(tmp_path):
    """A key and a self-signed certificate for localhost, made for this test."""
    key, chain = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return key.read_bytes(), chain.read_bytes()
