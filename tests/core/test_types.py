"""The life of a request: one outcome, hooks in their order, one record."""

import pytest

from gateway.core.errors import Code, GatewayError, invalid
from gateway.core.timeline import Timeline
from gateway.core.trace import TraceContext
from gateway.core.types import InferRequest, InferResponse, ServableVersion
from runtimes.base import ModelSignature


@pytest.fixture
def request_():
    return InferRequest("m")


def test_error_says_its_code_and_message():
    error = GatewayError(Code.OVERLOADED, "full", retry_after_s=3)
    assert (str(error), error.message, error.retry_after_s) == ("full", "full", 3)
    assert repr(error) == "GatewayError(OVERLOADED, 'full')"
    assert repr(invalid("x")) == "GatewayError(INVALID_ARGUMENT, 'x')"
    assert invalid("x").retry_after_s is None


def test_first_outcome_wins(request_):
    seen = []
    request_.on_outcome.append(lambda request, outcome: seen.append(outcome))
    first = InferResponse({})
    request_.complete(first)
    request_.fail(Code.DEADLINE, "late")
    request_.complete(InferResponse({}))
    assert seen == [first]
    assert request_.outcome is first


def test_outcome_hooks_run_last_in_first_out_and_see_replacements(request_):
    seen = []
    answer, replaced = InferResponse({}), invalid("no")
    request_.on_outcome.append(lambda request, outcome: seen.append(("door", outcome)))

    def replace(request, outcome):
        seen.append(("inner", outcome))
        request.replace_outcome(replaced)

    request_.on_outcome.append(replace)
    request_.complete(answer)
    assert seen == [("inner", answer), ("door", replaced)]
    assert request_.record().code is Code.INVALID_ARGUMENT


def test_hook_that_completes_again_changes_nothing(request_):
    seen = []
    request_.on_outcome.append(lambda request, outcome: seen.append(outcome))
    request_.on_outcome.append(lambda request, outcome: request.fail(Code.INTERNAL, "again"))
    answer = InferResponse({})
    request_.complete(answer)
    assert seen == [answer]


def test_requests_share_no_hooks_or_inputs():
    one, other = InferRequest("m"), InferRequest("m")
    one.on_outcome.append(lambda request, outcome: None)
    one.on_finished.append(lambda request: None)
    one.inputs["x"] = None
    one.timeline.received = 5
    assert (other.on_outcome, other.on_finished, other.inputs, other.timeline.received) == ([], [], {}, 0)


def test_fail_carries_when_to_come_back(request_):
    request_.fail(Code.OVERLOADED, "full", retry_after_s=2)
    assert (request_.outcome.code, request_.outcome.message, request_.outcome.retry_after_s) == (
        Code.OVERLOADED,
        "full",
        2,
    )


def test_finish_runs_its_hooks_once_last_in_first_out(request_):
    seen = []
    request_.on_finished.append(lambda request: seen.append("outer"))
    request_.on_finished.append(lambda request: (seen.append("inner"), request.finish()))
    request_.finish()
    request_.finish()
    assert seen == ["inner", "outer"]


def test_finished_request_is_not_reported_again(request_):
    seen = []
    request_.finish()
    request_.on_finished.append(seen.append)
    request_.finish()
    assert seen == []


def test_parts_are_sent_until_the_request_is_complete(request_):
    parts = []
    request_.emit(InferResponse({}))  # nobody listens: dropped
    request_.on_part = parts.append
    part = InferResponse({})
    request_.emit(part)
    request_.complete(InferResponse({}))
    request_.emit(InferResponse({}))
    assert parts == [part]


def test_record_holds_what_the_request_became():
    timeline = Timeline(received=1, answered=9)
    target = ServableVersion("m", "3", ModelSignature((), ()), 0, lambda request: None)
    request = InferRequest(
        "m",
        protocol="grpc",
        request_id="r-1",
        trace=TraceContext("a" * 32, "b" * 16, True),
        principal="alice",
        bytes_in=10,
        timeline=timeline,
        rows=2,
        target=target,
        known=True,
        role="pinned",
        route_reason="rule=pinned",
        batch_rows=8,
        batch_requests=4,
        close_reason="full",
        cache="miss",
        instance="cpu:0",
        compute_share_ns=77,
        bytes_out=20,
    )
    request.complete(InferResponse({}))
    record = request.record()
    assert {name: getattr(record, name) for name in record.__struct_fields__} == {
        "model": "m",
        "version": "3",
        "role": "pinned",
        "protocol": "grpc",
        "code": Code.OK,
        "timeline": timeline,
        "rows": 2,
        "batch_rows": 8,
        "batch_requests": 4,
        "close_reason": "full",
        "cache": "miss",
        "request_id": "r-1",
        "trace_id": "a" * 32,
        "principal": "alice",
        "bytes_in": 10,
        "bytes_out": 20,
        "instance": "cpu:0",
        "route_reason": "rule=pinned",
        "compute_share_ns": 77,
    }


def test_record_of_a_name_nobody_knows_does_not_repeat_it():
    record = InferRequest("made up by the caller").record()
    assert (record.model, record.version, record.trace_id) == ("", "", "")


def test_record_of_a_request_that_never_ended_is_cancelled(request_):
    assert request_.record().code is Code.CANCELLED


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_record_of_a_failure_has_its_code(request_, code):
    request_.fail(code, "")
    assert request_.record().code is code
