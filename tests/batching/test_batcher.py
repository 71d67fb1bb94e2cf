"""The batcher over the echo runtime on virtual time: what shares a batch, when, and what reached the runtime."""

import asyncio

import pytest

from gateway.core.errors import Code
from gateway.core.timeline import BatchRecord

MS = 1_000_000


async def test_requests_of_one_tick_share_a_batch_and_get_their_own_rows(desk, answer):
    desk = desk()
    requests = [desk.send(value, rows=rows) for value, rows in ((1, 1), (2, 3), (3, 2))]
    await desk.settled()
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
    await desk.settled()
    assert desk.sizes == [1, 5]
    assert virtual_time() - start == pytest.approx(20 * MS, abs=1000)  # no pause between the two
    assert [answer(request)[0, 0] for request in others] == [2, 3, 4, 5, 6]


async def test_timeline_says_when_each_step_happened(desk, virtual_time):
    desk = desk(script={"delay_ns": 10 * MS})
    start = virtual_time()
    desk.send(1)
    await asyncio.sleep(0.004)
    second = desk.send(2, rows=3)
    await desk.settled()
    timeline = second.timeline
    times = [(time - start) / MS for time in (timeline.queued, timeline.execute_start, timeline.execute_end)]
    assert times == pytest.approx([4, 10, 20], abs=0.001)
    assert second.compute_share_ns == pytest.approx(10 * MS, abs=1000)


async def test_compute_time_is_shared_by_rows(desk):
    desk = desk(script={"delay_ns": 8 * MS})
    one, three = desk.send(1, rows=1), desk.send(2, rows=3)
    await desk.settled()
    assert [one.compute_share_ns, three.compute_share_ns] == pytest.approx([2 * MS, 6 * MS], abs=1000)


async def test_without_a_delay_a_lone_request_never_waits(desk, virtual_time):
    desk = desk()
    start = virtual_time()
    request = desk.send(1)
    await desk.settled()
    assert request.outcome is not None
    assert virtual_time() == start


async def test_delay_is_waited_in_full_and_no_longer(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000)
    start = virtual_time()
    first = desk.send(1)
    await asyncio.sleep(0.004)
    second = desk.send(2)
    assert first.outcome is None
    await desk.settled()
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
    await desk.settled()
    assert (request.timeline.execute_start - start) / MS == pytest.approx(7, abs=0.001)


async def test_full_batch_ends_the_delay(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000)
    start = virtual_time()
    for value in range(8):
        desk.send(value)
    await desk.settled()
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
    await desk.settled()
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
    await desk.settled()
    assert desk.sizes == [2, 1]
    assert (third.timeline.execute_start - third_at) / MS == pytest.approx(5, abs=0.001)


async def test_batches_never_exceed_their_size_whatever_rows_requests_bring(desk):
    desk = desk(script={"delay_ns": MS})
    requests = [desk.send(number, rows=1 + number % 8) for number in range(40)]
    await desk.settled()
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
    await desk.settled()
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
    await desk.settled()
    assert desk.instance.executions == 3
    assert [answer(request)[0, 0] for request in (live, late)] == [2, 3]


async def test_cancelled_requests_never_reach_the_runtime(desk, answer):
    desk = desk(script={"delay_ns": MS})
    desk.send(0)
    await asyncio.sleep(0)
    requests = [desk.send(value) for value in range(1, 5)]
    for number in (0, 2):
        requests[number].fail(Code.CANCELLED, "the client left")
    await desk.settled()
    assert desk.sizes == [1, 2]
    assert desk.instance.rows == 3
    assert [answer(requests[number])[0, 0] for number in (1, 3)] == [2, 4]


async def test_expired_requests_never_reach_the_runtime(desk, virtual_time):
    desk = desk(script={"delay_ns": 10 * MS})
    desk.send(0)
    await asyncio.sleep(0)
    late = desk.send(1, id="late", deadline_ns=virtual_time() + 5 * MS)
    in_time = desk.send(2, deadline_ns=virtual_time() + 50 * MS)
    await desk.settled()
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
    await desk.settled()
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
    await desk.settled()
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
    await desk.settled()
    assert desk.instance.rows == 1 + sum(request.record().code is Code.OK for request in (fresh, *again))
    assert [call.inputs["INPUT0"][:, 0].tolist() for call in desk.calls][1][0] == 2


async def test_mixed_shapes_execute_apart_and_in_turn(desk, answer):
    desk = desk(script={"delay_ns": MS})
    requests = [desk.send(number, width=2 + number % 3) for number in range(9)]
    await desk.settled()
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
    await desk.settled()
    assert (lone.timeline.execute_start - start) / MS == pytest.approx(5, abs=0.001)


async def test_each_shape_keeps_its_own_delay(desk, virtual_time):
    desk = desk(max_queue_delay_us=5000, slots=4)
    start = virtual_time()
    sent = []
    for width in (2, 3, 4):
        sent.append(desk.send(1, width=width))
        await asyncio.sleep(0.001)
    await desk.settled()
    starts = [(request.timeline.execute_start - start) / MS for request in sent]
    assert starts == pytest.approx([5, 6, 7], abs=0.001)


async def test_oldest_shape_goes_first_when_a_slot_is_free(desk):
    desk = desk(script={"delay_ns": MS}, max_batch_size=2)
    desk.send(0)
    await asyncio.sleep(0)
    for width in (3, 2, 3, 2, 3):
        desk.send(1, width=width)
        await asyncio.sleep(0.0001)
    await desk.settled()
    assert [call.inputs["INPUT0"].shape for call in desk.calls] == [(1, 2), (2, 3), (2, 2), (1, 3)]


async def test_each_slot_executes_one_batch_at_a_time(desk):
    desk = desk(script={"delay_ns": MS}, slots=2, max_batch_size=1)
    for value in range(5):
        desk.send(value)
    await asyncio.sleep(0.0005)
    assert (desk.instance.executions, desk.batcher.depth) == (2, 3)
    await asyncio.sleep(0.001)
    assert (desk.instance.executions, desk.batcher.depth) == (4, 1)
    await desk.settled()


async def test_slots_are_bounded_by_the_model_s_own_limit(desk):
    desk = desk(script={"delay_ns": MS}, slots=4, max_slots=1, max_batch_size=1)
    desk.send(1)
    desk.send(2)
    await asyncio.sleep(0.0005)
    assert desk.instance.executions == 1
    await desk.settled()
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
    await desk.settled()
    assert desk.instance.executions == 7


async def test_rows_are_shared_among_idle_slots_once_rows_are_known_to_cost(desk):
    desk = desk(script={"delay_ns_per_row": MS}, slots=2, max_batch_size=8)
    for rows in [1, 8] * 40:  # alone, so that both sizes are measured
        desk.send(1, rows=rows)
        await desk.settled()
    del desk.batches[:]
    for value in range(6):
        desk.send(value)
    await desk.settled()
    assert desk.sizes == [3, 3]
    assert desk.reasons[0] == "shared"


async def test_one_model_that_does_not_merge_executes_each_request_alone(desk, answer):
    desk = desk(max_batch_size=0)
    requests = [desk.send(value, rows=3) for value in (1, 2)]
    await desk.settled()
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
    await desk.settled()
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
    await desk.settled()
    assert (desk.batcher.queued_rows, desk.batcher.depth) == (0, 0)
