"""Expired, abandoned and cancelled work is never executed: the model's own execution counter says so."""

import asyncio
import json
import queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.xdist_group("demo")

WAIT_S = 30
ROW = np.ones((1, 4), np.float32)
BODY = json.dumps({"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})


@pytest.fixture(scope="module", params=["aio", "native"])
def extra(request, extra, extra_native):
    """Both gRPC transports."""
    return extra if request.param == "aio" else extra_native


class Slow:
    """The model with one slot that takes 100 ms an execution, and its counters.

    `fail` counts requests that were routed to it: those refused on arrival never were.
    """

    def __init__(self, client):
        self.client = client

    async def counts(self):
        stats = (await self.client("get_inference_statistics", "slow"))["model_stats"][0]
        return stats["inference_count"], stats["execution_count"], stats["inference_stats"]["fail"]["count"]

    async def settled(self):
        """The counters once nothing executes: a request of ours goes behind all that came before."""
        await self.client.infer("slow", INPUT0=ROW)
        return await self.counts()

    async def began_without_clients(self, before, failed, asked):
        """Called once all clients have left: how many of their requests began to execute after this."""
        already = (await self.counts())[1]
        async with asyncio.timeout(WAIT_S):
            while True:
                _, executed, fails = await self.counts()
                if executed - before + fails - failed >= asked:
                    return (await self.settled())[1] - 1 - already
                await asyncio.sleep(0.01)  # polls a counter of another process

    async def failures(self, count):
        """Wait until `count` requests have failed; how many were executed by then."""
        async with asyncio.timeout(WAIT_S):
            while True:
                _, executed, failed = await self.counts()
                if failed >= count:
                    return executed
                await asyncio.sleep(0.01)  # polls a counter of another process


@pytest.fixture
async def slow(open_client, extra):
    return Slow(open_client("http.aio", extra))


@pytest.fixture
def kind(request):
    return request.param


BOTH = pytest.mark.parametrize("kind", ["http.aio", "grpc.aio"], indirect=True)


async def outcome(awaitable):
    try:
        await awaitable
    except InferenceServerException as error:
        return error.status()
    return "ok"


@BOTH
async def test_requests_past_their_deadline_are_answered_and_never_executed(client, slow):
    """20 requests of 150 ms patience on a model of 100 ms: one or two can make it, no late one is executed."""
    _, before, failed = await slow.settled()
    calls = [client.infer("slow", INPUT0=ROW, timeout=150_000) for _ in range(20)]
    statuses = await asyncio.gather(*map(outcome, calls))
    late = "504" if client.http else "StatusCode.DEADLINE_EXCEEDED"
    assert set(statuses) <= {"ok", late}
    assert statuses.count(late) >= 18
    executed = await slow.failures(failed + statuses.count(late)) - before
    # Whoever began in time and was overtaken while executing counts as executed, never one that began late.
    assert executed <= 2


@BOTH
async def test_a_deadline_that_has_passed_on_arrival_executes_nothing(client, slow):
    _, before, _ = await slow.settled()
    statuses = await asyncio.gather(*(outcome(client.infer("slow", INPUT0=ROW, timeout=1)) for _ in range(50)))
    assert set(statuses) == {"504" if client.http else "StatusCode.DEADLINE_EXCEEDED"}
    assert (await slow.settled())[1] == before + 1  # `settled` itself, nothing before it


async def http_request(address, body=BODY, headers=""):
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    writer.write((head + body).encode())
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("header", ["x-request-timeout-ms: 0.001", "x-envoy-expected-rq-timeout-ms: 0.001"])
async def test_the_deadline_headers_are_kept(extra, slow, header):
    _, before, _ = await slow.settled()
    pairs = [await http_request(extra.http, headers=header + "\r\n") for _ in range(10)]
    for reader, writer in pairs:
        assert (await reader.readline()).startswith(b"HTTP/1.1 504")
        writer.close()
    assert (await slow.settled())[1] == before + 1  # `settled` itself


async def test_clients_that_go_away_over_http_take_their_work_with_them(extra, slow):
    _, before, failed = await slow.settled()
    pairs = [await http_request(extra.http) for _ in range(30)]
    for _, writer in pairs:
        writer.close()
    # the one in the slot, and one more that began while the others were closing
    assert await slow.began_without_clients(before, failed, 30) <= 2


async def test_cancelled_grpc_calls_take_their_work_with_them(extra, slow):
    _, before, failed = await slow.settled()
    async with grpc.aio.insecure_channel(extra.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelInferRequest(model_name="slow", raw_input_contents=[ROW.tobytes()])
        request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 4])
        calls = [asyncio.ensure_future(stub.ModelInfer(request)) for _ in range(30)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for call in calls:
            call.cancel()
        assert await slow.began_without_clients(before, failed, 30) <= 2


async def test_a_cancelled_stream_takes_its_work_with_it(extra, slow):
    _, before, failed = await slow.settled()
    made = grpcclient.InferInput("INPUT0", [1, 4], "FP32")
    made.set_data_from_numpy(ROW)
    with grpcclient.InferenceServerClient(extra.grpc) as client:
        answers = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for _ in range(30):
            client.async_stream_infer("slow", [made])
        answers.get(timeout=WAIT_S)  # the stream is there, and so are messages
        client.stop_stream(cancel_requests=True)
    already = (await slow.counts())[1]
    # Messages that the gateway had not read are none of its requests: there is no count to wait for.
    assert (await slow.settled())[1] - 1 - already <= 2
    assert already - before < 30
    assert (await slow.counts())[2] > failed
