import socket

import pytest

from gateway.app.sockets import PortBusy, bind, port_of


@pytest.fixture
def listener():
    with bind("127.0.0.1", 0, "HTTP") as bound:
        bound.listen()
        yield bound


def test_any_free_port_is_found_out(listener):
    assert port_of(listener) > 0
    assert not listener.getblocking()


def test_busy_port_is_named_with_its_purpose(listener):
    port = port_of(listener)
    with pytest.raises(PortBusy) as caught:
        bind("127.0.0.1", port, "the admin port")
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port} for the admin port: Address already in use"


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_address_that_is_not_this_machine_s_is_named(host):
    with pytest.raises(PortBusy, match=f"cannot listen on {host}:0 for HTTP: ."):
        bind(host, 0, "HTTP")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_address_is_bound():
    with bind("::1", 0, "HTTP") as bound:
        assert bound.family == socket.AF_INET6
