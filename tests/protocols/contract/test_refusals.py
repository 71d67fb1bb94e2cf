"""Refusals of bytes that never became a request are recorded like any other, so that an attack shows in the metrics."""

import pytest

from gateway.core.errors import Code


@pytest.fixture
def refusals(plane):
    """(model, protocol, code) of every refusal that reached the records."""
    seen = []
    refuse = plane.service.refuse

    def noted(request, error):
        request.on_finished.append(lambda r: seen.append((r.record().model, r.protocol, r.record().code)))
        refuse(request, error)

    plane.service.refuse = noted
    return seen


async def test_body_over_the_limit_counts_for_its_model(serve, refusals, wire):
    served = await serve(max_json_bytes=100)
    client = await served.connect()
    answer = await client.ask(wire.head("Content-Length: 101"))
    assert answer.status == 413
    assert refusals == [("echo", "http", Code.TOO_LARGE)]


async def test_body_over_the_limit_for_an_unknown_model_makes_no_label(serve, refusals, wire):
    served = await serve(max_json_bytes=100)
    client = await served.connect()
    answer = await client.ask(wire.head("Content-Length: 101", path="/v2/models/never-heard-of/infer"))
    assert answer.status == 413
    assert refusals == [("", "http", Code.TOO_LARGE)]


async def test_predict_over_the_limit_counts_as_v1(serve, refusals, wire):
    served = await serve(max_json_bytes=100)
    client = await served.connect()
    assert (await client.ask(wire.head("Content-Length: 101", path="/v1/models/echo:predict"))).status == 413
    assert refusals == [("echo", "v1", Code.TOO_LARGE)]


async def test_bytes_that_are_no_http_are_counted_without_a_model(client, refusals):
    assert (await client.ask(b"\x16\x03\x01 hello\r\n\r\n")).status == 400
    assert refusals == [("", "http", Code.INVALID_ARGUMENT)]


async def test_slow_header_counts_as_late(served, client, refusals, wire):
    client.send(wire.head()[:20])
    await served.until(lambda: served.seen(phase=1) and any(c._head_bytes for c in served.connections))
    served.later(11)
    assert (await client.answer()).status == 408
    assert refusals == [("", "http", Code.DEADLINE)]
