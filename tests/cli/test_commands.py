import json
import socket
import subprocess
import sys

import pytest

import gateway as package
from gateway.cli import client as http_client


def test_help_names_every_command(gateway):
    result = gateway("--help")
    assert result.code == 0
    assert all(name in result.out for name in ("serve", "check", "config", "models", "infer", "bench"))


def test_version(gateway):
    assert gateway("--version").out.strip() == package.__version__


def test_help_does_not_import_what_serving_needs():
    heavy = ("numpy", "fastapi", "grpc", "uvicorn", "onnx")
    program = f"import sys, gateway.cli; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_unknown_command_is_a_usage_error(gateway):
    assert gateway("srve").code == 2


def test_config_show_is_the_effective_settings(gateway, nowhere, monkeypatch):
    (nowhere / "gateway.toml").write_text("http_port = 1234\n")
    monkeypatch.setenv("GATEWAY_GRPC_PORT", "4321")
    plain = gateway("config", "show")
    assert "1234" in plain.out
    assert "ORIGIN" not in plain.out
    with_origin = gateway("config", "show", "--origin", "--set", "http.hot_path=off")
    lines = {line.split()[0]: line.split()[1:] for line in with_origin.out.splitlines()}
    assert lines["http_port"] == ["1234", "gateway.toml"]
    assert lines["grpc_port"] == ["4321", "environment", "GATEWAY_GRPC_PORT"]
    assert lines["http.hot_path"] == ["false", "flag", "--set"]
    assert lines["host"] == ["127.0.0.1", "default"]


def test_config_show_json_is_for_machines(gateway):
    assert json.loads(gateway("config", "show", "--json").out)["grpc"]["transport"] == "aio"
    shown = json.loads(gateway("config", "show", "--json", "--origin").out)
    assert shown["grpc.transport"] == {"value": "aio", "origin": "default"}


def test_config_example_can_be_used_as_it_is(gateway, nowhere):
    (nowhere / "gateway.toml").write_text(gateway("config", "example").out)
    assert gateway("config", "show").code == 0


def test_a_configuration_that_cannot_be_used_names_every_problem(gateway, nowhere):
    (nowhere / "gateway.toml").write_text("htp_port = 1\nhttp_port = 'x'\n")
    result = gateway("config", "show")
    assert result.code == 2
    assert "did you mean 'http_port'?" in result.err
    assert "http_port: expected a whole number" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "none-trusted-network"),
        (["--workers", "2"], "supervisor"),
        (["--http-port", "99999"], "between 0 and 65535"),
        (["--set", "http.max_body_byte=1"], "did you mean 'http.max_body_bytes'?"),
        (["--grpc-transport", "smoke"], "smoke"),
    ],
)
def test_serve_refuses_before_it_starts(gateway, flags, words):
    result = gateway("serve", *flags)
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err


def test_serve_says_which_port_is_taken(gateway, repository):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = gateway("serve", "--model-repository", repository, "--http-port", port)
    assert result.code == 1
    assert str(port) in result.err


def test_check_says_how_each_version_would_serve(gateway, repository):
    result = gateway("check", "--model-repository", repository)
    assert result.code == 0
    assert "batches of up to 4" in result.out
    assert "PROBLEM" not in result.out


def test_check_fails_with_the_reason_and_checks_the_rest(gateway, broken_repository):
    result = gateway("check", "--model-repository", broken_repository, "--json")
    assert result.code == 1
    document = json.loads(result.out)
    assert document["ok"] is False
    verdicts = {verdict["model"]: verdict for verdict in document["models"]}
    assert verdicts["good"]["ok"]
    assert "no batch dimension" in verdicts["single"]["detail"]
    assert "influence each other (Mean over rows)" in verdicts["dependent"]["detail"]
    assert "model.json" in verdicts["empty"]["detail"]
    assert "max_batch_siez" in verdicts["nonsense"]["detail"]
    assert document["settings"]["http_port"] == 8000


def test_check_of_no_repository_or_configuration_is_a_failure(gateway, nowhere):
    assert "cannot be read" in gateway("check", "--model-repository", nowhere / "none").err
    result = gateway("check", "--set", "nonsense=1")
    assert result.code == 1
    assert "unknown key 'nonsense'" in result.err


def test_no_gateway_is_said_in_words(gateway):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = gateway("models", "list", "--admin-url", f"http://127.0.0.1:{port}")
    assert result.code == 1
    assert "no gateway answers" in result.err
    result = gateway("bench", "m", "--url", f"http://127.0.0.1:{port}")
    assert result.code == 1
    assert "no gateway answers" in result.err


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "127.0.0.1:8000", "http://", "http://127.0.0.1:port", "http://[::1"]
)
def test_an_address_that_is_none_is_a_usage_error(gateway, url):
    result = gateway("models", "list", "--admin-url", url)
    assert result.code == 2
    assert "expected an address like" in result.err


def test_the_unexpected_is_one_line_and_a_traceback_only_on_request(gateway, monkeypatch):
    def broken(_url):
        raise KeyError("x")

    monkeypatch.setattr(http_client, "admin_url", broken)
    result = gateway("models", "list")
    assert result.code == 1
    assert "KeyError" in result.err
    assert "Traceback" not in result.err
    monkeypatch.setattr(sys, "argv", ["gateway", "--debug", "models", "list"])
    with pytest.raises(KeyError):
        package.cli.main()


def test_module_and_command_are_the_same():
    found = subprocess.run([sys.executable, "-m", "gateway", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == package.__version__
