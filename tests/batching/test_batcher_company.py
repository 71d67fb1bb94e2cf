"""Requests whose door delivers them one by one: who waits for whom, how long, and who does not."""

import asyncio

import pytest

from gateway.core.errors import Code

MS = 1_000_000


async def test_a_lone_request_of_a_door_that_trickles_does_not_wait_for_the_next_turn(desk, answer):
    """grpc.aio wakes the loop for every call: a turn spent waiting is a turn for nothing."""
    desk = desk(slots=1)
    desk.send(1, trickles=True)
    assert len(desk.calls) == 1  # the slot is taken before the call returns
    later = desk.send(2)
    assert len(desk.calls) == 1
    await desk.settled()
    assert answer(later)[0, 0] == 2


async def trickle(desk, count, gap_s):
    """Clients whose calls come one by one, each in a turn of its own."""
    requests = []
    for value in range(count):
        requests.append(desk.send(value, trickles=True))
        await asyncio.sleep(gap_s)
    await desk.settled()
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
        await desk.settled()
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
        await desk.settled()
    for _ in range(20):
        del desk.batches[:]
        await trickle(desk, 3, 0.0001)
        assert desk.sizes == [1, 2]  # the second batch formed while the first was executed


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
    await desk.settled()
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
    await expecting.settled()
    assert hurried.record().code is Code.OK


async def test_the_nearest_deadline_counts_whoever_came_first(expecting, virtual_time):
    expecting.send(1, trickles=True, deadline_ns=virtual_time() + 60_000 * MS)
    await asyncio.sleep(0.0001)
    near = expecting.send(2, trickles=True, deadline_ns=virtual_time() + int(1.5 * MS))
    await expecting.settled()
    assert near.record().code is Code.OK


async def test_a_shape_that_waits_for_company_does_not_hold_up_another(expecting, virtual_time):
    waiting = expecting.send(1, trickles=True)
    other = expecting.send(2, width=3)
    start = virtual_time()
    while other.outcome is None:  # noqa: ASYNC110 virtual time stands still
        await asyncio.sleep(0)
    assert virtual_time() == start
    assert waiting.outcome is None
    await expecting.settled()


async def test_a_crowd_of_several_shapes_is_complete_when_all_are_there(expecting, virtual_time):
    start = virtual_time()
    requests = [expecting.send(value, width=2 + value % 2, trickles=True) for value in range(8)]
    await expecting.settled()
    assert all(request.outcome is not None for request in requests)
    assert virtual_time() == start
