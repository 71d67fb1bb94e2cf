"""Call a running gateway over HTTP. The standard library's client: commands make a handful of requests."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote, urlsplit

from gateway.cli.root import Failure, settings

TIMEOUT_S = 60.0


def http_url(given: str | None) -> str:
    """Return the base address of the inference port: the flag, GATEWAY_URL, or what the configuration says."""
    from gateway.config import variable

    return (given or variable("GATEWAY_URL") or _configured("host", "http_port")).rstrip("/")


def admin_url(given: str | None) -> str:
    """Return the base address of the admin port: the flag, GATEWAY_ADMIN_URL, or what the configuration says."""
    from gateway.config import variable

    return (given or variable("GATEWAY_ADMIN_URL") or _configured("admin_host", "admin_port")).rstrip("/")


def _configured(host: str, port: str) -> str:
    loaded = settings().settings
    address = getattr(loaded, host)
    return f"http://{f'[{address}]' if ':' in address else address}:{getattr(loaded, port)}"


def model_path(model: str, version: str | None, suffix: str = "") -> str:
    """Return the V2 path of a model, quoted."""
    versions = f"/versions/{quote(version, safe='')}" if version else ""
    return f"/v2/models/{quote(model, safe='')}{versions}{suffix}"


def call(url: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
    """Send a GET (or a POST, with a body) and return the decoded JSON answer; raise Failure in the user's words."""
    status, answer = exchange(url, path, body, headers)
    try:
        decoded = json.loads(answer) if answer else {}
    except ValueError:
        raise Failure(f"{url} answered status {status} with something other than JSON: is it a gateway?") from None
    if status >= 400:
        known = decoded if isinstance(decoded, dict) else {}
        reason = next((known[key] for key in ("error", "detail", "title") if key in known), "no reason given")
        raise Failure(f"the gateway answered {status}: {reason}")
    return decoded


def exchange(url: str, path: str, body: bytes | None, headers: dict[str, str] | None) -> tuple[int, bytes]:
    """Send one request; return status and body. Raises Failure where nobody answers."""
    connection, prefix = _connection(url)
    try:
        connection.request("GET" if body is None else "POST", prefix + path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Failure(f"no gateway answers at {url} ({reason}); is `gateway serve` running?") from None
    finally:
        connection.close()


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection, not yet open, and the path that the address begins with."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise Failure(f"expected an address like http://127.0.0.1:8000, got {url!r}", exit_code=2)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=TIMEOUT_S), parts.path
