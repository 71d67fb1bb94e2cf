"""The gRPC door: V2 inference, health and reflection on one port, over a transport chosen by a setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.protocols.grpc_aio import AioTransport
from gateway.protocols.grpc_calls import InferCalls, Service
from gateway.protocols.grpc_native import NativeTransport
from gateway.protocols.grpc_settings import GrpcSettings

if TYPE_CHECKING:
    import grpc

__all__ = ["GrpcDoor", "GrpcSettings"]


class GrpcDoor:
    """Serves `service` over gRPC. `start` and `stop` are called once each, on the loop everything runs on.

    All gRPC objects of a process belong on one loop: grpc.aio's poller wakes every loop that uses it.
    """

    def __init__(
        self, service: Service, settings: GrpcSettings, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        """Raise ValueError where the transport cannot do what is asked, RuntimeError where it is not installed."""
        calls = InferCalls(service)
        self._settings = settings
        self._transport: AioTransport | NativeTransport
        if settings.transport == "aio":
            self._transport = AioTransport(calls, settings, credentials)
        elif credentials is not None:
            raise ValueError("transport 'native' cannot do TLS; use transport 'aio', or end TLS in a proxy")
        else:
            self._transport = NativeTransport(calls, settings)

    async def start(self) -> int:
        """Listen and return the bound port; raise OSError where that fails."""
        host = self._settings.host
        return await self._transport.start(
            f"[{host}]:{self._settings.port}" if ":" in host else f"{host}:{self._settings.port}"
        )

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish within `grace_s`, cancel the rest, close the port."""
        await self._transport.stop(grace_s)
