"""`make bench`: every server side by side in one run, one table. See loadtests/README.md for how to read it.

Exit code 0 where every measured bar holds, 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import report
import scenarios
import targets
from context import Bench
from measure import Row, interleave
from procs import WORK, ahead_of_others


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The gateway beside raw ONNX Runtime, nginx, FastAPI, grpc.aio.")
    parser.add_argument("--quick", action="store_true", help="one round of each row: about a minute, for a first look")
    parser.add_argument("--rounds", type=int, help="rounds of every row (default 5)")
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(scenarios.ALL)}, or SCENARIO/ROW")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples and verdicts")
    here = Path(sys.executable).with_name("gateway")
    parser.add_argument("--gateway", type=Path, default=here, help="the gateway command to measure (another build)")
    parser.add_argument("--no-setup", action="store_true", help="do not look for missing tools and models")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    return parser.parse_args(arguments)


def wanted(only: str, scenario: str) -> set[str] | None:
    """Row keys asked for in this scenario; None = all of them; an empty set = none."""
    tokens = [token.strip() for token in only.split(",") if token.strip()]
    if not tokens or scenario in tokens:
        return None
    return {token.partition("/")[2] for token in tokens if token.startswith(f"{scenario}/")}


def say(text: str) -> None:
    """Progress, kept apart from the table."""
    print(text, file=sys.stderr, flush=True)


def make_rows(scenario: scenarios.Scenario, keys: set[str] | None) -> tuple[list[Row], dict[str, str]]:
    """Start what the rows need and check its answers; what cannot be had is skipped with its reason."""
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for key, make in scenario.makers.items():
        if keys is not None and key not in keys:
            continue
        try:
            rows.append(make())
        except (targets.Missing, RuntimeError, OSError, AssertionError) as error:
            skipped[key] = " ".join(str(error).split())[:300]
    return rows, skipped


def measure(key: str, chosen: argparse.Namespace, rounds: int) -> dict[str, Any] | None:
    """One scenario from start to its printed block."""
    keys = wanted(chosen.only, key)
    if keys is not None and not keys:
        return None
    bench = Bench(chosen.gateway)
    try:
        scenario = scenarios.ALL[key](bench)
        rows, skipped = make_rows(scenario, keys)
        interleave(rows, rounds, 0.7 if chosen.quick else 1.0, lambda text: say(f"{key}: {text}"))
        confirm(rows)
    except targets.Missing as error:
        print(f"\n{key}\n  skipped: {error}")
        return {"scenario": key, "skipped": {key: str(error)}, "rows": [], "bars": []}
    finally:
        bench.end_servers()
    print(report.scenario_text(scenario, rows, skipped), flush=True)
    return report.as_data(scenario, rows, skipped)


def confirm(rows: list[Row]) -> None:
    """Ask the gRPC rows once more after the load: their generator cannot see a failed call."""
    for row in rows:
        if row.samples and row.after:
            try:
                row.after()
            except (RuntimeError, AssertionError) as error:
                row.samples.clear()
                row.notes.append(f"failed after the load: {error}")


def main(arguments: list[str] | None = None) -> int:
    chosen = options(arguments)
    if chosen.list:
        print("\n".join(scenarios.ALL))
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    if not chosen.no_setup:
        subprocess.run([str(Path(__file__).with_name("setup.sh"))], check=True)
        targets.build_models()
    rounds = chosen.rounds or (1 if chosen.quick else 5)
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}; {rounds} interleaved rounds after a warm-up.")
    print("CPU is the server's whole process tree, the kernel's share included.")
    with ahead_of_others():
        results = [measure(key, chosen, rounds) for key in scenarios.ALL]
    blocks = [block for block in results if block]
    if chosen.json:
        chosen.json.write_text(json.dumps(blocks, indent=1))
    missed = [bar["bar"] for block in blocks for bar in block["bars"] if bar["verdict"] == "MISS"]
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nno measured bar is missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
