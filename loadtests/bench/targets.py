"""The servers side by side: how each is started, pinned and known to be ready. All listen on 127.0.0.1 only."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from procs import ROOT, WORK, Process, free_port

HERE = Path(__file__).resolve().parent
MODELS = WORK / "models"
ENVOY = WORK / "envoy" / "envoy" / "_bin" / "envoy"
ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
# One server core, the generator on the other.
SERVER_CPU = (0,)
LOAD_CPU = (1,)


class Missing(Exception):
    """A tool or a server that a row needs cannot be had; the text says why."""


def need(tool: str) -> str:
    """Path of a command (also in sbin), or Missing."""
    found = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{tool} is not installed")
    return found


def post(port: int, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """One POST on a connection of its own: body and lower-case headers of a 200, RuntimeError for anything else."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"port {port} {path}: status {answer.status}: {data[:300]!r}")
    return data, {name.lower(): value for name, value in answer.getheaders()}


def get_json(port: int, path: str) -> Any:
    """One GET; None where the status is not 200 or the body is empty."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    return (json.loads(data) if data else {}) if answer.status == 200 else None


def _accepts(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


NGINX_CONF = """
{load_module}
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log error;
events {{ worker_connections 1024; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_max_body_size 64m; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location = /return {{ return 200 '{answer}'; }}
    {reading}
  }}
}}
"""
# `return 200` answers before the body has come and throws it away in 4 KB reads. The echo module waits for the
# whole body in one buffer, which is what any server that uses a tensor must do, and costs less.
READING = """
    client_body_buffer_size 1m; client_body_in_single_buffer on;
    location = /receive {{ echo_read_request_body; echo -n '{answer}'; }}
    location = /mirror {{ echo_read_request_body; echo_request_body; }}
"""


def nginx(answer: bytes) -> tuple[Process, int]:
    """One nginx worker: POST /return is `return 200 answer`, /receive reads the body first, /mirror returns it.

    The last two exist only where the echo module is installed.
    """
    binary, port = need("nginx"), free_port()
    folder = Path(tempfile.mkdtemp(prefix="nginx-", dir=WORK))
    folder.chmod(0o777)
    text = answer.decode().replace("'", "")
    has_echo = ECHO_MODULE.exists()
    config = NGINX_CONF.format(
        load_module=f"load_module {ECHO_MODULE};" if has_echo else "",
        dir=folder,
        port=port,
        answer=text,
        reading=READING.format(answer=text) if has_echo else "",
    )
    (folder / "nginx.conf").write_text(config)
    process = Process("nginx", [binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)], SERVER_CPU).start()
    process.wait_ready(lambda: _accepts(port), 10)
    return process, port


def fastapi(model: Path, cpus: tuple[int, ...] = SERVER_CPU) -> tuple[Process, int]:
    """The naive server of naive_fastapi.py: POST /predict."""
    port = free_port()
    process = Process("fastapi", [sys.executable, str(HERE / "naive_fastapi.py"), str(model), str(port)], cpus).start()
    process.wait_ready(lambda: _accepts(port), 30)
    return process, port


def grpc_echo(model: str, output: str, floats: int) -> tuple[Process, int]:
    """The bare grpc.aio server of grpc_echo.py."""
    port = free_port()
    argv = [sys.executable, str(HERE / "grpc_echo.py"), str(port), model, output, str(floats)]
    process = Process("grpc-echo", argv, SERVER_CPU).start()
    process.wait_ready(lambda: _accepts(port), 30)
    return process, port


class Gateway:
    """One `gateway serve --workers 0` over the bench models, ready."""

    def __init__(self, command: Path, transport: str, cpus: tuple[int, ...]) -> None:
        if not command.exists():
            raise Missing(f"there is no {command.name} command in this environment")
        self.http, self.grpc = free_port(), free_port()
        state = tempfile.mkdtemp(prefix="state-", dir=WORK)
        argv = [str(command), "serve", "--model-repository", str(MODELS), "--state-dir", state, "--workers", "0"]
        argv += ["--http-port", str(self.http), "--grpc-port", str(self.grpc), "--admin-port", str(free_port())]
        argv += ["--grpc-transport", transport]
        self.process = Process(f"gateway-{transport}", argv, cpus).start()
        try:
            self.process.wait_ready(lambda: get_json(self.http, "/v2/health/ready") is not None, 120)
        except RuntimeError as error:
            self.process.stop()
            raise Missing(str(error)) from None

    def succeeded(self, model: str) -> int | None:
        """Requests answered with success so far, by the gateway's own statistics; None where it keeps none."""
        report = get_json(self.http, f"/v2/models/{model}/stats")
        if report is None:
            return None
        return sum(int(entry["inference_stats"]["success"]["count"]) for entry in report["model_stats"])


def envoy_config(listen: int, http_port: int, grpc_port: int) -> str:
    """The shipped configuration of the reverse bridge (deploy/envoy/bridge.yaml) with this run's ports."""
    text = (ROOT / "deploy" / "envoy" / "bridge.yaml").read_text()
    for shipped, here in {8003: listen, 8000: http_port, 8001: grpc_port, 9901: free_port()}.items():
        if f"port_value: {shipped}" not in text:
            raise Missing(f"deploy/envoy/bridge.yaml no longer names port {shipped}")
        text = text.replace(f"port_value: {shipped}", f"port_value: {here}")
    return text


def envoy(gateway: Gateway) -> tuple[Process, int]:
    """Envoy with one worker on the generator's core, so that its cost is not the gateway's."""
    if not ENVOY.exists():
        raise Missing("envoy is not installed (setup.sh)")
    port = free_port()
    config = WORK / "envoy.yaml"
    config.write_text(envoy_config(port, gateway.http, gateway.grpc))
    argv = [str(ENVOY), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    process = Process("envoy", argv, LOAD_CPU).start()
    process.wait_ready(lambda: _accepts(port), 20)
    return process, port


def raw_loop(model: Path) -> Process:
    """The process of rawloop.py, driven over its standard input."""
    argv = [sys.executable, str(HERE / "rawloop.py"), str(model)]
    return Process("raw-loop", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE).start()


def build_models() -> None:
    """Make the bench models (and `digits` of the demo) where they are not there yet."""
    builder = [sys.executable, str(ROOT / "model_repo" / "build.py"), "--out", str(MODELS)]
    for extra in (["--bench"], ["--only", "digits"]):
        subprocess.run([*builder, *extra], check=True, stdout=subprocess.DEVNULL, timeout=300)


def model_file(name: str) -> Path:
    """The ONNX file of the highest version; Missing where the model was not built."""
    versions = sorted((MODELS / name).glob("[0-9]*"), key=lambda path: int(path.name))
    if not versions:
        raise Missing(f"model {name} was not built")
    return versions[-1] / "model.onnx"
