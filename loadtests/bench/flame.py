"""Where the gateway's time goes under load: py-spy on a pinned gateway while wrk or h2load drives it.

Prints the functions with the most samples of their own and the share of each package; --svg writes a flame graph.
Usage: flame.py [--row http-json|http-binary|image|grpc-aio|grpc-native|bridge-direct] [--seconds 10] [--svg FILE]
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
    argv += ["--rate", "500", "--format", form, "--output", str(out), *(["--native"] if native else [])]
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


def summary(raw: str, top: int = 25) -> str:
    """Samples by leaf function and by package, from py-spy's raw form (`a;b;c 12` a line)."""
    leaves: collections.Counter[str] = collections.Counter()
    packages: collections.Counter[str] = collections.Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        leaf = stack.rpartition(";")[2]
        if leaf.startswith("Thread.run "):  # grpc's poller: a C loop that mostly waits
            continue
        leaves[leaf] += int(count)
        packages[package(leaf)] += int(count)
    total = max(1, sum(leaves.values()))
    lines = [f"{total} samples", "", "own time by package"]
    lines += [f"{count / total:7.1%}  {name}" for name, count in packages.most_common(15)]
    lines += ["", "own time by line of code"]
    lines += [f"{count / total:7.1%}  {name}" for name, count in leaves.most_common(top)]
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
        sample(row, chosen.seconds, chosen.native, "raw", WORK / "profile.txt")
        print(summary((WORK / "profile.txt").read_text()))
        if chosen.svg:
            sample(row, chosen.seconds, chosen.native, "flamegraph", chosen.svg)
    finally:
        bench.end_servers()
    return 0


if __name__ == "__main__":
    sys.exit(main())
