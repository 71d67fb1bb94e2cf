"""What the whole gateway can be told: its own few settings, and one section per room that has some.

A section is the room's own frozen dataclass; adding one is one line here. Comments on the fields are what
`gateway config example` prints.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from gateway.config.decode import FILLED
from gateway.dataplane.admission import AdmissionSettings
from gateway.models.settings import ModelsSettings
from gateway.protocols.grpc_settings import GrpcSettings
from gateway.protocols.http_settings import HttpSettings

MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Threads of the process, shared by all models (a pool per model would cost a thousand models thousands)."""

    executor_threads: int = 0  # batches that execute at once, 0 = one per core
    # Threads inside one execution. On CPU two executions of one thread each beat one of two threads
    # (192 against 112 single-row requests a second on 2 cores), so raise it for latency only.
    intra_op_threads: int = 1

    def __post_init__(self) -> None:
        if self.intra_op_threads < 1:
            raise ValueError(f"intra_op_threads: expected at least 1, got {self.intra_op_threads}")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Relative paths are relative to the working directory."""

    model_repository: Path = Path("model_repository")  # <model>/<version>/model.onnx, Triton's layout
    state_dir: Path = Path(".state")  # what the gateway itself writes
    load_models: tuple[str, ...] = ()  # models to load at start, empty = all
    required_models: tuple[str, ...] = ()  # readiness needs a READY version of each of these
    host: str = "127.0.0.1"  # address of the HTTP and gRPC ports
    http_port: int = 8000  # 0 = any free port
    grpc_port: int = 8001
    admin_host: str = "127.0.0.1"  # address of the admin port
    admin_port: int = 8002  # metrics, health and the admin API
    workers: int = 0  # worker processes; only 0 (all in one process) exists so far
    # Who may call: "none" asks nobody for a key and is accepted on loopback addresses only;
    # "none-trusted-network" says that everybody who can reach the ports may use them.
    auth: Literal["none", "none-trusted-network"] = "none"
    drain_grace_s: float = 0.0  # after SIGTERM: not ready, but still accepting, so that load balancers see it first
    drain_timeout_s: float = 30.0  # after that: longest wait for requests in flight
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    http: HttpSettings = field(default_factory=HttpSettings)
    grpc: GrpcSettings = field(
        default_factory=GrpcSettings,
        metadata={FILLED: {"host": "host", "port": "grpc_port", "reuse_port": "shares_ports"}},
    )
    models: ModelsSettings = field(
        default_factory=ModelsSettings, metadata={FILLED: {"drain_timeout_s": "drain_timeout_s"}}
    )
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)

    def __post_init__(self) -> None:
        for name in ("http_port", "grpc_port", "admin_port"):
            if getattr(self, name) > MAX_PORT:
                raise ValueError(f"{name}: expected a port between 0 and {MAX_PORT}, got {getattr(self, name)}")
        self._check_ports_differ()
        if self.workers != 0:
            raise ValueError(
                f"workers: expected 0, got {self.workers} (the supervisor that would start worker processes "
                "does not exist yet; 0 serves everything from one process)"
            )
        for name in ("host", "admin_host"):
            self._check_bind(name, getattr(self, name))
        for item in fields(self):
            if item.metadata.get(FILLED):
                taken = {name: getattr(self, source) for name, source in item.metadata[FILLED].items()}
                object.__setattr__(self, item.name, replace(getattr(self, item.name), **taken))

    @property
    def shares_ports(self) -> bool:
        """Whether several processes listen on one port. If not, a port that is taken is an error."""
        return self.workers > 0

    def _check_ports_differ(self) -> None:
        ports = [port for port in (self.http_port, self.grpc_port, self.admin_port) if port]
        if len(set(ports)) < len(ports):
            raise ValueError(
                "http_port, grpc_port, admin_port: expected different ports, "
                f"got {self.http_port}, {self.grpc_port}, {self.admin_port}"
            )

    def _check_bind(self, name: str, address: str) -> None:
        if self.auth == "none" and not is_loopback(address):
            raise ValueError(
                f'{name}: {address!r} is not a loopback address, and authentication is off (auth = "none"). '
                'If everybody who can reach it may use it, say so: auth = "none-trusted-network"'
            )


def is_loopback(address: str) -> bool:
    """Tell whether a bind address is reachable from this machine only. Names other than localhost are not looked up."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
