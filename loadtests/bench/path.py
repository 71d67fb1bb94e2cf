"""The gateway's own share of an HTTP inference: its protocol class driven in process, without sockets or a generator.

Prints CPU us per request of all between a message's bytes and its answer's; the kernel's and uvloop's part is missing.
Quieter than a load test, so a change of 2 % shows. Usage: path.py [--row http-json|http-binary|bridge] [--model M]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import uvicorn
import uvloop
from context import GRPC_PATH, Model
from payload import binary_body, json_body, proto_request
from targets import MODELS
from uvicorn.server import ServerState

from gateway.app.sockets import bind
from gateway.app.worker import Worker
from gateway.config import load
from gateway.protocols.fast_http import GatewayProtocol


class FakeTransport:
    """What the protocol class asks of a transport; counts answers."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.last = b""

    def write(self, data: bytes) -> None:
        self.last = data
        self._run.answered(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    abort = close

    def set_protocol(self, protocol: Any) -> None: ...


class Run:
    """A closed loop over all connections: each sends its next request a loop turn after its answer."""

    def __init__(self, message: bytes, total: int) -> None:
        self.message = message
        self.left = total
        self.in_flight = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.protocols: dict[FakeTransport, Any] = {}
        self._due: list[Any] = []
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        self._due = list(self.protocols.values())
        self._loop.call_soon(self._send)

    def answered(self, transport: FakeTransport) -> None:
        self.in_flight -= 1
        if not self._due:
            self._loop.call_soon(self._send)
        self._due.append(self.protocols[transport])

    def _send(self) -> None:
        due, self._due = self._due, []
        message = self.message
        for protocol in due:
            if self.left:
                self.left -= 1
                self.in_flight += 1
                # A copy each time, as a socket's read would make one.
                protocol.data_received(bytes(bytearray(message)))
        if not self.left and not self.in_flight and not self.done.done():
            self.done.set_result(None)


def message_of(row: str, model: Model) -> bytes:
    inputs = model.inputs()
    extra = ""
    path = f"/v2/models/{model.name}/infer"
    if row == "http-json":
        body, kind = json_body(inputs), "application/json"
    elif row == "http-binary":
        body, head = binary_body(inputs)
        kind, extra = "application/octet-stream", f"Inference-Header-Content-Length: {head}\r\n"
    else:
        path, kind = GRPC_PATH, "application/x-protobuf"
        body = proto_request(model.name, inputs).SerializeToString()
    lines = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: {kind}\r\n{extra}"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def main(chosen: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as state:
        flags = {"model_repository": MODELS, "state_dir": Path(state), "grpc_port": 0, "load_models": [chosen.model]}
        settings = load(flags=flags).settings
        worker = Worker(settings, bind("127.0.0.1", 0, "HTTP"))
        await worker.start()
        message = message_of(chosen.row, Model(chosen.model))
        config, state_of_server = uvicorn.Config(None), ServerState()  # type: ignore[arg-type]
        config.load()
        best = []
        for _ in range(chosen.rounds + 1):
            run = Run(message, chosen.requests)
            for _ in range(chosen.connections):
                protocol = GatewayProtocol(worker.http_door, config=config, server_state=state_of_server, app_state={})
                transport = FakeTransport(run)
                run.protocols[transport] = protocol
                protocol.connection_made(transport)
            start = time.process_time()
            run.begin()
            await run.done
            best.append((time.process_time() - start) / chosen.requests * 1e6)
            last = transport.last
            for protocol in run.protocols.values():
                protocol.connection_lost(None)
        if chosen.show:
            print(last)
        best = sorted(best[1:])
        print(f"{chosen.row} {chosen.model}: {best[0]:.2f} us (median {best[len(best) // 2]:.2f})")
        await worker.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--row", default="http-json", choices=["http-json", "http-binary", "bridge"])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--show", action="store_true")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(parser.parse_args()))
