"""A small inference service with scripted behaviour by model name, and doors over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.core.errors import Code, GatewayError
from gateway.core.oip import model_config_pb2, service_pb2
from gateway.core.timeline import RequestRecord
from gateway.core.types import (
    IndexEntry,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ServableVersion,
    Tensor,
)
from gateway.protocols.grpc import GrpcDoor, GrpcSettings
from runtimes.base import ModelSignature, TensorSpec


class Budget:
    def __init__(self) -> None:
        self.used = 0
        self.limit = 1 << 40

    def take(self, count: int) -> bool:
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        self.used -= count


SIGNATURE = ModelSignature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("out_x", "FP32", (-1, 4)),))


class ScriptedService:
    """echo: inputs come back as `out_<name>`; later: as echo, one loop turn later; hold: answers on `release`;
    parts: three streamed parts; busy: OVERLOADED; broken: an answer nobody can encode; else NOT_FOUND."""

    def __init__(self) -> None:
        self.byte_budget = Budget()
        self.ready = True
        self.held: list[InferRequest] = []
        self.arrived = asyncio.Event()
        self.records: list[RequestRecord] = []
        self.requests: list[InferRequest] = []
        self.target = ServableVersion("echo", "3", SIGNATURE, 8, lambda request: None)

    def infer(self, request: InferRequest) -> None:
        request.on_finished.append(lambda finished: self.records.append(finished.record()))
        request.known = True
        self.requests.append(request)
        action = {
            "echo": self.answer,
            "later": lambda r: asyncio.get_running_loop().call_soon(self.answer, r),
            "hold": self.held.append,
            "parts": self._parts,
            "busy": lambda r: r.fail(Code.OVERLOADED, "Exceeds maximum queue size", retry_after_s=7),
            "broken": lambda r: r.complete(InferResponse({"y": Tensor("BYTES", np.array([1], np.object_))})),
        }.get(request.model)
        if action is None:
            request.fail(Code.NOT_FOUND, f"Request for unknown model: '{request.model}' is not found")
            return
        request.target = self.target
        request.route_reason = "rule=only"
        action(request)
        self.arrived.set()

    def refuse(self, request: InferRequest, error: GatewayError) -> None:
        request.on_finished.append(lambda finished: self.records.append(finished.record()))
        request.complete(error)

    def answer(self, request: InferRequest) -> None:
        outputs = {f"out_{name}": tensor for name, tensor in request.inputs.items()}
        request.complete(InferResponse(outputs))

    def _parts(self, request: InferRequest) -> None:
        for number in range(3):
            request.emit(InferResponse({"part": Tensor("INT32", np.array([number], np.int32))}))
        request.complete(InferResponse({}))

    def release(self) -> None:
        while self.held:
            self.answer(self.held.pop())

    def server_live(self) -> bool:
        return True

    def server_ready(self) -> bool:
        return self.ready

    def model_ready(self, name: str, version: str) -> bool:
        self._known(name)
        return version in ("", "3")

    def metadata(self, name: str, version: str) -> ModelMetadata:
        self._known(name)
        return ModelMetadata(name, ("3",), "onnxruntime_onnx", SIGNATURE)

    def config(self, name: str, version: str) -> Any:
        self._known(name)
        return model_config_pb2.ModelConfig(name=name, max_batch_size=8)

    def statistics(self, name: str, version: str) -> list[Any]:
        return [service_pb2.ModelStatistics(name=name or "echo", version="3", inference_count=5)]

    def index(self, ready_only: bool) -> list[IndexEntry]:
        lines = [IndexEntry("echo", "3", "READY"), IndexEntry("old", "1", "UNAVAILABLE", "unloaded")]
        return lines[:1] if ready_only else lines

    def _known(self, name: str) -> None:
        if name != "echo":
            raise GatewayError(Code.NOT_FOUND, f"Request for unknown model: '{name}' is not found")


@pytest.fixture
async def service() -> ScriptedService:
    return ScriptedService()


OpenDoor = Callable[..., Awaitable[str]]


@pytest.fixture(params=["aio", "native"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def open_door(service: ScriptedService, transport: str) -> AsyncIterator[OpenDoor]:
    """Start a door over `service` with changed settings; answers its address. Stopped afterwards."""
    doors: list[GrpcDoor] = []

    async def start(**changes: Any) -> str:
        door = GrpcDoor(service, GrpcSettings(port=0, transport=transport, **changes))
        doors.append(door)
        return f"127.0.0.1:{await door.start()}"

    start.doors = doors  # type: ignore[attr-defined]
    yield start
    for door in doors:
        await door.stop(0)


@pytest.fixture
async def channel(open_door: OpenDoor) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(await open_door()) as opened:
        yield opened
