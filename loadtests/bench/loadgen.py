"""Drives wrk and h2load for one sample and reads their figures, their own CPU included."""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from procs import WORK, placed

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Load:
    """What one run of a generator saw. Latencies in milliseconds. `sent` counts requests, `errors` failed ones."""

    sent: int
    wall_s: float
    p50: float
    p95: float
    p99: float
    errors: int
    cpu_s: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of an ascending sequence; 0 where it is empty."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _run(argv: list[str], cpus: Sequence[int], timeout_s: float) -> tuple[str, float]:
    """Output and CPU seconds of one command, pinned; RuntimeError where it fails or does not end in time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            placed(argv, cpus),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{argv[0]} did not end within {timeout_s:.0f} s") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} exited {done.returncode}: {done.stdout[-300:].strip()}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def wrk(
    url: str,
    body: Path,
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    cpus: Sequence[int] = (1,),
) -> Load:
    """Closed loop of keep-alive POSTs from one wrk thread; every connection has one request in flight."""
    script = str(HERE / "wrk.lua")
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "-s", script, url]
    argv += ["--", str(body), *(f"{name}={value}" for name, value in headers.items())]
    text, cpu_s = _run(argv, cpus, seconds + 40)
    return read_wrk(text, cpu_s)


def read_wrk(text: str, cpu_s: float) -> Load:
    """The RESULT line that wrk.lua prints."""
    line = re.search(r"^RESULT (.*)$", text, re.MULTILINE)
    if line is None:
        raise RuntimeError(f"wrk printed no result: {text[-300:].strip()}")
    got = {key: int(value) for key, value in (pair.split("=") for pair in line[1].split())}
    p50, p95, p99 = (got[key] / 1e3 for key in ("p50", "p95", "p99"))
    return Load(got["requests"], got["duration_us"] / 1e6, p50, p95, p99, got["errors"], cpu_s)


def h2load(
    url: str,
    body: Path,
    requests: int,
    connections: int,
    streams: int,
    cpus: Sequence[int] = (1,),
) -> Load:
    """Exactly `requests` gRPC calls over HTTP/2, connections x streams in flight.

    A count, not a duration: so the server's own success counter can be compared with it. h2load does not see
    trailers; a call that failed in gRPC looks like a success here.
    """
    log = WORK / "h2load.log"
    log.unlink(missing_ok=True)
    argv = ["h2load", f"-n{requests}", f"-c{connections}", f"-m{streams}", "-t1", "-d", str(body)]
    argv += ["--header", "content-type: application/grpc", "--header", "te: trailers", f"--log-file={log}"]
    argv += ["--connection-active-timeout=60", url]
    text, cpu_s = _run(argv, cpus, 90)
    return read_h2load(text, log.read_text(), cpu_s)


def read_h2load(text: str, log: str, cpu_s: float) -> Load:
    """h2load's summary and its log (start in us, HTTP status, duration in us, tab separated, a line a request)."""
    rows = [line.split("\t") for line in log.splitlines()]
    starts = [int(row[0]) for row in rows]
    durations = sorted(int(row[2]) / 1e3 for row in rows if row[1] == "200")
    ends = [int(row[0]) + int(row[2]) for row in rows]
    if not durations:
        raise RuntimeError(f"h2load got no answer: {text[-300:].strip()}")
    p50, p95, p99 = (percentile(durations, share) for share in (0.50, 0.95, 0.99))
    wall_s = (max(ends) - min(starts)) / 1e6
    return Load(len(rows), wall_s, p50, p95, p99, len(rows) - len(durations), cpu_s)
