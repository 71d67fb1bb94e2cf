"""Picking a version: highest READY by default, Triton's words where nothing serves."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code, GatewayError
from gateway.core.types import ServableVersion
from gateway.routing.router import Router, RouteTable
from runtimes.base import ModelSignature


def servable(version, model="m"):
    return ServableVersion(model, version, ModelSignature((), ()), 0, lambda request: None)


def table(ready, known=()):
    return RouteTable.of([servable(version) for version in ready], {"m": dict(known)})


@pytest.mark.parametrize(
    ("ready", "asked", "version", "role"),
    [
        (["1"], "", "1", "stable"),
        (["1", "2"], "", "2", "stable"),
        (["9", "10"], "", "10", "stable"),  # by number, not by text
        (["1", "2"], "1", "1", "pinned"),
        (["1", "2"], "2", "2", "pinned"),
    ],
)
def test_ready_version_is_picked(ready, asked, version, role):
    route = table(ready).pick("m", asked)
    assert (route.servable.version, route.role) == (version, role)
    assert role in route.reason


BAD_NUMBER = "failed to get model version from specified version string '{}': version should be an integral value > 0"


@pytest.mark.parametrize(
    ("model", "version", "code", "message"),
    [
        ("x", "", Code.NOT_FOUND, "Request for unknown model: 'x' is not found"),
        ("x", "1", Code.NOT_FOUND, "Request for unknown model: 'x' is not found"),
        ("m", "9", Code.NOT_FOUND, "Request for unknown model: 'm' version 9 is not found"),
        ("m", "3", Code.NOT_READY, "Request for unknown model: 'm' version 3 is not at ready state"),
        ("empty", "", Code.NOT_FOUND, "Request for unknown model: 'empty' has no available versions"),
        ("loading", "", Code.NOT_READY, "Request for unknown model: 'loading' has no version at ready state"),
        *[
            ("m", bad, Code.INVALID_ARGUMENT, BAD_NUMBER.format(bad))
            for bad in ("0", "-1", "01", "1.0", "latest", " 1", "1 ", "\u0661", "²")
        ],
    ],
)
def test_what_cannot_be_picked_is_said_in_triton_s_words(model, version, code, message):
    routes = RouteTable.of(
        [servable("1")], {"m": {"1": "READY", "3": "LOADING"}, "empty": {}, "loading": {"1": "LOADING"}}
    )
    with pytest.raises(GatewayError) as caught:
        routes.pick(model, version)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert (caught.value.retry_after_s is not None) == (code is Code.NOT_READY)


@pytest.mark.parametrize(("model", "version"), [("m", "9" * 5000), ("m", "x" * 5000), ("y" * 5000, "1")])
def test_huge_names_and_versions_are_refused_in_few_words(model, version):
    with pytest.raises(GatewayError) as caught:
        table(["1"]).pick(model, version)
    assert len(caught.value.message) < 300


@given(st.text(max_size=8))
def test_any_version_text_is_picked_or_refused(version):
    try:
        assert table(["1"]).pick("m", version).servable.version == "1"
    except GatewayError:
        assert version not in ("", "1")


@given(st.lists(st.integers(1, 10**6), min_size=1, unique=True))
def test_default_is_the_highest_version(versions):
    assert table([str(version) for version in versions]).pick("m", "").servable.version == str(max(versions))


def test_known_and_serving_are_told_apart():
    routes = RouteTable.of([servable("1")], {"m": {"1": "READY"}, "loading": {"1": "LOADING"}})
    assert [routes.knows(name) for name in ("m", "loading", "x")] == [True, True, False]
    assert [routes.serves(name) for name in ("m", "loading", "x")] == [True, False, False]


def test_ready_model_nobody_listed_serves():
    assert RouteTable.of([servable("1", "new")], {}).pick("new", "").servable.model == "new"


def test_router_starts_empty_and_swaps_whole_tables():
    router = Router()
    assert not router.table.knows("m")
    first, second = table(["1"]), table(["1", "2"])
    router.replace(first)
    kept = router.table.pick("m", "")
    router.replace(second)
    assert (kept.servable.version, router.table.pick("m", "").servable.version) == ("1", "2")


def test_pickers_never_see_half_a_swap():
    """Versions of a table come in pairs; a reader of one table must find both of its own or neither."""
    router = Router()
    tables = [table([str(n), str(n + 1)]) for n in (1, 3, 5)]
    router.replace(tables[0])
    stop = threading.Event()
    torn = []

    def pick():
        while not stop.is_set():
            routes = router.table
            highest = int(routes.pick("m", "").servable.version)
            try:
                routes.pick("m", str(highest - 1))
            except GatewayError as error:
                torn.append(error)

    pickers = [threading.Thread(target=pick) for _ in range(2)]
    for picker in pickers:
        picker.start()
    for turn in range(2000):
        router.replace(tables[turn % 3])
    stop.set()
    for picker in pickers:
        picker.join()
    assert torn == []
