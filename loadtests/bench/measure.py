"""Interleaved rounds: every row is sampled once a round, in a rotating order; figures are minimum and median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loadgen import Load
from procs import Process, machine_busy_seconds


@dataclass(frozen=True)
class Sample:
    """One row in one round. `cpu_us` is the server's process tree per request; `side_us` a proxy's beside it."""

    cpu_us: float
    rate: float
    p50: float
    p95: float
    p99: float
    server_busy: float
    generator_busy: float
    others_busy: float
    stolen: float
    side_us: float = 0.0


@dataclass
class Row:
    """One line of the table. `drive(seconds)` puts load on it.

    `counter` is the server's own count of successes; `after` checks an answer once more when the rounds are over.
    """

    key: str
    title: str
    drive: Callable[[float], Load]
    server: Process | None = None
    side: Process | None = None
    seconds: float = 1.0
    counter: Callable[[], int | None] | None = None
    after: Callable[[], None] | None = None
    unit: str = "request"
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def best(self, name: str) -> float:
        """The least disturbed round: the minimum, of a rate the maximum."""
        values: list[float] = [getattr(sample, name) for sample in self.samples]
        return max(values) if name == "rate" else min(values)

    def median(self, name: str) -> float:
        values: list[float] = [getattr(sample, name) for sample in self.samples]
        return statistics.median(values)

    def take(self, seconds: float) -> Sample:
        """Measure once. RuntimeError where requests failed or the server's own count says fewer succeeded."""
        succeeded = self.counter() if self.counter else None
        busy, stolen = machine_busy_seconds()
        own, side = self._cpu(self.server), self._cpu(self.side)
        start = time.perf_counter()
        load = self.drive(seconds)
        wall = time.perf_counter() - start
        own, side = self._cpu(self.server) - own, self._cpu(self.side) - side
        busy, stolen = (after - before for after, before in zip(machine_busy_seconds(), (busy, stolen), strict=True))
        if load.errors:
            raise RuntimeError(f"{self.key}: {load.errors} of {load.sent} requests failed")
        self._compare(succeeded, load.sent)
        if self.server is None:  # in process: the generator is what is measured
            own, generator = load.cpu_s, 0.0
        else:  # a proxy shares the generator's core
            generator = load.cpu_s + side
        return Sample(
            cpu_us=own / load.sent * 1e6,
            rate=load.sent / load.wall_s,
            p50=load.p50,
            p95=load.p95,
            p99=load.p99,
            server_busy=own / load.wall_s,
            generator_busy=generator / load.wall_s,
            others_busy=max(0.0, busy - own - generator) / wall,
            stolen=stolen / wall,
            side_us=side / load.sent * 1e6,
        )

    @staticmethod
    def _cpu(process: Process | None) -> float:
        return process.cpu_seconds() if process else 0.0

    def _compare(self, before: int | None, sent: int) -> None:
        """The server's successes cover what the generator counted; up to 64 more may have been in flight at its end."""
        after = self.counter() if self.counter else None
        if before is None or after is None:
            return
        if not sent <= after - before <= sent + 64:
            raise RuntimeError(f"{self.key}: {sent} requests sent, the server counted {after - before} successes")
        if "counted" not in self.notes:
            self.notes.append("counted")


def interleave(rows: list[Row], rounds: int, scale: float, say: Callable[[str], None]) -> None:
    """Warm every row up, then sample all of them `rounds` times. A row that fails is dropped with its reason."""
    alive = list(rows)
    for number in range(rounds + 1):
        start = number % max(1, len(alive))
        for row in alive[start:] + alive[:start]:
            try:
                sample = row.take(row.seconds * scale)
            except RuntimeError as error:
                row.notes.append(f"failed: {error}")
                row.samples.clear()
                alive.remove(row)
                continue
            if number > 0:
                row.samples.append(sample)
        say("warmed up" if number == 0 else f"round {number} of {rounds}")
