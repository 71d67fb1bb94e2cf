"""Deadlines, drain and the form of errors: the same on both paths."""

import asyncio

import pytest

from gateway.dataplane.admission import AdmissionSettings


async def settle(times=20):
    for _ in range(times):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("lines", "parameters"),
    [
        (("X-Request-Timeout-Ms: 5",), {}),
        (("X-Request-Timeout-Ms: 0.5",), {}),
        (("X-Envoy-Expected-Rq-Timeout-Ms: 5",), {}),
        (("X-Request-Timeout-Ms: 60000", "X-Envoy-Expected-Rq-Timeout-Ms: 5"), {}),
        ((), {"timeout": 5000}),
        (("X-Request-Timeout-Ms: 60000",), {"timeout": 5000}),
    ],
)
async def test_work_past_its_deadline_is_answered_504_and_never_executed(served, wire, lines, parameters):
    gate = served.plane.gate
    first, late = await served.connect(), await served.connect()
    first.send(wire.post(wire.document(), path=wire.GATE))
    await served.until(lambda: gate.held)
    answer = await late.ask(wire.post(wire.document(model_id="r7", **parameters), *lines, path=wire.GATE))
    assert answer.status == 504
    assert answer.error == "[request id: r7] Request timeout expired"
    assert not answer.closes
    gate.release()
    assert (await first.answer()).status == 200
    await settle()
    assert (gate.executions, gate.rows) == (1, 1)


async def test_a_deadline_that_passed_on_arrival_is_504(served, client, wire):
    answer = await client.ask(wire.post(wire.document(), "X-Request-Timeout-Ms: 0", path=wire.GATE))
    assert answer.status == 504
    assert served.plane.gate.executions == 0


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "1e99", ""])
async def test_a_deadline_that_is_none_is_400(client, wire, value):
    answer = await client.ask(wire.post(wire.document(), f"X-Request-Timeout-Ms: {value}"))
    assert answer.status == 400
    assert "header 'x-request-timeout-ms' must be milliseconds" in answer.error


@pytest.mark.parametrize("value", ["1", -1, 1.5, True, 10**30])
async def test_a_timeout_parameter_that_is_none_is_400(client, wire, value):
    answer = await client.ask(wire.post(wire.document(timeout=value)))
    assert answer.status == 400
    assert "parameter 'timeout' must be a whole number of microseconds" in answer.error


class TestOverload:
    @pytest.fixture
    def admission(self):
        return AdmissionSettings(max_requests_in_flight=2)

    async def test_requests_beyond_the_limit_are_503_with_retry_after(self, served, wire):
        clients = [await served.connect() for _ in range(3)]
        for number, client in enumerate(clients, 1):
            client.send(wire.post(wire.document(), path=wire.GATE))
            await served.until(lambda at=number: served.plane.arrived == at)
        answer = await clients[2].answer()
        assert (answer.status, answer.headers["retry-after"], answer.closes) == (503, "1", False)
        assert "requests in flight" in answer.error
        served.plane.gate.release()


ERRORS = [
    ("unknown model", {"path": "/v2/models/none/infer"}, 404, "Request for unknown model: 'none' is not found"),
    ("unknown version", {"path": "/v2/models/echo/versions/9/infer"}, 404, "'echo' version 9 is not found"),
    ("unknown path", {"path": "/v2/nothing"}, 404, "Not Found"),
    ("wrong method", {"path": "/v2/models/echo/infer", "method": "DELETE"}, 405, "Method Not Allowed"),
    ("label", {"path": "/v1/models/echo/labels/best:predict"}, 404, "model 'echo' has no version label 'best'"),
    ("bad V1", {"path": "/v1/models/echo:predict"}, 400, "'instances' (row form) or 'inputs' (column form)"),
]


@pytest.mark.parametrize(("request_line", "status", "text"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
async def test_errors_are_objects_and_keep_the_connection(client, wire, request_line, status, text):
    for _ in range(2):
        answer = await client.ask(
            wire.post(wire.document() if "v1" not in request_line["path"] else b"{}", **request_line)
        )
        assert answer.status == status
        assert text in answer.error
        assert not answer.closes


async def test_a_refusal_on_the_bridge_has_its_own_form(client, wire):
    answer = await client.ask(wire.post(b"\xff", path="/inference.GRPCInferenceService/ModelInfer"))
    assert (answer.status, answer.body) == (400, b"")
    assert answer.headers["x-gateway-grpc-status"] == "3"


async def test_the_first_of_a_repeated_header_counts(client, wire):
    answer = await client.ask(wire.post(wire.document(), "X-Request-Id: one", "X-Request-Id: two"))
    assert answer.headers["x-request-id"] == "one"


async def test_spaces_around_a_length_are_no_part_of_it(client, wire):
    body = wire.document()
    answer = await client.ask(wire.head(f"Content-Length: \t{len(body)} \t"), body)
    assert answer.status == 200


# Drain


async def test_draining_closes_with_the_answer(served, client, wire):
    assert not (await client.ask(wire.post(wire.document()))).closes
    served.door.draining = True
    assert (await client.ask(wire.post(wire.document()))).closes
    assert await client.rest() == b""


async def test_draining_answers_every_pipelined_request_that_was_read(served, client, wire):
    served.door.draining = True
    client.send(
        wire.post(wire.document(1, 0, 0, 0), path=wire.GATE),
        wire.post(wire.document(2, 0, 0, 0)),
        wire.head(method="GET", path="/v2/health/live"),
        wire.post(wire.document(3, 0, 0, 0)),
    )
    await served.until(lambda: served.plane.gate.held)
    served.plane.gate.release()
    answers = [await client.answer() for _ in range(4)]
    assert [(answer.status, answer.closes) for answer in answers] == [(200, False)] * 3 + [(200, True)]
    assert await client.rest() == b""


async def test_stopping_ends_idle_connections_and_waits_for_the_busy(served, wire):
    fresh, idle, busy, sending = [await served.connect() for _ in range(4)]
    await idle.ask(wire.post(wire.document()))
    busy.send(wire.post(wire.document(), path=wire.GATE))
    request = wire.post(wire.document())
    sending.send(request[:-5])
    await served.until(lambda: served.plane.gate.held and len(served.connections) == 4 and served.seen(phase=2))
    served.door.draining = True
    stopping = asyncio.ensure_future(served.server.stop(10))
    assert await fresh.rest() == b""
    assert await idle.rest() == b""
    assert not stopping.done()
    served.plane.gate.release()
    for client, rest in ((busy, b""), (sending, request[-5:])):
        answer = await client.ask(rest)
        assert (answer.status, answer.closes) == (200, True)
        assert await client.rest() == b""
    await stopping


async def test_stopping_ends_what_is_stuck_in_time(served, client, wire):
    client.send(wire.post(wire.document(), path=wire.GATE))
    await served.until(lambda: served.plane.gate.held)
    served.door.draining = True
    await served.server.stop(0.05)
    assert await client.rest() == b""
    await served.until(lambda: served.service.in_flight == 0)
