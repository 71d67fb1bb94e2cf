"""The rows of the table and the bars they are held to, scenario by scenario."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import context
import payload
import targets
from context import JSON, PROTOBUF, Bench, Model
from measure import Row

Pick = Callable[[str, str], float]


@dataclass(frozen=True)
class Bar:
    """A promise: `value` of the measured figures is at most (or at least) `limit`."""

    title: str
    value: Callable[[Pick], float]
    limit: float
    at_least: bool = False
    unit: str = "x"


@dataclass
class Scenario:
    """Rows measured side by side in the same rounds. `makers` start a row's server, or raise Missing."""

    key: str
    title: str
    makers: dict[str, Callable[[], Row]]
    bars: list[Bar] = field(default_factory=list)
    unit: str = "request"


def _infer_path(model: Model) -> str:
    return f"/v2/models/{model.name}/infer"


def _raw(bench: Bench, model: Model) -> Callable[[str, int, int, int, float], Row]:
    """A maker of points of the raw loop: (key, batch, callers, intra-op threads, seconds)."""
    process = bench.keep(targets.raw_loop(model.file))

    def make(key: str, batch: int, callers: int, intra: int, seconds: float) -> Row:
        cpus = targets.SERVER_CPU if callers * intra == 1 else (0, 1)
        title = f"raw ONNX Runtime, batch {batch}, {callers} caller{'s' * (callers > 1)}"
        title += f" of {intra} threads" if intra > 1 else ""
        return Row(key, title, context.raw_drive(process, batch, callers, intra, cpus), seconds=seconds, unit="row")

    return make


class HttpRows:
    """Rows of one model over HTTP: nginx, the naive server and the gateway, given the same body."""

    def __init__(self, bench: Bench, model: Model, cpus: tuple[int, ...] = targets.SERVER_CPU) -> None:
        self._bench, self._model, self._cpus = bench, model, cpus
        self._load_cpus = targets.LOAD_CPU if cpus else ()
        self._json = model.body_file("json", payload.json_body(model.inputs()))

    def _row(self, key: str, title: str, seconds: float, port: int, path: str, connections: int) -> Row:
        drive = context.http_drive(port, path, self._json, JSON, connections, self._load_cpus)
        return Row(key, title, drive, seconds=seconds)

    def nginx(self, key: str, connections: int, seconds: float) -> Row:
        """`return 200` with an answer as long as a V2 JSON answer."""
        process, port = targets.nginx(payload.json_body({"y": self._model.inputs()["x"][:, :8]}))
        self._bench.keep(process)
        targets.post(port, "/return", self._json.read_bytes(), JSON)
        row = self._row(key, "nginx return 200", seconds, port, "/return", connections)
        row.server = process
        return row

    def fastapi(self, key: str, connections: int, seconds: float) -> Row:
        process, port = targets.fastapi(self._model.file, self._cpus)
        self._bench.keep(process)
        context.check_json(port, "/predict", self._model)
        row = self._row(key, "FastAPI + pydantic + onnxruntime", seconds, port, "/predict", connections)
        row.server = process
        return row

    def gateway(self, key: str, connections: int, seconds: float) -> Row:
        """HTTP JSON."""
        gateway, path = self._bench.gateway(cpus=self._cpus), _infer_path(self._model)
        context.check_json(gateway.http, path, self._model)
        row = self._row(key, "gateway, HTTP JSON", seconds, gateway.http, path, connections)
        row.server, row.counter = gateway.process, lambda: gateway.succeeded(self._model.name)
        return row

    def binary(self, key: str, connections: int, seconds: float) -> Row:
        """HTTP with the binary tensor extension, both ways."""
        gateway, path = self._bench.gateway(cpus=self._cpus), _infer_path(self._model)
        context.check_binary(gateway.http, path, self._model)
        body, head = payload.binary_body(self._model.inputs())
        headers = {"Inference-Header-Content-Length": str(head), "Content-Type": "application/octet-stream"}
        file = self._model.body_file("binary", body)
        drive = context.http_drive(gateway.http, path, file, headers, connections, self._load_cpus)
        row = Row(key, "gateway, HTTP binary", drive, gateway.process, seconds=seconds)
        row.counter = lambda: gateway.succeeded(self._model.name)
        return row


def _lone(row: Row) -> Row:
    row.title += ", 1 connection"
    return row


def tiny(bench: Bench) -> Scenario:
    """Overhead: a model of microseconds, 32 connections on one server core."""
    model = Model("tiny")
    rows, raw = HttpRows(bench, model), _raw(bench, model)
    makers = {
        "raw-1": lambda: raw("raw-1", 1, 1, 1, 0.3),
        "raw-32": lambda: raw("raw-32", 32, 1, 1, 0.3),
        "raw-1-2callers": lambda: raw("raw-1-2callers", 1, 2, 1, 0.3),
        "nginx": lambda: rows.nginx("nginx", 32, 1),
        "fastapi": lambda: rows.fastapi("fastapi", 32, 1),
        "http-json": lambda: rows.gateway("http-json", 32, 1),
        "http-binary": lambda: rows.binary("http-binary", 32, 1),
        "nginx-idle": lambda: _lone(rows.nginx("nginx-idle", 1, 1)),
        "fastapi-idle": lambda: _lone(rows.fastapi("fastapi-idle", 1, 1)),
        "idle": lambda: _lone(rows.gateway("idle", 1, 1)),
    }
    bars = [
        Bar("HTTP JSON, CPU over nginx", lambda of: of("http-json", "cpu_us") / of("nginx", "cpu_us"), 3.5),
        Bar("FastAPI's CPU over HTTP JSON", lambda of: of("fastapi", "cpu_us") / of("http-json", "cpu_us"), 12, True),
        Bar("one idle connection, p50", lambda of: of("idle", "p50"), 0.3, unit=" ms"),
    ]
    return Scenario("tiny", "tiny model (16 floats in, 8 out), 32 connections, server on one core", makers, bars)


def digits(bench: Bench) -> Scenario:
    """The demo model of 64 floats in, a label and 10 probabilities out."""
    model = Model("digits")
    rows, raw = HttpRows(bench, model), _raw(bench, model)
    makers = {
        "raw-1": lambda: raw("raw-1", 1, 1, 1, 0.3),
        "raw-32": lambda: raw("raw-32", 32, 1, 1, 0.3),
        "fastapi": lambda: rows.fastapi("fastapi", 32, 1),
        "http-json": lambda: rows.gateway("http-json", 32, 1),
        "http-binary": lambda: rows.binary("http-binary", 32, 1),
    }
    return Scenario("digits", "digits (64 floats in, 11 values out), 32 connections, server on one core", makers)


def image(bench: Bench) -> Scenario:
    """Transport: 602 KB in, next to nothing computed, 8 connections."""
    model = Model("image")
    rows, raw = HttpRows(bench, model), _raw(bench, model)

    def nginx_receives() -> Row:
        if not targets.ECHO_MODULE.exists():
            raise targets.Missing("nginx's echo module is not installed")
        process, port = targets.nginx(b'{"model_name":"image"}')
        bench.keep(process)
        body, _ = payload.binary_body(model.inputs())
        if targets.post(port, "/mirror", body, {})[0] != body:
            raise RuntimeError("nginx did not read the whole body")
        drive = context.http_drive(port, "/receive", model.body_file("binary", body), {}, 8)
        return Row("nginx", "nginx receiving the same body", drive, process, seconds=1)

    makers = {
        "raw-1": lambda: raw("raw-1", 1, 1, 1, 0.3),
        "raw-8": lambda: raw("raw-8", 8, 1, 1, 0.3),
        "nginx": nginx_receives,
        "http-binary": lambda: rows.binary("http-binary", 8, 1),
    }

    def over_nginx(of: Pick) -> float:
        own = of("http-binary", "cpu_us") - min(of("raw-1", "cpu_us"), of("raw-8", "cpu_us"))
        return own / of("nginx", "cpu_us")

    bars = [Bar("HTTP binary less the model, CPU over nginx", over_nginx, 3)]
    return Scenario("image", "602 KB image tensor, 8 connections, server on one core", makers, bars)


def grpc(bench: Bench) -> Scenario:
    """The tiny model over gRPC, 32 calls in flight on 4 connections."""
    model = Model("tiny")
    message = payload.proto_request(model.name, model.inputs()).SerializeToString()
    framed = model.body_file("grpc", payload.grpc_frame(message))

    def echo() -> Row:
        process, port = targets.grpc_echo("tiny", "y", 8)
        bench.keep(process)
        answer = context.infer_by_grpc(port, payload.proto_request(model.name, model.inputs()))
        if len(answer.raw_output_contents[0]) != 32:
            raise RuntimeError("the echo answers the wrong size")
        return Row("echo", "bare grpc.aio echo (no model)", context.grpc_drive(port, framed), process, seconds=1.5)

    def by_transport(key: str, title: str, transport: str) -> Row:
        gateway = bench.gateway(transport)
        context.check_grpc(gateway.grpc, model)
        row = Row(key, title, context.grpc_drive(gateway.grpc, framed), gateway.process, seconds=1.5)
        row.counter = lambda: gateway.succeeded(model.name)
        row.after = lambda: context.check_grpc(gateway.grpc, model)
        return row

    def bridge() -> Row:
        gateway = bench.gateway()
        process, port = targets.envoy(gateway)
        bench.keep(process)
        context.check_grpc(port, model)
        row = Row("bridge", "gateway, gRPC through Envoy", context.grpc_drive(port, framed), gateway.process, process)
        row.seconds, row.counter = 1.5, lambda: gateway.succeeded(model.name)
        row.after = lambda: context.check_grpc(port, model)
        return row

    def direct() -> Row:
        gateway = bench.gateway()
        context.check_proto(gateway.http, model)
        file = model.body_file("protobuf", message)
        drive = context.http_drive(gateway.http, context.GRPC_PATH, file, PROTOBUF, 32)
        row = Row("bridge-direct", "gateway, what Envoy sends, by wrk", drive, gateway.process)
        row.counter = lambda: gateway.succeeded(model.name)
        return row

    makers = {
        "echo": echo,
        "grpc-aio": lambda: by_transport("grpc-aio", "gateway, gRPC by grpc.aio", "aio"),
        "grpc-native": lambda: by_transport("grpc-native", "gateway, gRPC by fastgrpc", "native"),
        "bridge": bridge,
        "bridge-direct": direct,
    }
    bars = [
        Bar("fastgrpc, gateway CPU", lambda of: of("grpc-native", "cpu_us"), 100, unit=" us"),
        Bar("Envoy bridge, gateway CPU", lambda of: of("bridge", "cpu_us"), 60, unit=" us"),
        Bar("grpc.aio, CPU over its bare echo", lambda of: of("grpc-aio", "cpu_us") / of("echo", "cpu_us"), 1.25),
    ]
    return Scenario("grpc", "gRPC, tiny model, 32 calls in flight, server on one core", makers, bars)


GRID = [(batch, 2, 1) for batch in (1, 2, 4, 8, 16)] + [(batch, 1, 2) for batch in (1, 4, 8, 16)] + [(1, 1, 1)]


def transformer(bench: Bench) -> Scenario:
    """Compute: about 10 ms a row, 16 clients, both cores for the server (the generator needs next to nothing)."""
    model = Model("transformer")
    rows, raw = HttpRows(bench, model, cpus=()), _raw(bench, model)

    def grid_point(batch: int, callers: int, intra: int) -> Callable[[], Row]:
        key = f"raw-{batch}-{callers}x{intra}"
        return lambda: raw(key, batch, callers, intra, 1.0)

    makers = {f"raw-{b}-{c}x{i}": grid_point(b, c, i) for b, c, i in GRID}
    makers["fastapi"] = lambda: rows.fastapi("fastapi", 16, 3)
    makers["http-json"] = lambda: rows.gateway("http-json", 16, 4)
    makers["http-binary"] = lambda: rows.binary("http-binary", 16, 4)

    def of_best_raw(of: Pick) -> float:
        return of("http-json", "rate") / max(of(f"raw-{b}-{c}x{i}", "rate") for b, c, i in GRID)

    bars = [Bar("HTTP JSON, rows/s over the raw loop's best", of_best_raw, 0.9, True)]
    return Scenario("transformer", "transformer, about 10 ms a row, 16 clients, both cores", makers, bars)


ALL = {"tiny": tiny, "digits": digits, "image": image, "grpc": grpc, "transformer": transformer}
