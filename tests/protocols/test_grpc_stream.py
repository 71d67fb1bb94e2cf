"""ModelStreamInfer over both transports."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.core.errors import Code
from gateway.protocols import grpc_stream

SERVICE = "/inference.GRPCInferenceService/"


def infer_message(model="echo", request_id="", final_mark=False):
    message = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    message.inputs.add(name="x", datatype="FP32", shape=[1])
    message.raw_input_contents.append(np.float32(1).tobytes())
    if final_mark:
        message.parameters["triton_enable_empty_final_response"].bool_param = True
    return message


@pytest.fixture
def stub(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def until(condition):
    while not condition():  # noqa: ASYNC110 - conditions of the service under test have no event
        await asyncio.sleep(0)


async def exchange(stub, messages, metadata=()):
    call = stub.ModelStreamInfer(iter(messages), metadata=metadata)
    return [answer async for answer in call]


async def test_answers_come_in_the_order_of_the_requests(stub, service):
    models = ["later", "echo", "later", "echo"]
    answers = await exchange(stub, [infer_message(model, str(at)) for at, model in enumerate(models)])
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2", "3"]
    assert [answer.infer_response.raw_output_contents[0] for answer in answers] == [np.float32(1).tobytes()] * 4
    assert [record.code for record in service.records] == [Code.OK] * 4
    assert service.byte_budget.used == 0


async def test_a_failed_request_does_not_end_the_stream(stub, service):
    broken = infer_message(request_id="b")
    broken.raw_input_contents[0] = b"1"
    answers = await exchange(stub, [infer_message("nope", "a"), broken, infer_message("broken", "c"), infer_message()])
    assert "unknown model: 'nope'" in answers[0].error_message
    assert "input byte size mismatch" in answers[1].error_message
    assert "cannot be encoded" in answers[2].error_message
    assert [answer.infer_response.id for answer in answers] == ["a", "b", "c", ""]
    assert answers[3].error_message == ""
    codes = [record.code for record in service.records]
    assert codes == [Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.INTERNAL, Code.OK]
    assert service.byte_budget.used == 0


async def test_bytes_that_are_no_message_answer_an_error(channel):
    call = channel.stream_stream(f"{SERVICE}ModelStreamInfer")(iter([b"\xff\xff"]))
    answers = [service_pb2.ModelStreamInferResponse.FromString(raw) async for raw in call]
    assert "failed to parse" in answers[0].error_message


async def test_the_strict_mode_ends_the_stream_with_the_status(stub, service):
    call = stub.ModelStreamInfer(
        iter([infer_message(), infer_message("nope"), infer_message()]), metadata=(("triton_grpc_error", "true"),)
    )
    assert (await call.read()).error_message == ""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await until(lambda: service.byte_budget.used == 0)


async def test_parts_are_sent_as_they_come(stub):
    answers = await exchange(stub, [infer_message("parts", "p"), infer_message(request_id="q")])
    parts = [answer.infer_response.raw_output_contents[0] for answer in answers[:3]]
    assert parts == [np.int32(number).tobytes() for number in range(3)]
    assert [answer.infer_response.id for answer in answers] == ["p", "p", "p", "q"]


async def test_the_final_mark_is_sent_where_it_is_asked_for(stub):
    answers = await exchange(stub, [infer_message("parts", final_mark=True), infer_message(final_mark=True)])
    marks = [answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers]
    assert marks == [False, False, False, True, True]
    assert len(answers[3].infer_response.outputs) == 0
    assert len(answers[4].infer_response.outputs) == 1


async def test_a_stream_given_up_cancels_what_it_queued(stub, service):
    call = stub.ModelStreamInfer()
    await call.write(infer_message("hold"))
    await call.write(infer_message("hold"))
    await until(lambda: len(service.held) == 2)
    call.cancel()
    await until(lambda: len(service.records) == 2)
    assert {record.code for record in service.records} == {Code.CANCELLED}
    assert service.byte_budget.used == 0


async def test_a_stream_is_not_read_beyond_its_bound(stub, service, monkeypatch):
    monkeypatch.setattr(grpc_stream, "MAX_PENDING", 2)
    call = stub.ModelStreamInfer(iter([infer_message("hold", str(at)) for at in range(5)]))
    answers = []
    while len(answers) < 5:
        await until(lambda: service.held)
        assert len(service.held) <= 2
        service.held.sort(key=lambda request: request.id)
        service.answer(service.held.pop(0))
        answers.append((await call.read()).infer_response.id)
    assert answers == ["0", "1", "2", "3", "4"]


async def test_tritonclients_stream_runs_unchanged(open_door):
    address = await open_door()
    results = await asyncio.to_thread(stream_with_tritonclient, address)
    assert [(str(error), result) for result, error in results if error] == [
        ("Request for unknown model: 'nope' is not found", None)
    ]
    assert [result.as_numpy("out_x").tolist() for result, error in results if not error] == [[1.0], [1.0]]


def stream_with_tritonclient(address):
    results = []
    with triton.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: results.append((result, error)))
        tensor = triton.InferInput("x", [1], "FP32")
        tensor.set_data_from_numpy(np.ones(1, np.float32))
        for model in ("echo", "nope", "later"):
            client.async_stream_infer(model, [tensor])
        client.stop_stream()
    return results
