"""Routing stage: the request gets its version, role and reason; a model's own timeout tightens its deadline."""

import pytest

from gateway.core.errors import Code
from gateway.dataplane.route import RouteStage
from gateway.routing.router import Router, RouteTable

MS = 1_000_000
NOW = 1_000 * MS


@pytest.fixture
def route(version):
    """Route a request over the given versions; answers whether its deadline was reported as tightened."""

    def run(request, *versions, states=()):
        router = Router()
        router.replace(RouteTable.of(versions, {"m": dict(states)}))
        tightened = []
        request.timeline.admitted = NOW
        RouteStage(router, tightened.append)(request)
        return tightened == [request]

    return run


@pytest.mark.parametrize(("asked", "role"), [("", "stable"), ("1", "pinned")])
def test_request_goes_to_its_version(route, version, request_for, seen, asked, role):
    target = version(stack=seen.stage)
    request = request_for(version=asked)
    route(request, target)
    assert seen.requests == [request]
    assert (request.target, request.role, request.known) == (target, role, True)
    assert f"role={role}" in request.route_reason
    assert request.timeline.routed == NOW


@pytest.mark.parametrize(
    ("model", "asked", "code", "known"),
    [
        ("x", "", Code.NOT_FOUND, False),
        ("m", "7", Code.NOT_FOUND, True),
        ("m", "2", Code.NOT_READY, True),
        ("m", "two", Code.INVALID_ARGUMENT, True),
        ("m", "9" * 5000, Code.NOT_FOUND, True),
    ],
)
def test_request_without_a_version_that_serves_is_refused(route, version, request_for, model, asked, code, known):
    request = request_for(model=model, version=asked)
    route(request, version(), states={"1": "READY", "2": "LOADING"})
    assert (request.outcome.code, request.known, request.target) == (code, known, None)


@pytest.mark.parametrize(
    ("own_ns", "deadline", "received", "expected", "told"),
    [
        (0, NOW + 9 * MS, 0, NOW + 9 * MS, False),  # the model has none
        (5 * MS, NOW + 9 * MS, 0, NOW + 5 * MS, True),
        (5 * MS, NOW + 9 * MS, NOW - 2 * MS, NOW + 3 * MS, True),  # it counts from the first byte
        (5 * MS, NOW + 4 * MS, 0, NOW + 4 * MS, False),  # the client's is earlier
        (5 * MS, 0, 0, NOW + 5 * MS, True),
    ],
)
def test_model_s_own_timeout_tightens_the_deadline(
    route, version, request_for, seen, own_ns, deadline, received, expected, told
):
    request = request_for(deadline_ns=deadline)
    request.timeline.received = received
    assert route(request, version(stack=seen.stage, default_timeout_ns=own_ns)) is told
    assert request.deadline_ns == expected
    assert seen.requests == [request]


def test_tightening_needs_no_listener(version, request_for, seen):
    router = Router()
    router.replace(RouteTable.of([version(stack=seen.stage, default_timeout_ns=5)], {}))
    request = request_for(deadline_ns=1 << 62)
    RouteStage(router)(request)
    assert request.deadline_ns < 1 << 62
