"""What the scenarios share: servers started once, bodies written to files, and the drives made from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import onnxruntime as ort
import payload
import targets
from loadgen import Load, h2load, percentile, wrk
from procs import WORK, Process, stop_all
from targets import Gateway, Missing
from tritonclient.grpc import service_pb2

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
# gRPC clients keep few connections with many calls each.
GRPC_CONNECTIONS, GRPC_STREAMS = 4, 8


class Model:
    """One model: its session in this process (the judge of every answer) and the bodies of one request."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = targets.model_file(name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(str(self.file), options, providers=["CPUExecutionProvider"])

    def inputs(self, seed: int = 1) -> payload.Arrays:
        return payload.make_inputs(self.session, 1, seed)

    def assert_answer(self, got: payload.Arrays, inputs: payload.Arrays) -> None:
        payload.assert_same(got, self.session, inputs)

    def body_file(self, kind: str, body: bytes) -> Path:
        """The body as a file for the load generator."""
        path = WORK / f"{self.name}.{kind}.body"
        path.write_bytes(body)
        return path


class Bench:
    """Starts each server at most once and ends them all; a server that failed to start is not tried again."""

    def __init__(self, gateway_command: Path) -> None:
        self._command = gateway_command
        self._processes: list[Process] = []
        self._gateways: dict[tuple[str, tuple[int, ...]], Gateway | Missing] = {}

    def keep(self, process: Process) -> Process:
        self._processes.append(process)
        return process

    def gateway(self, transport: str = "aio", cpus: tuple[int, ...] = targets.SERVER_CPU) -> Gateway:
        """The gateway with this gRPC transport and these cores; Missing with the reason where it did not start."""
        key = (transport, cpus)
        if key not in self._gateways:
            try:
                started = Gateway(self._command, transport, cpus)
                self.keep(started.process)
                self._gateways[key] = started
            except Missing as error:
                self._gateways[key] = error
        found = self._gateways[key]
        if isinstance(found, Missing):
            raise found
        return found

    def end_servers(self) -> None:
        """Stop everything, so that the next scenario has the machine to itself."""
        stop_all(self._processes)
        self._processes.clear()
        self._gateways = {key: value for key, value in self._gateways.items() if isinstance(value, Missing)}


def http_drive(
    port: int,
    path: str,
    body: Path,
    headers: dict[str, str],
    connections: int,
    cpus: tuple[int, ...] = targets.LOAD_CPU,
) -> Callable[[float], Load]:
    """Keep-alive POSTs by wrk."""
    targets.need("wrk")
    url = f"http://127.0.0.1:{port}{path}"
    return lambda seconds: wrk(url, body, headers, connections, seconds, cpus)


def grpc_drive(port: int, body: Path) -> Callable[[float], Load]:
    """ModelInfer by h2load; the number of calls follows the rate of the run before."""
    targets.need("h2load")
    url = f"http://127.0.0.1:{port}{GRPC_PATH}"
    rate = [500.0]

    def drive(seconds: float) -> Load:
        load = h2load(url, body, max(64, int(rate[0] * seconds)), GRPC_CONNECTIONS, GRPC_STREAMS)
        rate[0] = load.sent / load.wall_s
        return load

    return drive


def raw_drive(process: Process, batch: int, callers: int, intra: int, cpus: tuple[int, ...]) -> Callable[[float], Load]:
    """One point of the raw loop's grid: `Load.sent` counts rows, latencies are of whole calls."""

    def drive(seconds: float) -> Load:
        command = {"batch": batch, "callers": callers, "intra": intra, "seconds": seconds, "cpus": cpus}
        stdin, stdout = process.child.stdin, process.child.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the raw loop has no pipes")
        stdin.write(json.dumps(command).encode() + b"\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the raw loop ended: {process.log.read_text()[-300:]}")
        got = json.loads(line)
        p50, p95, p99 = (percentile(got["latencies_ms"], share) for share in (0.5, 0.95, 0.99))
        return Load(got["rows"], got["rows"] / got["rows_per_s"], p50, p95, p99, 0, got["cpu_s"])

    return drive


def infer_by_grpc(port: int, request: Any) -> Any:
    """One ModelInfer by grpcio, which does see the trailers; raises grpc.RpcError where the status is not OK."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            GRPC_PATH,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        return call(request, timeout=20)


def check_json(port: int, path: str, model: Model) -> None:
    """Three different requests, each answered as onnxruntime does."""
    for seed in (1, 2, 3):
        inputs = model.inputs(seed)
        answer, _ = targets.post(port, path, payload.json_body(inputs), JSON)
        model.assert_answer(payload.read_json(answer), inputs)


def check_binary(port: int, path: str, model: Model) -> None:
    for seed in (1, 2, 3):
        inputs = model.inputs(seed)
        body, head = payload.binary_body(inputs)
        answer, headers = targets.post(port, path, body, {"Inference-Header-Content-Length": str(head)})
        length = int(headers["inference-header-content-length"])
        model.assert_answer(payload.read_binary(answer, length), inputs)


def check_proto(port: int, model: Model) -> None:
    """The form of Envoy's reverse bridge, sent directly."""
    for seed in (1, 2, 3):
        inputs = model.inputs(seed)
        body = payload.proto_request(model.name, inputs).SerializeToString()
        answer, _ = targets.post(port, GRPC_PATH, body, PROTOBUF)
        model.assert_answer(payload.read_proto(service_pb2.ModelInferResponse.FromString(answer)), inputs)


def check_grpc(port: int, model: Model) -> None:
    for seed in (1, 2, 3):
        inputs = model.inputs(seed)
        try:
            answer = infer_by_grpc(port, payload.proto_request(model.name, inputs))
        except grpc.RpcError as error:
            raise RuntimeError(f"gRPC on port {port}: {error.code()}: {error.details()}") from None
        model.assert_answer(payload.read_proto(answer), inputs)
