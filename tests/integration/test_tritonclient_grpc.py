"""What only tritonclient's gRPC clients have: callbacks, streams, client timeouts, cancellation, compression."""

import asyncio
import queue

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.xdist_group("demo")

WAIT_S = 30


@pytest.fixture(scope="module", params=["aio", "native"])
def extra(request, extra, extra_native):
    """Both gRPC transports."""
    return extra if request.param == "aio" else extra_native


@pytest.fixture(params=["grpc", "grpc.aio"])
def kind(request):
    return request.param


def tensor(array, name="INPUT0"):
    made = grpcclient.InferInput(name, list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


def row(value):
    return np.full((1, 4), value, np.float32)


@pytest.fixture
def sync(extra):
    with grpcclient.InferenceServerClient(extra.grpc) as client:
        yield client


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_compression(client, extra, algorithm):
    array = np.zeros((1, 10_000), np.float32)
    call = client.infer("identity_fp32", INPUT0=array, wanted={"compression_algorithm": algorithm})
    if algorithm == "deflate" and "native" in extra.process.args:
        with pytest.raises(InferenceServerException, match="UNIMPLEMENTED"):  # as gRPC's specification asks
            await call
    else:
        np.testing.assert_array_equal((await call).as_numpy("OUTPUT0"), array)


async def test_a_client_timeout_is_a_deadline(client):
    with pytest.raises(InferenceServerException) as caught:
        await client.infer("slow", INPUT0=row(1), client_timeout=0.02)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_async_infer_calls_back_with_each_its_own(sync):
    answers = queue.Queue()
    for i in range(64):
        sync.async_infer(
            "echo", [tensor(row(i))], lambda result, error: answers.put((result, error)), request_id=str(i)
        )
    seen = set()
    for _ in range(64):
        result, error = answers.get(timeout=WAIT_S)
        assert error is None
        i = int(result.get_response().id)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), row(i))
        seen.add(i)
    assert seen == set(range(64))


def test_async_infer_can_be_cancelled(sync):
    answers = queue.Queue()
    for i in range(8):  # one executes, the others wait
        call = sync.async_infer("slow", [tensor(row(i))], lambda result, error: answers.put((result, error)))
    call.cancel()
    outcomes = [answers.get(timeout=WAIT_S) for _ in range(8)]
    failed = [error for _, error in outcomes if error is not None]
    assert [error.status() for error in failed] == ["StatusCode.CANCELLED"]


def test_a_stream_answers_in_the_order_of_the_requests(sync):
    answers = queue.Queue()
    sync.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(100):
        sync.async_stream_infer("echo", [tensor(row(i))], request_id=str(i))
    for i in range(100):
        result, error = answers.get(timeout=WAIT_S)
        assert error is None
        assert result.get_response().id == str(i)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), row(i))
    sync.stop_stream()


def test_a_failed_request_does_not_end_its_stream(sync):
    answers = queue.Queue()
    sync.start_stream(lambda result, error: answers.put((result, error)))
    sync.async_stream_infer("nosuch", [tensor(row(0))], request_id="bad")
    sync.async_stream_infer("echo", [tensor(row(1))], request_id="good")
    _, error = answers.get(timeout=WAIT_S)
    assert "'nosuch' is not found" in error.message()
    result, error = answers.get(timeout=WAIT_S)
    assert error is None
    assert result.get_response().id == "good"
    sync.stop_stream()


def test_the_final_answer_is_marked_for_those_who_ask(sync):
    answers = queue.Queue()
    sync.start_stream(lambda result, error: answers.put((result, error)))
    sync.async_stream_infer("echo", [tensor(row(7))], enable_empty_final_response=True)
    result, error = answers.get(timeout=WAIT_S)
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param is True
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), row(7))
    sync.stop_stream()


def test_a_model_that_answers_in_parts_streams_each_as_it_comes(sync):
    answers = queue.Queue()
    sync.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(4):
        sync.async_stream_infer("parts", [tensor(row(i))], request_id=str(i), enable_empty_final_response=True)
    for i in range(4):
        for final in (False, False, True):
            result, error = answers.get(timeout=WAIT_S)
            assert error is None
            response = result.get_response()
            assert (response.id, response.parameters["triton_final_response"].bool_param) == (str(i), final)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), row(i))
    sync.stop_stream()


def test_a_model_that_answers_in_parts_gives_the_last_to_a_unary_call(sync):
    np.testing.assert_array_equal(sync.infer("parts", [tensor(row(5))]).as_numpy("OUTPUT0"), row(5))


def test_a_stream_can_be_cancelled(sync):
    answers = queue.Queue()
    sync.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(5):
        sync.async_stream_infer("slow", [tensor(row(i))])
    sync.stop_stream(cancel_requests=True)
    outcomes = []
    while not answers.empty():
        outcomes.append(answers.get())
    assert all(error is None or error.status() == "StatusCode.CANCELLED" for _, error in outcomes)
    assert len([result for result, _ in outcomes if result is not None]) < 5


async def test_the_aio_stream(open_client, extra):
    client = open_client("grpc.aio", extra)

    async def requests():
        for i in range(50):
            yield {"model_name": "echo", "inputs": [tensor(row(i))], "request_id": str(i)}

    ids = []
    async for result, error in client.client.stream_infer(requests()):
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), row(len(ids)))
        ids.append(result.get_response().id)
    assert ids == [str(i) for i in range(50)]


async def test_many_calls_at_once_on_one_channel(open_client, extra):
    client = open_client("grpc.aio", extra)
    results = await asyncio.gather(*(client.infer("echo", INPUT0=row(i)) for i in range(200)))
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), row(i))


async def test_headers_travel_as_metadata(client):
    result = await client.infer("echo", INPUT0=row(1), wanted={"headers": {"x-request-id": "abc"}})
    assert result.as_numpy("OUTPUT0").tolist() == row(1).tolist()
