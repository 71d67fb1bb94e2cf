"""Memory does not grow: a long run of mixed requests, a tenth of them bad, over both protocols."""

import asyncio
import gzip
import json
import os
import random
import re
import struct
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

pytestmark = pytest.mark.soak

REQUESTS = int(os.environ.get("SOAK_REQUESTS", "400000"))
CONNECTIONS, CALLERS = 12, 2
MAX_GROWTH_BYTES = 5 << 20
MAX_GROWTH_SHARE = 0.01
SAMPLES = 200


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("memory")
    for name, script in {
        "echo": {"inputs": ["INPUT0:FP32:-1,4"]},
        "texts": {"inputs": ["INPUT0:BYTES:-1,-1"]},
        "wide": {"inputs": ["INPUT0:FP32:-1,-1"]},
    }.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "1/model.json").write_text(json.dumps(script))
        (root / name / "config.pbtxt").write_text('backend: "echo"\nmax_batch_size: 16\ndynamic_batching {}\n')
    return root


def post(path, body, headers=""):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def tensor(shape, data, datatype="FP32", **more):
    return {"inputs": [{"name": "INPUT0", "shape": shape, "datatype": datatype, "data": data, **more}]}


def infer(model, document, headers=""):
    return post(f"/v2/models/{model}/infer", json.dumps(document).encode(), headers)


def json_row(rng):
    rows = rng.choice((1, 1, 1, 2, 7))
    return infer("echo", {"id": str(rng.random()), **tensor([rows, 4], [rng.random() for _ in range(4 * rows)])})


def binary(rng):
    width = rng.randrange(1, 5000)
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "INPUT0",
                    "shape": [1, width],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": 4 * width},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return post("/v2/models/wide/infer", head + bytes(4 * width), f"Inference-Header-Content-Length: {len(head)}\r\n")


def text(rng):
    words = ["ä" * rng.randrange(200) for _ in range(rng.randrange(1, 5))]
    return infer("texts", tensor([1, len(words)], words, "BYTES"))


def compressed(rng):
    body = gzip.compress(json.dumps(tensor([1, 4], [rng.random() for _ in range(4)])).encode())
    return post("/v2/models/echo/infer", body, "Content-Encoding: gzip\r\nAccept-Encoding: gzip\r\n")


def v1(rng):
    return post("/v1/models/echo:predict", json.dumps({"instances": [[rng.random()] * 4]}).encode())


def timed(rng):
    return infer("echo", tensor([1, 4], [1, 2, 3, 4]), f"x-gateway-timing: 1\r\nx-request-id: {rng.random()}\r\n")


def chunked(rng):
    body = json.dumps(tensor([1, 4], [rng.random()] * 4)).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:20], body[20:]))
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + chunks + b"0\r\n\r\n"


def view(rng):
    path = rng.choice(("/v2", "/v2/models/echo", "/v2/models/stats", "/v2/models/wide/config", "/v2/health/ready"))
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def unknown(rng):
    return infer(f"model{rng.randrange(10**9)}", tensor([1, 4], [1, 2, 3, 4]))


def misshapen(rng):
    return infer("echo", tensor([1, rng.randrange(5, 10**6)], [1, 2, 3, 4]))


def broken(rng):
    body = json.dumps(tensor([1, 4], [rng.random()] * 4))
    return post("/v2/models/echo/infer", body[: rng.randrange(len(body))].encode())


def odd_name(rng):
    document = tensor([1, 4], [1, 2, 3, 4])
    document["inputs"][0]["name"] = f"x{rng.random()}"
    return infer("echo", document)


def late(rng):
    return infer("echo", tensor([1, 4], [1, 2, 3, 4]), "x-request-timeout-ms: 0.0001\r\n")


def closing(_rng):
    return b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: nonsense\r\n\r\n"


GOOD = (json_row, json_row, json_row, json_row, binary, text, v1, timed, chunked, compressed, view)
BAD = (unknown, misshapen, broken, odd_name, late, closing)


class Run:
    """Counts what was asked and answered; samples the resident memory as it goes."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.left = REQUESTS
        self.statuses = Counter()
        self.rss = []

    def take(self):
        self.left -= 1
        if self.left % (REQUESTS // SAMPLES) == 0:
            self.rss.append(resident(self.gateway.process.pid))
        return self.left >= 0

    async def connection(self, seed):
        rng = random.Random(seed)
        host, port = self.gateway.http.split(":")
        while self.left > 0:
            reader, writer = await asyncio.open_connection(host, int(port))
            keep = True
            while keep and self.take():
                make = rng.choice(BAD if rng.random() < 0.1 else GOOD)
                writer.write(make(rng))
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
                status = int(head.split(b" ", 2)[1])
                self.statuses[status] += 1
                assert (status == 200) is (make in GOOD), (make.__name__, head)
                keep = b"connection: close" not in head
            writer.close()

    async def caller(self, stub, seed):
        rng = random.Random(seed)
        while self.left > 0:
            bad = rng.random() < 0.1
            request = service_pb2.ModelInferRequest(model_name="echo", id=str(rng.random()))
            request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 4])
            raw = struct.pack("4f", *(rng.random() for _ in range(4)))
            request.raw_input_contents.append(raw[:7] if bad else raw)
            self.take()
            try:
                answer = await stub.ModelInfer(request)
                assert np.frombuffer(answer.raw_output_contents[0], np.float32).shape == (4,)
                self.statuses["OK"] += 1
            except grpc.aio.AioRpcError as error:
                assert bad, error
                self.statuses[error.code().name] += 1


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


async def test_memory_stays_flat(start_gateway, repository):
    gateway = start_gateway(repository)
    run = Run(gateway)
    async with grpc.aio.insecure_channel(gateway.grpc) as channel, asyncio.TaskGroup() as group:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for seed in range(CONNECTIONS):
            group.create_task(run.connection(seed))
        for seed in range(CALLERS):
            group.create_task(run.caller(stub, 1000 + seed))
    half = run.rss[len(run.rss) // 2 :]
    growth, mean = max(half) - sum(half) / len(half), sum(half) / len(half)
    print(
        f"\nmemory over {REQUESTS} requests, answered {dict(run.statuses)}: resident {min(half) / 1e6:.1f} to "
        f"{max(half) / 1e6:.1f} MB in the last half, max over mean {growth / 1e6:.2f} MB ({growth / mean:.2%})"
    )
    assert growth < max(MAX_GROWTH_BYTES, MAX_GROWTH_SHARE * mean)
    assert not any(isinstance(status, int) and status in (500, 502) for status in run.statuses)
    assert gateway.stop() == 0
