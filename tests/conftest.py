import asyncio
import math
import os
import re
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

settings.register_profile("gateway", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("gateway")

ROOT = Path(__file__).parents[1]
START_S = 120  # a start-up that hangs fails here


class Gateway(NamedTuple):
    """A gateway of its own process. `http`, `grpc` and `admin` are host:port."""

    http: str
    grpc: str
    admin: str
    process: subprocess.Popen
    banner: str
    log: Path

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(START_S)


def _read_banner(process):
    """Lines up to the addresses; the process is killed where they do not come."""
    guard = threading.Timer(START_S, process.kill)
    guard.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Admin"):
            break
    guard.cancel()
    return "".join(lines)


@pytest.fixture(scope="session")
def start_gateway(tmp_path_factory):
    """start_gateway(repository, *flags) -> Gateway, started as a user starts it; still running ones end cleanly."""
    started = []

    def start(repository, *flags):
        folder = tmp_path_factory.mktemp("gateway")
        ports = ["--http-port", "0", "--grpc-port", "0", "--admin-port", "0"]
        command = [sys.executable, "-m", "gateway", "serve", "--model-repository", repository, *ports, *flags]
        names = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        log = folder / "log.txt"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, "--state-dir", folder / "state"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**names, "PYTHONPATH": str(ROOT)},
                cwd=folder,
            )
        banner = _read_banner(process)
        addresses = re.findall(r"^(?:HTTP|gRPC|Admin) +(?:http://)?([\d.]+:\d+)", banner, re.MULTILINE)
        if len(addresses) != 3:
            process.communicate()
            pytest.fail(f"the gateway did not start\n{banner}\n{log.read_text()}")
        http, grpc, admin = addresses
        gateway = Gateway(http, grpc, admin, process, banner, log)
        started.append(gateway)
        return gateway

    yield start
    running = [gateway for gateway in started if gateway.process.poll() is None]
    codes = [gateway.stop() for gateway in running]
    for gateway in started:
        gateway.process.stdout.close()
    assert set(codes) <= {0}


@pytest.fixture(scope="session")
def demo_repository():
    repository = ROOT / "model_repo/repository"
    assert any(repository.glob("*/1/model.onnx")), "make demo-models builds the demo models"
    return repository


@pytest.fixture(scope="session")
def demo(start_gateway, demo_repository):
    """A gateway that serves the demo models. Tests that use it share the xdist group "demo"."""
    return start_gateway(demo_repository)


def pytest_addoption(parser):
    parser.addoption(
        "--only-gpu-skips", action="store_true", help="fail the run if a test other than a GPU test was skipped"
    )


class OnlyGpuSkips:
    """Counts skipped tests that do not bear the `gpu` marker and fails the session if there are any."""

    def __init__(self):
        self.skipped = []

    def pytest_runtest_logreport(self, report):
        if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.skipped:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if self.skipped and session.exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter):
        if self.skipped:
            terminalreporter.section("skipped, but only GPU tests may be")
            terminalreporter.write_line("\n".join(self.skipped))


def pytest_configure(config):
    if config.getoption("--only-gpu-skips") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(OnlyGpuSkips(), "only-gpu-skips")


class _JumpingSelector(selectors.DefaultSelector):
    """Where nothing is ready, moves its loop's time on to the next timer and does not wait."""

    loop = None

    def select(self, timeout=None):
        events = super().select(0 if timeout is None or timeout > 0 else timeout)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None:  # no timer: only another thread or a socket can go on
            return super().select(None)
        self.loop.now_ns += math.ceil(timeout * 1e9)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still while anything is ready to run, and jumps to the next timer when nothing is.

    It starts far ahead of the real monotonic clock: a virtual deadline is never late for who reads that one.
    """

    def __init__(self):
        selector = _JumpingSelector()
        selector.loop = self
        self.now_ns = (int(time.monotonic()) + 1_000_000) * 10**9
        super().__init__(selector)

    def time(self):
        return self.now_ns / 1e9


def pytest_asyncio_loop_factories(config, item):
    if "virtual_time" in item.fixturenames:
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
def virtual_time():
    """The clock (ns) of an async test that asks for it; `asyncio.sleep` there takes no real time."""
    return lambda: asyncio.get_running_loop().now_ns
