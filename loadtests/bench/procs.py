"""Processes under measurement: start pinned, wait until ready, account CPU of the whole tree, end by pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "bench"


def placed(argv: Sequence[str], cpus: Iterable[int]) -> list[str]:
    """The command pinned to `cpus` (none = any core), and before other users of the machine where that is allowed.

    Both helpers replace themselves by the command, so its pid is the one that was started.
    """
    pin = ",".join(str(cpu) for cpu in cpus)
    return ["nice", "-n", "-10", *(["taskset", "-c", pin] if pin else []), *argv]


@contextlib.contextmanager
def ahead_of_others() -> Iterator[None]:
    """Give this session's processes more weight than other sessions', where that is allowed; undone at the end.

    With autogroups (Linux's default) niceness counts inside a session only, so the session itself is raised too.
    """
    group = Path("/proc/self/autogroup")
    try:
        before = group.read_text().rpartition("nice")[2].strip()
        group.write_text("-10")
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            group.write_text(before)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def tree(pid: int) -> list[int]:
    """`pid` and all its descendants, alive now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for known in found:
        found.extend(children.get(known, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of the tree so far, kernel time included.

    Nanosecond run time of every living thread (schedstat); where a thread has ended the process total of
    /proc/PID/stat (10 ms ticks) is larger by more than a tick's rounding, and is taken instead.
    """
    total = 0.0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            threads = 0.0
            for task in Path(f"/proc/{each}/task").iterdir():
                with contextlib.suppress(OSError):
                    threads += int((task / "schedstat").read_text().split()[0]) / 1e9
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            process = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            total += process if process > threads + 0.03 else threads
    return total


def machine_busy_seconds() -> tuple[float, float]:
    """CPU seconds all cores were busy since boot, and seconds stolen by the hypervisor."""
    ticks = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    per_second = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / per_second, steal / per_second


@dataclass
class Process:
    """One started server. `cpus` empty = any core."""

    name: str
    argv: list[str]
    cpus: tuple[int, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    stdin: int = subprocess.DEVNULL
    stdout: int | None = None
    _child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def child(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child

    @property
    def log(self) -> Path:
        return WORK / "log" / f"{self.name}.log"

    def start(self) -> Process:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                placed(self.argv, self.cpus),
                cwd=ROOT,
                env=os.environ | self.env,
                stdin=self.stdin,
                stdout=log if self.stdout is None else self.stdout,
                stderr=log,
            )
        return self

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float = 120) -> None:
        """Poll `ready` (which may raise OSError) until it says yes; RuntimeError with the log's end otherwise."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                break
            with contextlib.suppress(OSError):
                if ready():
                    return
            time.sleep(0.05)
        tail = self.log.read_text(errors="replace")[-400:].strip()
        raise RuntimeError(f"{self.name} did not become ready: {tail}")

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def stop(self) -> None:
        """SIGTERM to the process, ten seconds, then SIGKILL for whatever of its tree is left."""
        if self._child is None:
            return
        members = tree(self.pid) if self._child.poll() is None else []
        if members:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(10)
        for pid in members if self._child.poll() is None else members[1:]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._child.wait(10)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def stop_all(processes: Iterable[Process]) -> None:
    for process in processes:
        process.stop()
