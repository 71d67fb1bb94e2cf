"""SIGTERM under load: every request the gateway has read is answered, and the exit code is 0.

What counts as read is the gateway's own ledger, printed when it stops: a request enters it when its last byte was
parsed. It must equal, code by code, what the clients received. So a client may find its connection closed before
the first byte of an answer (HTTP/1.1 lets a server close an idle connection at any time, RFC 9112 9.5; in gRPC a
call behind the GOAWAY fails with UNAVAILABLE) only where the ledger agrees that this request was never read.
"""

import asyncio
import contextlib
import json
import re
import signal
from collections import Counter

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

WAIT_S = 60
KEEP_ALIVE, PIPELINED, CALLERS, STREAMS, DEPTH = 6, 4, 6, 2, 8


class Load:
    """Clients that ask until the gateway is gone, and what came of it."""

    def __init__(self, gateway, stop_after):
        self.gateway = gateway
        self.answers = Counter()  # "http OK" -> count
        self.unread = 0  # connections closed, or calls refused, before an answer began
        self.signalled = False
        self.faults = []
        self._stop_after = stop_after
        self._number = 0

    async def run(self):
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for _ in range(KEEP_ALIVE):
                group.create_task(self._http(1))
            for _ in range(PIPELINED):
                group.create_task(self._http(DEPTH))
            group.create_task(self._grpc())

    def _count(self, what):
        self.answers[what] += 1
        if not self.signalled and self.answers.total() >= self._stop_after:
            self.signalled = True
            self.gateway.process.send_signal(signal.SIGTERM)

    def _next(self):
        self._number += 1
        return self._number

    async def _http(self, depth):
        host, port = self.gateway.http.split(":")
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                break
            # Closed without an answer, or reset: whether it was entitled to one is for the ledger to say.
            with contextlib.suppress(ConnectionError):
                while await self._exchange(reader, writer, depth):
                    pass
            writer.close()
        if not self.signalled:
            self.faults.append("the gateway refused a connection before SIGTERM")

    async def _exchange(self, reader, writer, depth):
        """Send `depth` requests at once, read their answers; False when the connection is at its end."""
        numbers = [self._next() for _ in range(depth)]
        writer.write(b"".join(map(http_request, numbers)))
        for place, number in enumerate(numbers):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    self.faults.append(f"half an answer: {error.partial!r}")
                self.unread += depth - place
                if not self.signalled:
                    self.faults.append("a connection was closed before SIGTERM")
                return False
            try:
                body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
            except asyncio.IncompleteReadError:
                self.faults.append("an answer was cut off")
                return False
            status = head.split(b" ", 2)[1]
            if status != b"200" or json.loads(body)["outputs"][0]["data"] != [number] * 4:
                self.faults.append(f"{status!r} {body[:100]!r}")
            self._count("http OK")
            if b"connection: close" in head:
                self.unread += depth - place - 1
                return False
        return True

    async def _grpc(self):
        async with grpc.aio.insecure_channel(self.gateway.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(self._calls(stub))
                for _ in range(STREAMS):
                    group.create_task(self._stream(stub))

    async def _calls(self, stub):
        while True:
            number = self._next()
            try:
                answer = await stub.ModelInfer(grpc_request(number))
            except grpc.aio.AioRpcError as error:
                return self._refused(error)
            self._check(number, answer)

    async def _stream(self, stub):
        call = stub.ModelStreamInfer()
        try:
            while True:
                number = self._next()
                await call.write(grpc_request(number))
                answer = await call.read()
                if answer is grpc.aio.EOF:
                    self._refused(grpc.aio.AioRpcError(await call.code(), None, None, await call.details()))
                    return
                self._check(number, answer.infer_response)
        except asyncio.InvalidStateError:  # written to a call that has ended
            self._refused(grpc.aio.AioRpcError(await call.code(), None, None, await call.details()))
        except grpc.aio.AioRpcError as error:
            self._refused(error)

    def _check(self, number, answer):
        if np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() != [number] * 4:
            self.faults.append(f"a wrong answer: {answer}")
        self._count("grpc OK")

    def _refused(self, error):
        self.unread += 1
        if not self.signalled:
            self.faults.append(f"refused before SIGTERM: {error}")
        # "Internal error from Core" is what grpc.aio's client says of a write to a stream that has just ended.
        written_late = error.details() == "Internal error from Core"
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) and not written_late:
            self.faults.append(f"refused with {error.code()}: {error.details()}")


def http_request(number):
    body = json.dumps({"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [number] * 4}]})
    head = f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def grpc_request(number):
    request = service_pb2.ModelInferRequest(model_name="echo")
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(np.full(4, number, np.float32).tobytes())
    return request


def ledger(gateway):
    line = re.search(r"inference requests: (.*)", gateway.log.read_text())
    return {f"{protocol} {code}": int(count) for protocol, code, count in re.findall(r"(\w+) (\w+)=(\d+)", line[1])}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """An echo model that takes 5 ms, so that there is always something in flight."""
    root = tmp_path_factory.mktemp("sigterm")
    (root / "echo/1").mkdir(parents=True)
    (root / "echo/1/model.json").write_text(json.dumps({"inputs": ["INPUT0:FP32:-1,4"], "delay_ns": 5_000_000}))
    (root / "echo/config.pbtxt").write_text('backend: "echo"\nmax_batch_size: 8\ndynamic_batching {}\n')
    return root


DOORS = [("--hot-path",), ("--no-hot-path",), ("--grpc-transport", "native")]


async def sigterm_round(start_gateway, repository, number):
    gateway = start_gateway(repository, *DOORS[number % 3])
    load = Load(gateway, stop_after=200 + 37 * number)
    await load.run()
    code = await asyncio.to_thread(gateway.process.wait, WAIT_S)
    assert load.faults == []
    assert (code, ledger(gateway)) == (0, dict(load.answers)), f"{load.unread} not read, by the clients' count"
    return load


@pytest.mark.parametrize("number", range(3))
async def test_every_request_that_was_read_is_answered(start_gateway, repository, number):
    load = await sigterm_round(start_gateway, repository, number)
    assert {"http OK", "grpc OK"} <= load.answers.keys()


@pytest.mark.soak
async def test_twenty_rounds(start_gateway, repository):
    answers, unread = Counter(), 0
    for number in range(20):
        load = await sigterm_round(start_gateway, repository, number)
        answers += load.answers
        unread += load.unread
    print(f"\nSIGTERM under load: 20 rounds, all exit codes 0, read and answered {dict(answers)}, never read {unread}")
