"""The batcher over the echo runtime on virtual time: what clients get, and what reached the runtime."""

import asyncio

import numpy as np
import pytest

from gateway.core.errors import Code
from gateway.core.timeline import BatchRecord
from gateway.core.types import InferRequest, RequestedOutput, Tensor
from runtimes.base import ExecutionFailed, nothing_to_cancel

MS = 1_000_000


async def settled(desk):
    await desk.batcher.drain()


async def test_requests_of_one_tick_share_a_batch_and_get_their_own_rows(desk, answer):
    desk = desk()
    requests = [desk.send(value, rows=rows) for value, rows in ((1, 1), (2, 3), (3, 2))]
    await settled(desk)
    assert desk.sizes == [6]
    for request, value, rows in zip(requests, (1, 2, 3), (1, 3, 2), strict=True):
        assert answer(request).tolist() == [[value, value]] * rows
        assert (request.batch_rows, request.batch_requests, request.close_reason) == (6, 3, "idle")


async def test_second_batch_forms_while_the_first_executes(desk, answer, virtual_time):
    desk = desk(script={"delay_ns": 10 * MS})
    start = virtual_time()
    first = desk.send(1)
    await asyncio.sleep(0.001)
    others = [desk.send(value) for value in range(2, 6)]
    await asyncio.sleep(0.005)
    others.append(desk.send(6))
    assert first.outcome is None
    await settled(desk)
    assert desk.sizes == [1, 5]
    assert virtual_time() - start == pytest.approx(20 * MS, abs=1000)  # no pause between the two
    assert [answer(request)[0, 0] for request in others] == [2, 3, 4, 5, 6]


async def test_timeline_says_when_each_step_happened(desk, virtual_time):
    desk = desk(script={"delay_ns": 10 * MS})
    start = virtual_time()
    desk.send(1)
    await asyncio.sleep(0.004)
    second = desk.send(2, rows=3)
    await settled(desk)
    timeline = second.timeline
    times = [(time - start) / MS for time in (timeline.queued, timeline.execute_start, timeline.execute_end)]
    assert times == pytest.approx([4, 10, 20], abs=0.001)
    assert second.compute_share_ns == pytest.approx(10 * MS, abs=1000)


async def test_compute_time_is_shared_by_rows(desk):
    desk = desk(script={"delay_ns": 8 * MS})
    one, three = desk.send(1, rows=1), desk.send(2, rows=3)
    await settled(desk)
    assert [one.compute_share_ns, three.compute_share_ns] == pytest.approx([2 * MS, 6 * MS], abs=1000)


async def test_without_a_delay_a_lone_request_never_waits(desk, virtual_time):
    desk = desk()
    start = virtual_time()
    request = desk.send(1)
    await settled(desk)
    assert request.outcome is not None
    assert virtual_time() == start


async def test_delay_is_waited_in_full_and_no_longer(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000)
    start = virtual_time()
    first = desk.send(1)
    await asyncio.sleep(0.004)
    second = desk.send(2)
    assert first.outcome is None
    await settled(desk)
    assert desk.sizes == [2]
    assert desk.reasons == ["delay"]
    assert (second.timeline.execute_start - start) / MS == pytest.approx(5, abs=0.001)


async def test_cancelled_request_does_not_shorten_the_delay_of_the_next(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000)
    start = virtual_time()
    gone = desk.send(1)
    await asyncio.sleep(0.001)
    gone.fail(Code.CANCELLED, "the client left")
    await asyncio.sleep(0.001)
    request = desk.send(2)
    await settled(desk)
    assert (request.timeline.execute_start - start) / MS == pytest.approx(7, abs=0.001)


async def test_full_batch_ends_the_delay(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000)
    start = virtual_time()
    for value in range(8):
        desk.send(value)
    await settled(desk)
    assert desk.reasons == ["full"]
    assert virtual_time() == start


async def test_largest_preferred_size_ends_the_delay_for_its_rows(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000, preferred_batch_sizes=(2, 4))
    start = virtual_time()
    for value in range(5):
        desk.send(value)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert desk.sizes == [4]
    await settled(desk)
    assert desk.sizes == [4, 1]
    assert desk.reasons == ["preferred", "delay"]
    assert (virtual_time() - start) / MS == pytest.approx(5, abs=0.001)


async def test_next_delay_counts_from_the_next_oldest_request(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000, max_batch_size=2)
    desk.send(1)
    await asyncio.sleep(0.004)
    desk.send(2)
    third_at = virtual_time()
    third = desk.send(3)
    await settled(desk)
    assert desk.sizes == [2, 1]
    assert (third.timeline.execute_start - third_at) / MS == pytest.approx(5, abs=0.001)


async def test_batches_never_exceed_their_size_whatever_rows_requests_bring(desk):
    desk = desk(script={"delay_ns": MS})
    requests = [desk.send(number, rows=1 + number % 8) for number in range(40)]
    await settled(desk)
    assert max(desk.sizes) <= 8
    assert sum(desk.sizes) == sum(request.rows for request in requests)
    for number, request in enumerate(requests):
        assert request.outcome.outputs["OUTPUT0"].array.tolist() == [[number, number]] * request.rows


async def test_full_queue_refuses_with_a_time_to_come_back(desk):
    desk = desk(script={"delay_ns": MS}, max_queue_size=2, max_batch_size=1)
    running = desk.send(0)
    await asyncio.sleep(0)
    waiting = [desk.send(1), desk.send(2)]
    refused = desk.send(3, id="r-3")
    assert refused.outcome.code is Code.OVERLOADED
    assert refused.outcome.message == "[request id: r-3] Exceeds maximum queue size"
    assert refused.outcome.retry_after_s == 1
    assert desk.batcher.depth == 2
    await settled(desk)
    assert [request.outcome.outputs["OUTPUT0"].array[0, 0] for request in (running, *waiting)] == [0, 1, 2]
    assert desk.instance.executions == 3


async def test_dead_requests_make_room_in_a_full_queue(desk, answer):
    desk = desk(script={"delay_ns": MS}, max_queue_size=2, max_batch_size=1)
    desk.send(0)
    await asyncio.sleep(0)
    dead, live = desk.send(1, width=3), desk.send(2)
    dead.fail(Code.CANCELLED, "the client left")
    late = desk.send(3)
    assert late.outcome is None
    await settled(desk)
    assert desk.instance.executions == 3
    assert [answer(request)[0, 0] for request in (live, late)] == [2, 3]


async def test_cancelled_requests_never_reach_the_runtime(desk, answer):
    desk = desk(script={"delay_ns": MS})
    desk.send(0)
    await asyncio.sleep(0)
    requests = [desk.send(value) for value in range(1, 5)]
    for number in (0, 2):
        requests[number].fail(Code.CANCELLED, "the client left")
    await settled(desk)
    assert desk.sizes == [1, 2]
    assert desk.instance.rows == 3
    assert [answer(requests[number])[0, 0] for number in (1, 3)] == [2, 4]


async def test_expired_requests_never_reach_the_runtime(desk, virtual_time):
    desk = desk(script={"delay_ns": 10 * MS})
    desk.send(0)
    await asyncio.sleep(0)
    late = desk.send(1, id="late", deadline_ns=virtual_time() + 5 * MS)
    in_time = desk.send(2, deadline_ns=virtual_time() + 50 * MS)
    await settled(desk)
    assert late.outcome.code is Code.DEADLINE
    assert late.outcome.message == "[request id: late] Request timeout expired"
    assert in_time.outcome.outputs["OUTPUT0"].array[0, 0] == 2
    assert desk.instance.rows == 2


async def test_queue_timeout_fails_who_waited_too_long(desk):
    desk = desk(script={"delay_ns": 10 * MS}, queue_timeout_us=4000)
    desk.send(0)
    await asyncio.sleep(0)
    late = desk.send(1)
    await asyncio.sleep(0.008)
    fresh = desk.send(2)
    await settled(desk)
    assert late.outcome.code is Code.DEADLINE
    assert fresh.outcome.outputs["OUTPUT0"].array[0, 0] == 2
    assert desk.instance.executions == 2


async def test_group_that_only_held_late_requests_stops_no_other(desk, answer):
    desk = desk(script={"delay_ns": 10 * MS}, queue_timeout_us=4000)
    desk.send(0)
    await asyncio.sleep(0)
    late = desk.send(1, width=3)
    await asyncio.sleep(0.008)
    fresh = desk.send(2)
    await settled(desk)
    assert late.outcome.code is Code.DEADLINE
    assert answer(fresh)[0, 0] == 2


async def test_hook_that_sends_again_into_a_full_queue_executes_nobody_twice(desk, make_request):
    desk = desk(script={"delay_ns": 10 * MS}, queue_timeout_us=4000, max_queue_size=2)
    desk.send(0)
    await asyncio.sleep(0)
    late = make_request(1)
    again = []
    late.on_outcome.append(lambda request, outcome: again.extend([desk.send(3), desk.send(4)]))
    desk.put(late)
    await asyncio.sleep(0.008)
    fresh = desk.send(2)
    await settled(desk)
    assert desk.instance.rows == 1 + sum(request.record().code is Code.OK for request in (fresh, *again))
    assert [call.inputs["INPUT0"][:, 0].tolist() for call in desk.calls][1][0] == 2


async def test_mixed_shapes_execute_apart_and_in_turn(desk, answer):
    desk = desk(script={"delay_ns": MS})
    requests = [desk.send(number, width=2 + number % 3) for number in range(9)]
    await settled(desk)
    assert desk.sizes == [3, 3, 3]
    for number, request in enumerate(requests):
        assert answer(request).tolist() == [[number] * (2 + number % 3)]


async def test_a_shape_that_waits_for_its_delay_does_not_hold_up_a_full_batch(desk, virtual_time, answer):
    desk = desk(max_queue_delay_us=5000, max_batch_size=2)
    start = virtual_time()
    lone = desk.send(1, width=3)
    pair = [desk.send(value) for value in (2, 3)]
    await asyncio.sleep(0.001)
    assert [answer(request)[0, 0] for request in pair] == [2, 3]
    assert pair[0].timeline.execute_start == start
    assert lone.outcome is None
    await settled(desk)
    assert (lone.timeline.execute_start - start) / MS == pytest.approx(5, abs=0.001)


async def test_each_shape_keeps_its_own_delay(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000, slots=4)
    start = virtual_time()
    sent = []
    for width in (2, 3, 4):
        sent.append(desk.send(1, width=width))
        await asyncio.sleep(0.001)
    await settled(desk)
    starts = [(request.timeline.execute_start - start) / MS for request in sent]
    assert starts == pytest.approx([5, 6, 7], abs=0.001)


async def test_oldest_shape_goes_first_when_a_slot_is_free(desk):
    desk = desk(script={"delay_ns": MS}, max_batch_size=2)
    desk.send(0)
    await asyncio.sleep(0)
    for width in (3, 2, 3, 2, 3):
        desk.send(1, width=width)
        await asyncio.sleep(0.0001)
    await settled(desk)
    assert [call.inputs["INPUT0"].shape for call in desk.calls] == [(1, 2), (2, 3), (2, 2), (1, 3)]


async def test_preserved_order_holds_fast_answers_back(desk):
    desk = desk(script={"delay_ns_per_row": MS}, slots=2, max_batch_size=4, preserve_ordering=True)
    slow, fast = desk.send(1, rows=4), desk.send(2, rows=1)
    await asyncio.sleep(0.002)
    assert desk.sizes == [1]  # the second request is done, and waits
    assert fast.outcome is None
    await settled(desk)
    assert desk.completed == [slow, fast]


async def test_without_ordering_answers_leave_as_they_come(desk):
    desk = desk(script={"delay_ns_per_row": MS}, slots=2, max_batch_size=4)
    slow, fast = desk.send(1, rows=4), desk.send(2, rows=1)
    await settled(desk)
    assert desk.completed == [fast, slow]


async def test_preserved_order_is_released_by_those_who_left_the_queue(desk):
    desk = desk(script={"delay_ns": MS}, preserve_ordering=True, max_queue_delay_us=5000, max_batch_size=2)
    gone = desk.send(1, width=3)  # waits for its delay
    answered = [desk.send(value) for value in (2, 3)]
    await asyncio.sleep(0.002)
    assert answered[0].outcome is None  # held back by the first
    gone.fail(Code.CANCELLED, "the client left")
    await settled(desk)
    await asyncio.sleep(0.01)
    assert desk.completed == [gone, *answered]
    assert desk.instance.executions == 1


async def test_failures_keep_the_preserved_order_too(desk):
    desk = desk(script={"delay_ns_per_row": MS}, slots=2, max_batch_size=4, preserve_ordering=True)
    slow = desk.send(1, rows=4)
    bad = desk.send(2, rows=1, parameters={"echo_fail": "bad_input"})
    await settled(desk)
    assert desk.completed == [slow, bad]
    assert bad.outcome.code is Code.INVALID_ARGUMENT


async def test_failed_batch_is_repeated_one_by_one_and_fails_only_the_bad_request(desk, answer):
    desk = desk()
    bad = desk.send(666, id="bad")
    good = [desk.send(value, rows=2) for value in (2, 3)]
    await settled(desk)
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
    await settled(desk)
    assert bad.outcome.code is Code.INVALID_ARGUMENT
    assert (good.timeline.execute_start - start) / MS == pytest.approx(5, abs=0.001)
    assert desk.calls[1].inputs["INPUT0"].shape == (1, 2)


@pytest.mark.parametrize(("kind", "code"), [("bad_input", Code.INVALID_ARGUMENT), ("runtime", Code.INTERNAL)])
async def test_failure_of_a_lone_request_says_whose_fault_it_was(desk, kind, code):
    desk = desk()
    request = desk.send(1, parameters={"echo_fail": kind})
    await settled(desk)
    assert request.outcome.code is code
    assert desk.instance.executions == 1


async def test_runtime_that_refuses_a_late_call_is_a_missed_deadline(desk, virtual_time):
    desk = desk()
    clock = iter([0, 0, 0, 0, 99, 99])
    desk.batcher._now = lambda: next(clock)
    request = desk.send(1, deadline_ns=50)  # the instance reads the real clock: long past
    await settled(desk)
    assert request.outcome.code is Code.DEADLINE
    assert desk.instance.executions == 0


async def test_requests_of_one_group_that_do_not_fit_are_executed_one_by_one(desk, make_request, answer):
    desk = desk()
    one, other = make_request(1, width=2), make_request(2, width=3)
    other.shape_key = None  # as if validation had taken them for equal
    desk.put(one)
    desk.put(other)
    await settled(desk)
    assert answer(one).tolist() == [[1, 1]]
    assert answer(other).tolist() == [[2, 2, 2]]


async def test_each_slot_executes_one_batch_at_a_time(desk):
    desk = desk(script={"delay_ns": MS}, slots=2, max_batch_size=1)
    for value in range(5):
        desk.send(value)
    await asyncio.sleep(0.0005)
    assert (desk.instance.executions, desk.batcher.depth) == (2, 3)
    await asyncio.sleep(0.001)
    assert (desk.instance.executions, desk.batcher.depth) == (4, 1)
    await settled(desk)


async def test_slots_are_bounded_by_the_model_s_own_limit(desk):
    desk = desk(script={"delay_ns": MS}, slots=4, max_slots=1, max_batch_size=1)
    desk.send(1)
    desk.send(2)
    await asyncio.sleep(0.0005)
    assert desk.instance.executions == 1
    await settled(desk)
    assert desk.instance.executions == 2


async def test_slots_that_appear_and_vanish_while_running_are_followed(desk):
    desk = desk(script={"delay_ns": MS}, slots=1, max_batch_size=1)
    for value in range(6):
        desk.send(value)
    await asyncio.sleep(0.0005)
    assert desk.instance.executions == 1
    desk.instance.slots = 3  # from inline to threads
    desk.send(6)
    await asyncio.sleep(0.0001)
    assert desk.instance.executions == 3
    desk.instance.slots = 1  # and back, with three in flight
    await asyncio.sleep(0.001)
    assert desk.instance.executions == 4
    await settled(desk)
    assert desk.instance.executions == 7


async def test_rows_are_shared_among_idle_slots_once_rows_are_known_to_cost(desk):
    desk = desk(script={"delay_ns_per_row": MS}, slots=2, max_batch_size=8)
    for rows in [1, 8] * 40:  # alone, so that both sizes are measured
        desk.send(1, rows=rows)
        await settled(desk)
    del desk.batches[:]
    for value in range(6):
        desk.send(value)
    await settled(desk)
    assert desk.sizes == [3, 3]
    assert desk.reasons[0] == "shared"


async def test_one_model_that_does_not_merge_executes_each_request_alone(desk, answer):
    desk = desk(max_batch_size=0)
    requests = [desk.send(value, rows=3) for value in (1, 2)]
    await settled(desk)
    assert [call.inputs["INPUT0"].shape for call in desk.calls] == [(3, 2), (3, 2)]
    assert desk.reasons == ["single", "single"]
    assert [answer(request).tolist() for request in requests] == [[[1, 1]] * 3, [[2, 2]] * 3]


async def test_drain_waits_for_what_waits_and_executes(desk):
    desk = desk(script={"delay_ns": 10 * MS}, max_batch_size=1)
    requests = [desk.send(1), desk.send(2)]
    assert desk.batcher.busy
    await desk.batcher.drain()
    assert [request.outcome is not None for request in requests] == [True, True]
    assert not desk.batcher.busy
    await desk.batcher.drain()  # idle: at once


async def test_drain_is_not_held_up_by_dead_requests(desk):
    desk = desk(max_queue_delay_us=5000)
    desk.send(1).fail(Code.CANCELLED, "gone")
    assert desk.batcher.queued_rows == 1
    await asyncio.wait_for(desk.batcher.drain(), 1)
    assert desk.instance.executions == 0
    assert desk.batcher.queued_rows == 0


async def test_batch_observers_learn_of_each_execution_once(desk, virtual_time):
    desk = desk(script={"delay_ns": 4 * MS})
    start = virtual_time()
    desk.send(1, rows=2)
    desk.send(2, rows=1)
    await settled(desk)
    (record,) = desk.batches
    assert isinstance(record, BatchRecord)
    assert (record.model, record.version, record.rows, record.requests) == ("m", "", 3, 2)
    assert (record.close_reason, record.ok) == ("idle", True)
    assert (record.start_ns - start, record.submit_ns - start) == (0, 0)
    assert record.done_ns - start == pytest.approx(4 * MS, abs=1000)


async def test_queued_rows_are_counted_over_all_shapes(desk):
    desk = desk(script={"delay_ns": MS})
    desk.send(0)
    await asyncio.sleep(0)
    desk.send(1, rows=3)
    desk.send(2, rows=2, width=3)
    assert (desk.batcher.queued_rows, desk.batcher.depth) == (5, 2)
    await settled(desk)
    assert (desk.batcher.queued_rows, desk.batcher.depth) == (0, 0)


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
    await settled(desk)
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
    await settled(desk)
    assert request.outcome.code is Code.INTERNAL


async def test_result_of_a_closed_model_is_an_error(desk):
    desk = desk()
    await desk.instance.close()
    request = desk.send(1)
    await settled(desk)
    assert request.outcome.code is Code.INTERNAL
    assert isinstance(desk.instance._refuse(desk.calls[0]), ExecutionFailed)


async def test_a_parameter_reaches_the_runtime_for_the_requests_that_gave_it_alone(desk, answer):
    """The echo runtime fails a call whose parameters say so: neighbours in the queue must not share that."""
    desk = desk(script={"delay_ns": MS})
    plain = [desk.send(1), desk.send(2)]
    failing = desk.send(3, parameters={"echo_fail": "bad_input"})
    await settled(desk)
    assert desk.sizes[0] == 2
    assert [answer(request)[0, 0] for request in plain] == [1, 2]
    assert failing.record().code is Code.INVALID_ARGUMENT


async def test_a_lone_request_of_a_door_that_trickles_does_not_wait_for_the_next_turn(desk, answer):
    """grpc.aio wakes the loop for every call: a turn spent waiting is a turn for nothing."""
    desk = desk(slots=1)
    desk.send(1, trickles=True)
    assert len(desk.calls) == 1  # the slot is taken before the call returns
    later = desk.send(2)
    assert len(desk.calls) == 1
    await settled(desk)
    assert answer(later)[0, 0] == 2


async def trickle(desk, count, gap_s):
    """Clients whose calls come one by one, each in a turn of its own."""
    requests = []
    for value in range(count):
        requests.append(desk.send(value, trickles=True))
        await asyncio.sleep(gap_s)
    await settled(desk)
    return requests


async def test_a_crowd_that_trickles_in_is_noticed_and_then_served_together(desk, answer):
    desk = desk(max_batch_size=64)
    for _ in range(20):
        requests = await trickle(desk, 6, 0.0001)
        assert [answer(request)[0, 0] for request in requests] == [0, 1, 2, 3, 4, 5]
    assert desk.sizes[:4] == [1, 1, 1, 1]  # nothing is known: nobody waits
    assert desk.sizes[-10:] == [6] * 10


async def test_a_crowd_that_trickles_in_runs_at_once_when_it_is_complete(desk, virtual_time):
    desk = desk(max_batch_size=64)
    for _ in range(20):
        await trickle(desk, 6, 0.0001)
    requests = [desk.send(value, trickles=True) for value in range(6)]
    assert all(request.outcome is not None for request in requests)


async def test_a_client_that_is_left_alone_waits_shortly_and_soon_no_more(desk, virtual_time):
    desk = desk(max_batch_size=64)
    for _ in range(20):
        await trickle(desk, 6, 0.0001)
    waits = []
    for _ in range(12):
        start = virtual_time()
        desk.send(1, trickles=True)
        await settled(desk)
        waits.append((virtual_time() - start) / MS)
    assert max(waits) == pytest.approx(2, abs=0.01)
    assert waits[-6:] == [0] * 6


async def test_a_request_of_another_door_ends_the_wait_for_those_that_trickle_in(desk):
    desk = desk(max_batch_size=64)
    for _ in range(20):
        await trickle(desk, 6, 0.0001)
    waiting = desk.send(1, trickles=True)
    assert waiting.outcome is None
    desk.send(2)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.batch_requests == 2


async def test_a_dear_model_is_not_kept_waiting_for_a_door_that_trickles(desk):
    """Two milliseconds of an idle slot cost more than the door can save."""
    desk = desk(script={"delay_ns_per_row": 5 * MS}, max_batch_size=64)
    for rows in [1, 8] * 40:
        desk.send(1, rows=rows)
        await settled(desk)
    for _ in range(20):
        del desk.batches[:]
        await trickle(desk, 3, 0.0001)
        assert desk.sizes == [1, 2]  # the second batch formed while the first was executed


@pytest.mark.parametrize("max_batch_size", [0, 8])
async def test_parts_of_a_streamed_answer_reach_each_request_as_its_own_rows(desk, answer, max_batch_size):
    desk = desk(script={"delay_ns": 2 * MS, "parts": 3}, max_batch_size=max_batch_size)
    got = {}
    requests = [
        desk.send(value, on_part=lambda part, value=value: got.setdefault(value, []).append(part)) for value in (1, 2)
    ]
    unary = desk.send(3)
    await settled(desk)
    for request, value in zip(requests, (1, 2), strict=True):
        assert [part.outputs["OUTPUT0"].array.tolist() for part in got[value]] == [[[value, value]]] * 2
        assert answer(request).tolist() == [[value, value]]  # the last part is the answer
        assert request.timeline.execute_start + 2 * MS == request.timeline.first_part
    assert answer(unary).tolist() == [[3, 3]]


async def test_a_request_that_does_not_stream_gets_one_answer_of_a_model_that_could(desk, answer):
    desk = desk(script={"delay_ns": 2 * MS, "parts": 3}, max_batch_size=0)
    request = desk.send(1)
    await settled(desk)
    assert answer(request).tolist() == [[1, 1]]
    assert request.timeline.first_part == 0


async def test_no_part_follows_the_end_of_a_request(desk):
    desk = desk(script={"delay_ns": 2 * MS, "parts": 5}, max_batch_size=0)
    parts = []
    request = desk.send(1, on_part=parts.append)
    await asyncio.sleep(0.005)
    request.fail(Code.CANCELLED, "gone")
    await settled(desk)
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
    await settled(desk)
    assert len(parts) == 2
    assert len(desk.calls) == 1
    assert [request.outcome.code for request in requests] == [Code.INTERNAL, Code.INTERNAL]


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"max_queue_delay_us": 50_000, "preferred_batch_sizes": (4,)}, [1, 1, 1, 1]),
        ({"max_queue_delay_us": 50_000, "max_batch_size": 4}, [2, 2]),
        ({"max_batch_size": 8}, [4, 4]),
        ({"preferred_batch_sizes": (4,)}, [2, 2]),
    ],
)
async def test_a_door_that_trickles_does_not_put_off_a_batch_that_is_due(desk, settings, rows):
    desk = desk(**settings)
    for _ in range(20):  # so that more are expected than will come
        await trickle(desk, 4, 0.0001)
    for count in rows:
        last = desk.send(1, rows=count, trickles=True)
        await asyncio.sleep(0.0001)
    assert last.outcome is not None


async def test_a_request_whose_deadline_is_near_is_executed_in_time_although_more_are_expected(desk, virtual_time):
    desk = desk(max_batch_size=64)
    for _ in range(20):
        await trickle(desk, 6, 0.0001)
    request = desk.send(1, trickles=True, deadline_ns=virtual_time() + 3 * MS)
    await settled(desk)
    assert request.record().code is Code.OK
    assert request.timeline.execute_start - request.timeline.queued == pytest.approx(1 * MS, abs=1000)


@pytest.fixture
async def expecting(desk):
    """A desk that expects eight calls together, with two idle slots."""
    made = desk(max_batch_size=64, slots=2)
    for _ in range(30):
        await trickle(made, 8, 0.0001)
    return made


async def test_a_request_in_a_hurry_among_those_that_trickle_in_is_executed_in_time(expecting, virtual_time):
    expecting.send(1, trickles=True)
    hurried = expecting.send(2, deadline_ns=virtual_time() + MS)
    expecting.send(3, trickles=True)
    await settled(expecting)
    assert hurried.record().code is Code.OK


async def test_the_nearest_deadline_counts_whoever_came_first(expecting, virtual_time):
    expecting.send(1, trickles=True, deadline_ns=virtual_time() + 60_000 * MS)
    await asyncio.sleep(0.0001)
    near = expecting.send(2, trickles=True, deadline_ns=virtual_time() + int(1.5 * MS))
    await settled(expecting)
    assert near.record().code is Code.OK


async def test_a_shape_that_waits_for_company_does_not_hold_up_another(expecting, virtual_time):
    waiting = expecting.send(1, trickles=True)
    other = expecting.send(2, width=3)
    start = virtual_time()
    while other.outcome is None:  # noqa: ASYNC110 virtual time stands still
        await asyncio.sleep(0)
    assert virtual_time() == start
    assert waiting.outcome is None
    await settled(expecting)


async def test_a_crowd_of_several_shapes_is_complete_when_all_are_there(expecting, virtual_time):
    start = virtual_time()
    requests = [expecting.send(value, width=2 + value % 2, trickles=True) for value in range(8)]
    await settled(expecting)
    assert all(request.outcome is not None for request in requests)
    assert virtual_time() == start
