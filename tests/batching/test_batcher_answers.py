"""What comes back through the batcher: order, failures, wrong answers, parts of streamed ones."""

import asyncio

import numpy as np
import pytest

from gateway.core.errors import Code
from gateway.core.types import InferRequest, RequestedOutput, Tensor
from runtimes.base import ExecutionFailed, nothing_to_cancel

MS = 1_000_000


async def test_preserved_order_holds_fast_answers_back(desk):
    desk = desk(script={"delay_ns_per_row": MS}, slots=2, max_batch_size=4, preserve_ordering=True)
    slow, fast = desk.send(1, rows=4), desk.send(2, rows=1)
    await asyncio.sleep(0.002)
    assert desk.sizes == [1]  # the second request is done, and waits
    assert fast.outcome is None
    await desk.settled()
    assert desk.completed == [slow, fast]


async def test_without_ordering_answers_leave_as_they_come(desk):
    desk = desk(script={"delay_ns_per_row": MS}, slots=2, max_batch_size=4)
    slow, fast = desk.send(1, rows=4), desk.send(2, rows=1)
    await desk.settled()
    assert desk.completed == [fast, slow]


async def test_preserved_order_is_released_by_those_who_left_the_queue(desk):
    desk = desk(script={"delay_ns": MS}, preserve_ordering=True, max_queue_delay_us=5000, max_batch_size=2)
    gone = desk.send(1, width=3)  # waits for its delay
    answered = [desk.send(value) for value in (2, 3)]
    await asyncio.sleep(0.002)
    assert answered[0].outcome is None  # held back by the first
    gone.fail(Code.CANCELLED, "the client left")
    await desk.settled()
    await asyncio.sleep(0.01)
    assert desk.completed == [gone, *answered]
    assert desk.instance.executions == 1


async def test_failures_keep_the_preserved_order_too(desk):
    desk = desk(script={"delay_ns_per_row": MS}, slots=2, max_batch_size=4, preserve_ordering=True)
    slow = desk.send(1, rows=4)
    bad = desk.send(2, rows=1, parameters={"echo_fail": "bad_input"})
    await desk.settled()
    assert desk.completed == [slow, bad]
    assert bad.outcome.code is Code.INVALID_ARGUMENT


async def test_failed_batch_is_repeated_one_by_one_and_fails_only_the_bad_request(desk, answer):
    desk = desk()
    bad = desk.send(666, id="bad")
    good = [desk.send(value, rows=2) for value in (2, 3)]
    await desk.settled()
    assert bad.outcome.code is Code.INVALID_ARGUMENT
    assert bad.outcome.message == "[request id: bad] a value is out of range"
    assert [answer(request).tolist() for request in good] == [[[2, 2]] * 2, [[3, 3]] * 2]
    assert desk.sizes == [5, 1, 2, 2]
    assert [batch.ok for batch in desk.batches] == [False, False, True, True]


async def test_repeated_requests_wait_no_longer_than_their_own_delay(desk, virtual_time):
    desk = desk(script={"delay_ns": MS}, slots=2, max_batch_size=2, max_queue_delay_us=5000)
    start = virtual_time()
    bad, good = desk.send(1, parameters={"echo_fail": "bad_input"}), desk.send(2)
    await asyncio.sleep(0.0005)
    desk.send(3, width=3)  # sets a timer, which the repeated ones move forward
    await desk.settled()
    assert bad.outcome.code is Code.INVALID_ARGUMENT
    assert (good.timeline.execute_start - start) / MS == pytest.approx(5, abs=0.001)
    assert desk.calls[1].inputs["INPUT0"].shape == (1, 2)


@pytest.mark.parametrize(("kind", "code"), [("bad_input", Code.INVALID_ARGUMENT), ("runtime", Code.INTERNAL)])
async def test_failure_of_a_lone_request_says_whose_fault_it_was(desk, kind, code):
    desk = desk()
    request = desk.send(1, parameters={"echo_fail": kind})
    await desk.settled()
    assert request.outcome.code is code
    assert desk.instance.executions == 1


async def test_runtime_that_refuses_a_late_call_is_a_missed_deadline(desk, virtual_time):
    desk = desk()
    clock = iter([0, 0, 0, 0, 99, 99])
    desk.batcher._now = lambda: next(clock)
    request = desk.send(1, deadline_ns=50)  # the instance reads the real clock: long past
    await desk.settled()
    assert request.outcome.code is Code.DEADLINE
    assert desk.instance.executions == 0


async def test_requests_of_one_group_that_do_not_fit_are_executed_one_by_one(desk, make_request, answer):
    desk = desk()
    one, other = make_request(1, width=2), make_request(2, width=3)
    other.shape_key = None  # as if validation had taken them for equal
    desk.put(one)
    desk.put(other)
    await desk.settled()
    assert answer(one).tolist() == [[1, 1]]
    assert answer(other).tolist() == [[2, 2, 2]]


class Lying:
    """An instance whose answers have one row too few, or another name."""

    slots = 1

    def __init__(self, outputs):
        self.outputs = outputs

    def submit(self, call, done):
        done(self.outputs)
        return nothing_to_cancel


@pytest.mark.parametrize("outputs", [{"OUTPUT0": np.zeros((2, 2))}, {"OTHER": np.zeros((3, 2))}])
@pytest.mark.parametrize("settings", [{}, {"preserve_ordering": True}])
async def test_wrong_answers_of_a_model_are_errors_and_never_rows_of_others(desk, outputs, settings):
    desk = desk(**settings)
    desk.batcher._instance = Lying(outputs)
    requests = [desk.send(1, rows=2), desk.send(2, rows=1)]
    await desk.settled()
    for request in requests:
        assert request.outcome.code is Code.INTERNAL
        assert "model answered wrongly" in request.outcome.message


async def test_lone_request_wants_an_output_the_model_did_not_give(desk):
    desk = desk(max_batch_size=0)
    desk.batcher._instance = Lying({"OUTPUT0": np.zeros(1)})
    array = np.zeros((1, 2), np.float32)
    request = desk.put(
        InferRequest("m", inputs={"INPUT0": Tensor("FP32", array)}, outputs=(RequestedOutput("OUTPUT1"),))
    )
    await desk.settled()
    assert request.outcome.code is Code.INTERNAL


async def test_result_of_a_closed_model_is_an_error(desk):
    desk = desk()
    await desk.instance.close()
    request = desk.send(1)
    await desk.settled()
    assert request.outcome.code is Code.INTERNAL
    assert isinstance(desk.instance._refuse(desk.calls[0]), ExecutionFailed)


async def test_a_parameter_reaches_the_runtime_for_the_requests_that_gave_it_alone(desk, answer):
    """The echo runtime fails a call whose parameters say so: neighbours in the queue must not share that."""
    desk = desk(script={"delay_ns": MS})
    plain = [desk.send(1), desk.send(2)]
    failing = desk.send(3, parameters={"echo_fail": "bad_input"})
    await desk.settled()
    assert desk.sizes[0] == 2
    assert [answer(request)[0, 0] for request in plain] == [1, 2]
    assert failing.record().code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("max_batch_size", [0, 8])
async def test_parts_of_a_streamed_answer_reach_each_request_as_its_own_rows(desk, answer, max_batch_size):
    desk = desk(script={"delay_ns": 2 * MS, "parts": 3}, max_batch_size=max_batch_size)
    got = {}
    requests = [
        desk.send(value, on_part=lambda part, value=value: got.setdefault(value, []).append(part)) for value in (1, 2)
    ]
    unary = desk.send(3)
    await desk.settled()
    for request, value in zip(requests, (1, 2), strict=True):
        assert [part.outputs["OUTPUT0"].array.tolist() for part in got[value]] == [[[value, value]]] * 2
        assert answer(request).tolist() == [[value, value]]  # the last part is the answer
        assert request.timeline.execute_start + 2 * MS == request.timeline.first_part
    assert answer(unary).tolist() == [[3, 3]]


async def test_a_request_that_does_not_stream_gets_one_answer_of_a_model_that_could(desk, answer):
    desk = desk(script={"delay_ns": 2 * MS, "parts": 3}, max_batch_size=0)
    request = desk.send(1)
    await desk.settled()
    assert answer(request).tolist() == [[1, 1]]
    assert request.timeline.first_part == 0


async def test_no_part_follows_the_end_of_a_request(desk):
    desk = desk(script={"delay_ns": 2 * MS, "parts": 5}, max_batch_size=0)
    parts = []
    request = desk.send(1, on_part=parts.append)
    await asyncio.sleep(0.005)
    request.fail(Code.CANCELLED, "gone")
    await desk.settled()
    assert len(parts) == 2


async def test_a_streamed_batch_that_fails_midway_is_not_repeated(desk, make_request):
    """Its parts are out: a second execution would send them again."""
    desk = desk(max_batch_size=8)

    def submit_stream(call, emit, done):
        desk.calls.append(call)
        emit({"OUTPUT0": call.inputs["INPUT0"]})
        done(ExecutionFailed("broke"))
        return nothing_to_cancel

    desk.instance.submit_stream = submit_stream
    parts = []
    requests = [desk.send(value, on_part=parts.append) for value in (1, 2)]
    await desk.settled()
    assert len(parts) == 2
    assert len(desk.calls) == 1
    assert [request.outcome.code for request in requests] == [Code.INTERNAL, Code.INTERNAL]
