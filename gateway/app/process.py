"""One process: its loop, its signals, its worker and admin parts, its exit code."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import signal
import socket
import sys

import uvloop

import gateway
from gateway.admin.app import admin_app
from gateway.app.banner import banner
from gateway.app.sockets import PortBusy, bind, port_of
from gateway.app.worker import Worker
from gateway.config import Settings
from gateway.protocols.http_server import GatewayServer
from gateway.telemetry.exposition import MetricsPage

_log = logging.getLogger("gateway")

# glibc mallopt parameters: with default thresholds every 600 KB body is mapped, page-faulted and unmapped
# (565 us of CPU a request against 402, measured); with these the memory is kept and reused.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Prints what is served where."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    if settings.auth == "none-trusted-network":
        _log.warning("authentication is off: everybody who can reach the ports may use them")
    _keep_memory()
    try:
        sockets = _bind_all(settings)
    except PortBusy as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 the operator's terminal
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, sockets))


def _bind_all(settings: Settings) -> tuple[socket.socket, socket.socket]:
    http = bind(settings.host, settings.http_port, "HTTP")
    try:
        return http, bind(settings.admin_host, settings.admin_port, "the admin port")
    except PortBusy:
        http.close()
        raise


async def _serve(settings: Settings, sockets: tuple[socket.socket, socket.socket]) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    http_socket, admin_socket = sockets
    worker = Worker(settings, http_socket)
    page = MetricsPage(worker.metrics, worker.gauges(), gateway.__version__)
    admin = GatewayServer(admin_app(page, worker.models, worker.service.server_ready))
    await admin.start([admin_socket])
    starting = asyncio.create_task(worker.start())
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if starting.done() and (failure := starting.exception()) is not None:
        print(f"error: {failure}", file=sys.stderr)  # noqa: T201
        code = 1
    elif not stopping.is_set():
        print(banner(settings, worker, port_of(http_socket), port_of(admin_socket)), flush=True)  # noqa: T201
        await waiting
    _log.info("stopping")
    starting.cancel()
    await asyncio.wait({starting})
    waiting.cancel()
    await worker.stop()
    _log.info("stopped; inference requests: %s", worker.totals())
    await admin.stop(1.0)
    return code


def _keep_memory() -> None:
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # not glibc
    libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20)
    libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)
    libc.mallopt(_M_TOP_PAD, 16 << 20)
