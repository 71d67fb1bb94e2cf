"""`gateway bench`: a small closed-loop load test of one model of a running gateway.

Closed loop: each connection sends its next request when the last one is answered. A slow server is therefore
asked less often, and the percentiles flatter it (coordinated omission); and this client is one Python process.
It answers "is it fast here?", not "what can it take?": that is `make bench`.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import typer

from gateway.cli import root
from gateway.cli.infer import Url, Version

WARM_UP_S = 0.5


@dataclass(slots=True)
class Tally:
    """What the connections saw after warm-up: seconds per answered request, and answers other than 200."""

    counting: bool = False
    latencies_s: list[float] = field(default_factory=list)
    failures: int = 0
    first_failure: str = ""

    def add(self, seconds: float, status: int, body: bytes) -> None:
        """Note one answer."""
        if not self.counting:
            return
        self.latencies_s.append(seconds)
        if status != 200:
            self.failures += 1
            self.first_failure = self.first_failure or f"status {status}: {body[:200].decode('utf-8', 'replace')}"


class Connection(asyncio.Protocol):
    """One keep-alive connection in a closed loop. `gone` is done when it is closed."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._tally = tally
        self._buffer = bytearray()
        self._sent = 0.0
        self._stopping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's promise for a TCP protocol
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Note an answer once it is complete, and send the next request."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        status, length = read_head(bytes(self._buffer[:head]))
        if len(self._buffer) < head + 4 + length:
            return
        self._tally.add(time.perf_counter() - self._sent, status, bytes(self._buffer[head + 4 :]))
        self._buffer.clear()
        if self._stopping:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report a connection that the server closed before the end as a failure."""
        if not self._stopping:
            self._tally.add(0.0, 0, b"the gateway closed the connection")
        if not self.gone.done():
            self.gone.set_result(None)

    def stop(self) -> None:
        """Close after the answer that is on its way."""
        self._stopping = True

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def read_head(head: bytes) -> tuple[int, int]:
    """Return status and body length of a response head (without the empty line)."""
    status = int(head[9:12])
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return status, int(value)
    return status, 0


def percentile(ordered: list[float], share: float) -> float:
    """Return the nearest-rank percentile of sorted values; nan where there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


@root.app.command("bench")
def bench(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    file: Annotated[Path | None, typer.Argument(help="Input file, as for `infer`. Default: zeros, one row.")] = None,
    version: Version = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long to measure.")] = 5.0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=4096, help="Connections.")] = 16,
    protocol: Annotated[Literal["json", "binary"], typer.Option("--protocol", help="V2 HTTP body form.")] = "json",
    url: Url = None,
    as_json: root.AsJson = False,
) -> None:
    """Load one model in a closed loop; print throughput and percentiles."""
    from gateway.cli import client

    base = client.http_url(url)
    metadata = client.call(base, client.model_path(model, version))
    request = _request(base, client.model_path(model, version, "/infer"), _inputs(metadata, model, file), protocol)
    host, port = urlsplit(base).hostname, urlsplit(base).port or 80
    try:
        tally, took_s = asyncio.run(_drive((host or "", port), request, concurrency, seconds))
    except OSError as error:
        raise root.Failure(f"no gateway answers at {base} ({error}); is `gateway serve` running?") from None
    _report(tally, took_s, f"{model}, V2 HTTP {protocol}, {concurrency} connections", as_json)


def _inputs(metadata: dict[str, Any], model: str, file: Path | None) -> dict[str, Any]:
    from gateway.cli import client, infer, wire

    if file is None:
        return wire.blank(metadata["inputs"])
    return infer.tensors(metadata, infer.client_input(client.admin_url(None), model, None), infer.read(file))


def _request(base: str, path: str, inputs: dict[str, Any], protocol: str) -> bytes:
    from gateway.cli import wire

    body, headers = wire.infer_body(inputs) if protocol == "binary" else (wire.json_body(inputs), {})
    lines = [
        f"POST {urlsplit(base).path}{path} HTTP/1.1",
        f"Host: {urlsplit(base).netloc}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _drive(address: tuple[str, int], request: bytes, concurrency: int, seconds: float) -> tuple[Tally, float]:
    """Run the loop: warm up, measure, let every connection finish its request."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    connections = []
    for _ in range(concurrency):
        _, connection = await loop.create_connection(lambda: Connection(request, tally), *address)
        connections.append(connection)
    await asyncio.sleep(min(WARM_UP_S, seconds))
    tally.counting = True
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    tally.counting, took_s = False, time.perf_counter() - start
    for connection in connections:
        connection.stop()
    await asyncio.wait_for(asyncio.gather(*(connection.gone for connection in connections)), 60)
    return tally, took_s


def _report(tally: Tally, took_s: float, title: str, as_json: bool) -> None:
    ordered = sorted(tally.latencies_s)
    figures = {
        "requests": len(ordered),
        "failures": tally.failures,
        "requests_per_s": round(len(ordered) / took_s, 1),
        **{f"p{p}_ms": round(percentile(ordered, p / 100) * 1000, 3) for p in (50, 95, 99) if ordered},
    }
    if as_json:
        root.print_json({"loop": "closed", **figures})
    else:
        print(f"{title}, {took_s:.1f} s, closed loop: a slow server is asked less often, so this flatters it")
        root.print_table([name.upper() for name in figures], [list(figures.values())])
    if tally.failures or not ordered:
        raise root.Failure(f"{tally.failures} requests failed; the first: {tally.first_failure or 'no answer'}")
