"""uvicorn's server with our shutdown: the stock one re-raises SIGTERM, so a clean drain would exit 143."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn

from gateway.protocols.fast_http import GatewayProtocol
from gateway.protocols.http_door import HttpDoor


class GatewayServer(uvicorn.Server):
    """Serves one ASGI app on sockets that are already bound; signals are the application's business.

    With a door its connections are `GatewayProtocol`s; without one they are uvicorn's own (the admin port).
    """

    def __init__(self, app: Any, *, door: HttpDoor | None = None, backlog: int = 2048) -> None:
        options: dict[str, Any] = {"http": "httptools"}
        if door is not None:
            options["http"] = lambda **uvicorn_options: GatewayProtocol(door, **uvicorn_options)
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                backlog=backlog,
                timeout_keep_alive=75,
                **options,
            )
        )
        self._door = door
        self._ticker: asyncio.Task[None] | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        """Begin to accept."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)
        await self.startup(sockets=sockets)
        self._ticker = asyncio.create_task(self.main_loop())
        if self._door is not None:
            self._door.start(self.server_state.connections)  # type: ignore[arg-type]

    async def on_tick(self, counter: int) -> bool:
        """Refresh the date header, for the door too."""
        done = await super().on_tick(counter)
        if self._door is not None:
            self._door.default_head = b"".join(b"%b: %b\r\n" % line for line in self.server_state.default_headers)
        return done

    async def stop(self, timeout_s: float) -> None:
        """Close the listeners, let what was read be answered, then close the connections; at most `timeout_s`."""
        for server in self.servers:
            server.close()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.server_state.connections and asyncio.get_running_loop().time() < deadline:
            for connection in list(self.server_state.connections):
                connection.shutdown()
            await asyncio.sleep(0.02)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        self.should_exit = True
        if self._ticker is not None:
            await self._ticker
        if self._door is not None:
            self._door.stop()
