import pytest

from gateway.config import ConfigError, load, variable


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(**arguments):
    with pytest.raises(ConfigError) as caught:
        load(**{"environment": {}, **arguments})
    return caught.value.problems


def test_no_file_no_environment_is_the_defaults():
    loaded = load(environment={})
    assert loaded.file is None
    assert loaded.settings.http_port == 8000
    assert loaded.settings.host == "127.0.0.1"


def test_flag_beats_environment_beats_file_beats_default(elsewhere):
    (elsewhere / "gateway.toml").write_text(
        "http_port = 1\ngrpc_port = 1\nadmin_port = 3\n[runtime]\nexecutor_threads = 5\n"
    )
    loaded = load(
        flags={"http_port": 11, "host": None}, environment={"GATEWAY_HTTP_PORT": "12", "GATEWAY_GRPC_PORT": "13"}
    )
    settings = loaded.settings
    assert (settings.http_port, settings.grpc_port, settings.admin_port) == (11, 13, 3)
    assert settings.runtime.executor_threads == 5
    assert loaded.origins["http_port"] == "flag"
    assert loaded.origins["grpc_port"] == "environment GATEWAY_GRPC_PORT"
    assert loaded.origins["admin_port"] == "gateway.toml"
    assert loaded.origins["runtime.executor_threads"] == "gateway.toml"
    assert loaded.origins["host"] == "default"


def test_an_assignment_is_text_and_stands_between_flag_and_environment():
    environment = {"GATEWAY_RUNTIME__EXECUTOR_THREADS": "1", "GATEWAY_HTTP_PORT": "1"}
    assignments = ["runtime.executor_threads=2", "http_port = 2", "drain_grace_s=0.5"]
    loaded = load(flags={"http_port": 3}, assignments=assignments, environment=environment)
    assert loaded.settings.runtime.executor_threads == 2
    assert loaded.origins["runtime.executor_threads"] == "flag --set"
    assert loaded.settings.http_port == 3
    assert loaded.settings.drain_grace_s == 0.5


@pytest.mark.parametrize("text", ["http_port", "=1", ""])
def test_an_assignment_without_path_or_value_is_refused(text):
    assert problems(assignments=[text]) == (f"--set: expected PATH=VALUE, got {text!r}",)


def test_double_underscore_nests():
    assert load(environment={"GATEWAY_RUNTIME__EXECUTOR_THREADS": "3"}).settings.runtime.executor_threads == 3


def test_the_process_environment_is_read(monkeypatch):
    monkeypatch.setenv("GATEWAY_HTTP_PORT", "1234")
    assert load().settings.http_port == 1234


def test_a_file_is_found_by_flag_and_by_environment(elsewhere):
    (elsewhere / "a.toml").write_text("http_port = 1")
    (elsewhere / "b.toml").write_text("http_port = 2")
    environment = {"GATEWAY_CONFIG": str(elsewhere / "b.toml")}
    assert load(environment=environment).settings.http_port == 2
    assert load(elsewhere / "a.toml", environment=environment).settings.http_port == 1


def test_a_named_file_that_is_missing_is_an_error(elsewhere):
    assert "cannot be read" in problems(file=elsewhere / "none.toml")[0]


@pytest.mark.parametrize("content", [b"http_port = ", b"a = 1\na = 2", b"\xff\xfe"])
def test_a_broken_file_is_an_error(elsewhere, content):
    (elsewhere / "gateway.toml").write_bytes(content)
    assert "is not valid TOML" in problems()[0]


def test_unknown_keys_are_errors_in_each_source(elsewhere):
    (elsewhere / "gateway.toml").write_text("[runtime]\nexecuter_threads = 1\n")
    assert problems(flags={"prot": 1}, environment={"GATEWAY_HTTP_PROT": "1"}) == (
        "unknown key 'runtime.executer_threads' (from gateway.toml); did you mean 'runtime.executor_threads'?",
        "unknown key 'http_prot' (from environment GATEWAY_HTTP_PROT); did you mean 'http_port'?",
        "unknown key 'prot' (from flag)",
    )


def test_kubernetes_service_variables_are_not_settings():
    environment = {
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT": "80",
        "GATEWAY_SERVICE_PORT_HTTP": "80",
        "GATEWAY_PORT": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "GATEWAY_PORT_80_TCP_PROTO": "tcp",
        "GATEWAY_ADMIN_PORT": "tcp://10.0.0.2:8002",
    }
    assert load(environment=environment).settings.admin_port == 8002


def test_the_command_lines_own_variables_are_not_settings(monkeypatch):
    monkeypatch.setenv("GATEWAY_ADMIN_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GATEWAY_HTTP_PORT", "5")
    assert load().settings.http_port == 5
    assert variable("GATEWAY_ADMIN_URL") == "http://127.0.0.1:1"
    assert variable("GATEWAY_HTTP_PORT") == ""
