"""`gateway serve`: the settings from flags, environment and file, handed to the application."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway.cli import root

Switch = Annotated[
    bool | None, typer.Option("--hot-path/--no-hot-path", help="Answer inference from parser callbacks (the default).")
]


@root.app.command("serve")
def serve(
    model_repository: root.Repository = None,
    state_dir: Annotated[Path | None, typer.Option("--state-dir", help="What the gateway itself writes.")] = None,
    load_model: Annotated[
        list[str] | None, typer.Option("--load-model", help="Load only this model; can be repeated.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address of the HTTP and gRPC ports.")] = None,
    http_port: Annotated[int | None, typer.Option("--http-port", help="0 = any free port.")] = None,
    grpc_port: Annotated[int | None, typer.Option("--grpc-port")] = None,
    admin_host: Annotated[str | None, typer.Option("--admin-host", help="Address of the admin port.")] = None,
    admin_port: Annotated[int | None, typer.Option("--admin-port", help="Metrics, health, admin API.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Only 0 so far: all in one process.")] = None,
    auth: Annotated[
        Literal["none", "none-trusted-network"] | None,
        typer.Option("--auth", help="none-trusted-network: let everybody who can reach the ports use them."),
    ] = None,
    grpc_transport: Annotated[Literal["aio", "native"] | None, typer.Option("--grpc-transport")] = None,
    hot_path: Switch = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"] | None, typer.Option("--log-level")] = None,
    config: root.ConfigFile = None,
    assign: root.Assignments = None,
) -> None:
    """Serve the models of a repository until SIGTERM or Ctrl-C."""
    flags: dict[str, object] = {
        "model_repository": model_repository,
        "state_dir": state_dir,
        "load_models": load_model or None,
        "host": host,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "admin_host": admin_host,
        "admin_port": admin_port,
        "workers": workers,
        "auth": auth,
        "grpc.transport": grpc_transport,
        "http.hot_path": hot_path,
        "log_level": log_level,
    }
    settings = root.settings(config, flags, assign).settings
    from gateway.app import run

    raise typer.Exit(run(settings))
