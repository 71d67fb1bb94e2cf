"""Listening sockets, bound before anything is loaded: a busy port is found out at once, port 0 is resolved."""

from __future__ import annotations

import socket


class PortBusy(Exception):
    """An address cannot be listened on. The message names it."""


def bind(host: str, port: int, purpose: str) -> socket.socket:
    """Bind exclusively (no SO_REUSEPORT, so a second gateway is an error and not a silent split). Raises PortBusy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortBusy(f"cannot listen on {host}:{port} for {purpose}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def port_of(listener: socket.socket) -> int:
    """The bound port."""
    port: int = listener.getsockname()[1]
    return port
