"""Settings of the gRPC door and its transports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """Where and how the door listens. `native` is faster, has no TLS and no connection age (see grpc_native).

    `reuse_port` lets several workers listen on one port; without it a busy port is an error.
    `max_connection_age_ms` 0 = connections live as long as their clients want.
    """

    host: str = "127.0.0.1"
    port: int = 8001
    transport: Literal["aio", "native"] = "aio"
    max_message_bytes: int = 64 << 20
    max_concurrent_streams: int = 1024
    max_metadata_bytes: int = 16 << 10
    max_connection_age_ms: int = 0
    max_connection_age_grace_ms: int = 30_000
    reuse_port: bool = True
