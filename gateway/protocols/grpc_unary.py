"""Every unary gRPC method but ModelInfer: plain functions from request message to answer message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from grpc_health.v1 import health_pb2

import gateway
from gateway.core.errors import Code, GatewayError, invalid
from gateway.core.oip import service_pb2
from gateway.protocols.grpc_calls import Service
from runtimes.base import TensorSpec

INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"
SERVER_NAME = "model-gateway"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "parameters", "statistics")

_NOT_SUPPORTED = {
    "SystemSharedMemoryStatus": "system shared memory",
    "SystemSharedMemoryRegister": "system shared memory",
    "SystemSharedMemoryUnregister": "system shared memory",
    "CudaSharedMemoryStatus": "CUDA shared memory",
    "CudaSharedMemoryRegister": "CUDA shared memory",
    "CudaSharedMemoryUnregister": "CUDA shared memory",
    "TraceSetting": "changing trace settings",
    "LogSettings": "changing log settings",
}
_EXPLICIT = "explicit model load / unload is not allowed: the server's model control mode is not EXPLICIT"


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """`answer` may raise GatewayError; it never blocks and never awaits."""

    request: Any
    answer: Callable[[Any], Any]

    def call(self, raw: bytes) -> bytes:
        """Answer one call, bytes to bytes; raise GatewayError."""
        try:
            message = self.request.FromString(raw)
        except Exception as error:
            raise invalid(f"failed to parse the request body as {self.request.DESCRIPTOR.full_name}") from error
        body: bytes = self.answer(message).SerializeToString()
        return body


def unary_methods(
    service: Service, *, name: str = SERVER_NAME, extensions: tuple[str, ...] = EXTENSIONS
) -> Mapping[str, UnaryMethod]:
    """Return the methods by full path (`/package.Service/Method`)."""
    answers = _Answers(service, name, extensions)
    table: dict[str, Callable[[Any], Any]] = {
        "ServerLive": answers.server_live,
        "ServerReady": answers.server_ready,
        "ModelReady": answers.model_ready,
        "ServerMetadata": answers.server_metadata,
        "ModelMetadata": answers.model_metadata,
        "ModelConfig": answers.model_config,
        "ModelStatistics": answers.model_statistics,
        "RepositoryIndex": answers.repository_index,
        "RepositoryModelLoad": _explicit_mode_only,
        "RepositoryModelUnload": _explicit_mode_only,
    }
    methods = {
        f"/{INFERENCE_SERVICE}/{method}": UnaryMethod(_request_type(method), answer) for method, answer in table.items()
    }
    for method, what in _NOT_SUPPORTED.items():
        methods[f"/{INFERENCE_SERVICE}/{method}"] = UnaryMethod(_request_type(method), _refusal(what))
    methods[f"/{HEALTH_SERVICE}/Check"] = UnaryMethod(health_pb2.HealthCheckRequest, answers.health_check)
    return methods


def health_status(service: Service, name: str) -> int | None:
    """Return the health of a gRPC service of this server ("" = the server), None where there is no such service."""
    if name not in ("", INFERENCE_SERVICE, HEALTH_SERVICE):
        return None
    ready = service.server_ready()
    status: int = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
    return status


class _Answers:
    def __init__(self, service: Service, name: str, extensions: tuple[str, ...]) -> None:
        self._service = service
        self._name = name
        self._extensions = extensions

    def server_live(self, _: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=self._service.server_live())

    def server_ready(self, _: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=self._service.server_ready())

    def model_ready(self, message: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=self._service.model_ready(message.name, message.version))

    def server_metadata(self, _: Any) -> Any:
        return service_pb2.ServerMetadataResponse(
            name=self._name, version=gateway.__version__, extensions=self._extensions
        )

    def model_metadata(self, message: Any) -> Any:
        known = self._service.metadata(message.name, message.version)
        return service_pb2.ModelMetadataResponse(
            name=known.name,
            versions=known.versions,
            platform=known.platform,
            inputs=[_tensor_metadata(spec) for spec in known.signature.inputs],
            outputs=[_tensor_metadata(spec) for spec in known.signature.outputs],
        )

    def model_config(self, message: Any) -> Any:
        return service_pb2.ModelConfigResponse(config=self._service.config(message.name, message.version))

    def model_statistics(self, message: Any) -> Any:
        return service_pb2.ModelStatisticsResponse(model_stats=self._service.statistics(message.name, message.version))

    def repository_index(self, message: Any) -> Any:
        entry = service_pb2.RepositoryIndexResponse.ModelIndex
        models = [
            entry(name=line.name, version=line.version, state=line.state, reason=line.reason)
            for line in self._service.index(message.ready)
        ]
        return service_pb2.RepositoryIndexResponse(models=models)

    def health_check(self, message: Any) -> Any:
        status = health_status(self._service, message.service)
        if status is None:
            raise GatewayError(Code.NOT_FOUND, f"unknown service '{message.service[:256]}'")
        return health_pb2.HealthCheckResponse(status=status)


def _tensor_metadata(spec: TensorSpec) -> Any:
    return service_pb2.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _request_type(method: str) -> Any:
    return getattr(service_pb2, f"{method}Request")


def _explicit_mode_only(_: Any) -> Any:
    raise GatewayError(Code.UNIMPLEMENTED, _EXPLICIT)


def _refusal(what: str) -> Callable[[Any], Any]:
    def refuse(_: Any) -> Any:
        raise GatewayError(Code.UNIMPLEMENTED, f"{what} is not supported by this server")

    return refuse
