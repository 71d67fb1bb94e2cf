"""Where the gateway's time goes under load: py-spy on a pinned gateway while wrk or h2load drives it.

Prints what each package and function takes of a request's CPU, alone and with its callees; --svg draws a flame graph.
Usage: flame.py [--row ROW] [--seconds 10] [--native] [--svg FILE]; --help names the rows.
"""

from __future__ import annotations

import argparse
import collections
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import scenarios
import targets
from context import Bench
from measure import Row
from procs import WORK

ROWS = {
    "http-json": (scenarios.tiny, "http-json"),
    "http-binary": (scenarios.tiny, "http-binary"),
    "idle": (scenarios.tiny, "idle"),
    "image": (scenarios.image, "http-binary"),
    "grpc-aio": (scenarios.grpc, "grpc-aio"),
    "grpc-native": (scenarios.grpc, "grpc-native"),
    "bridge-direct": (scenarios.grpc, "bridge-direct"),
    "transformer": (scenarios.transformer, "http-json"),
}


def sample(row: Row, seconds: int, native: bool, form: str, out: Path) -> None:
    """Record the row's server while the row's load runs."""
    load = threading.Thread(target=row.drive, args=(seconds + 2.0,))
    load.start()
    spy = str(Path(sys.executable).with_name("py-spy"))
    argv = [spy, "record", "--pid", str(row.server.pid if row.server else 0), "--duration", str(seconds)]
    argv += ["--rate", "500", "--function", "--format", form, "--output", str(out), *(["--native"] if native else [])]
    try:
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=seconds + 60)
    finally:
        load.join()


def package(frame: str) -> str:
    """The room or the library a frame belongs to: `infer (gateway/dataplane/service.py:12)` -> gateway/dataplane."""
    path = frame.rpartition("(")[2].partition(":")[0].rstrip(")")
    parts = Path(path).parts
    if "gateway" in parts or "runtimes" in parts:
        start = parts.index("gateway") if "gateway" in parts else parts.index("runtimes")
        return "/".join(parts[start : start + 2])
    return parts[0] if len(parts) > 1 else path or frame


# Threads that wait in C look busy to the sampler: grpc's poller, idle dispatchers and pools.
WAITING = ("Thread.run ", "Dispatchers._work ", "_worker (concurrent/")


def table(title: str, counts: collections.Counter[str], total: int, cpu_us: float, top: int) -> list[str]:
    """Lines of share, us per request, name."""
    lines = ["", title]
    for name, count in counts.most_common(top):
        lines.append(f"{count / total:7.1%} {cpu_us * count / total:8.2f} us  {name}")
    return lines


def summary(raw: str, cpu_us: float, top: int = 30) -> str:
    """Where `cpu_us` per request go, from py-spy's raw form (`a;b;c 12` a line): own time, and with all callees."""
    own: collections.Counter[str] = collections.Counter()
    packages: collections.Counter[str] = collections.Counter()
    inclusive: collections.Counter[str] = collections.Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        python = [frame for frame in frames if ".py:" in frame]
        if python and python[-1].startswith(WAITING):
            continue
        own[frames[-1]] += int(count)
        packages[package(frames[-1])] += int(count)
        inclusive.update(dict.fromkeys(python or frames, int(count)))
    total = max(1, sum(own.values()))
    lines = [f"{total} samples; {cpu_us:.1f} us of CPU per request, shared out by samples"]
    lines += table("own time by package", packages, total, cpu_us, 15)
    lines += table("own time by function", own, total, cpu_us, top)
    some = collections.Counter({name: count for name, count in inclusive.items() if count < 0.99 * total})
    lines += table("time with callees", some, total, cpu_us, top)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--row", choices=sorted(ROWS), default="http-json")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--native", action="store_true", help="look into C extensions too")
    parser.add_argument("--svg", type=Path, help="also write a flame graph")
    parser.add_argument("--gateway", type=Path, default=Path(sys.executable).with_name("gateway"))
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    targets.build_models()
    bench = Bench(chosen.gateway)
    try:
        scenario, key = ROWS[chosen.row]
        row = scenario(bench).makers[key]()
        row.drive(1.0)
        cpu_us = row.take(2.0).cpu_us
        sample(row, chosen.seconds, chosen.native, "raw", WORK / "profile.txt")
        print(summary((WORK / "profile.txt").read_text(), cpu_us))
        if chosen.svg:
            sample(row, chosen.seconds, chosen.native, "flamegraph", chosen.svg)
    finally:
        bench.end_servers()
    return 0


if __name__ == "__main__":
    sys.exit(main())
