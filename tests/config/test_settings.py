import pytest

from gateway.config import ConfigError, Settings, load
from gateway.config.settings import is_loopback


def problems(flags):
    with pytest.raises(ConfigError) as caught:
        load(flags=flags, environment={})
    return caught.value.problems


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_addresses_are_accepted(address):
    assert is_loopback(address)
    assert load(flags={"host": address}, environment={}).settings.host == address


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.1.2.3", "example.org", ""])
@pytest.mark.parametrize("name", ["host", "admin_host"])
def test_an_open_bind_without_authentication_is_refused(name, address):
    (problem,) = problems({name: address})
    assert problem.startswith(f"{name}: ")
    assert "none-trusted-network" in problem


def test_an_open_bind_on_a_trusted_network_must_be_said():
    settings = load(flags={"host": "0.0.0.0", "auth": "none-trusted-network"}, environment={}).settings
    assert settings.host == "0.0.0.0"


def test_workers_are_refused_until_there_is_a_supervisor():
    (problem,) = problems({"workers": 2})
    assert "expected 0, got 2" in problem
    assert "supervisor" in problem


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"http_port": 70000}, "http_port: expected a port between 0 and 65535, got 70000"),
        ({"admin_port": -1}, "admin_port: expected at least 0, got -1 (from flag)"),
        ({"http_port": 8001}, "http_port, grpc_port, admin_port: expected different ports, got 8001, 8001, 8002"),
        ({"drain_timeout_s": -1.0}, "drain_timeout_s: expected at least 0, got -1.0 (from flag)"),
        ({"runtime.executor_threads": -1}, "runtime.executor_threads: expected at least 0, got -1 (from flag)"),
        ({"runtime.intra_op_threads": 0}, "runtime.intra_op_threads: expected at least 1, got 0"),
    ],
)
def test_a_value_out_of_range_is_named(flags, message):
    assert problems(flags) == (message,)


def test_several_ports_may_be_free_choice():
    settings = Settings(http_port=0, grpc_port=0, admin_port=0)
    assert settings.http_port == 0


def test_a_sections_address_is_filled_in_and_cannot_be_set_by_itself():
    settings = load(flags={"grpc_port": 9001, "host": "::1"}, environment={}).settings
    assert (settings.grpc.host, settings.grpc.port) == ("::1", 9001)
    (problem,) = problems({"grpc.port": 1})
    assert problem == "unknown key 'grpc.port' (from flag); did you mean 'grpc_port'?"
