"""The process as an operator meets it: signals, busy ports, exit codes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def taken():
    """A port somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def serve(folder, tmp_path):
    """Start `gateway serve` over the folder with these flags; answers the process."""
    started = []

    def run(**flags):
        command = [sys.executable, "-m", "gateway", "serve", "--model-repository", folder.root]
        ports = {"http_port": 0, "grpc_port": 0, "admin_port": 0}
        for name, value in {**ports, "state_dir": tmp_path / "state", **flags}.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_until(process, text):
    guard = threading.Timer(60, process.kill)
    guard.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    guard.cancel()
    assert text in "".join(lines), "".join(lines) + process.stderr.read()
    return "".join(lines)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_serving_process_with_success(folder, serve, signum):
    folder.echo("echo")
    process = serve()
    read_until(process, "Try it")
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "stopping" in errors


@pytest.mark.parametrize(
    ("flag", "named"), [("http_port", "for HTTP"), ("admin_port", "for the admin port"), ("grpc_port", "gRPC")]
)
def test_busy_port_is_one_clean_line_and_a_failure(folder, serve, taken, flag, named):
    folder.echo("echo")
    process = serve(**{flag: taken})
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert f"127.0.0.1:{taken}" in line
    assert named in line
    assert "Traceback" not in errors


def test_repository_that_is_not_there_is_one_clean_line_and_a_failure(serve, folder, tmp_path):
    folder.root.rmdir()
    process = serve()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in errors


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def test_signal_during_loading_ends_the_process_with_success(folder, serve):
    folder.echo("slow", delay_ns=600_000_000_000, toml="")  # its warm-up would take minutes
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = serve(http_port=port, set="drain_timeout_s=1")
    while status_of(f"http://127.0.0.1:{port}/v2/health/ready") != 503:
        assert process.poll() is None
    assert status_of(f"http://127.0.0.1:{port}/v2/models/slow/ready") in (400, 503)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert output == ""  # no banner: nothing was ready


def test_trusting_the_network_is_said_aloud(folder, serve):
    folder.echo("echo")
    process = serve(auth="none-trusted-network")
    read_until(process, "Try it")
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert "authentication is off" in errors
