"""Admission, the byte budget and the deadline sweep, on virtual time."""

import asyncio

import pytest

from gateway.core.errors import Code
from gateway.core.types import InferResponse
from gateway.dataplane.admission import AdmissionSettings, AdmissionStage, ByteBudget
from gateway.dataplane.deadlines import NEVER_NS, DeadlineSweep

MS = 1_000_000


@pytest.fixture
def admission(seen, virtual_time):
    stages = []

    def make(**settings):
        stages.append(AdmissionStage(AdmissionSettings(**settings), seen.stage, virtual_time))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


async def test_admitted_request_is_in_flight_until_it_is_finished(admission, request_for, seen, virtual_time):
    stage = admission()
    request = request_for()
    stage(request)
    assert (seen.requests, stage.in_flight) == ([request], 1)
    assert request.timeline.admitted == virtual_time()
    request.complete(InferResponse({}))
    assert stage.in_flight == 1  # its answer is not out yet
    request.finish()
    assert stage.in_flight == 0


async def test_requests_above_the_bound_are_refused_until_others_finish(admission, request_for, seen):
    stage = admission(max_requests_in_flight=2)
    first, second, third, fourth = (request_for() for _ in range(4))
    stage(first)
    stage(second)
    stage(third)
    assert (third.outcome.code, third.outcome.retry_after_s) == (Code.OVERLOADED, 1)
    assert "2 requests in flight" in third.outcome.message
    third.finish()  # never counted
    assert stage.in_flight == 2
    first.finish()
    stage(fourth)
    assert seen.requests == [first, second, fourth]


async def test_request_without_a_deadline_gets_the_default_from_its_first_byte(admission, request_for, virtual_time):
    stage = admission(default_timeout_ms=100)
    early, unstamped = request_for(), request_for()
    early.timeline.received = virtual_time() - 7 * MS
    stage(early)
    stage(unstamped)
    assert early.deadline_ns == virtual_time() + 93 * MS
    assert unstamped.deadline_ns == virtual_time() + 100 * MS


async def test_request_with_a_deadline_keeps_it(admission, request_for, virtual_time):
    deadline = virtual_time() + 500 * MS
    request = request_for(deadline_ns=deadline)
    admission(default_timeout_ms=100)(request)
    assert request.deadline_ns == deadline


@pytest.mark.parametrize("late_by_ns", [0, 5 * MS])
async def test_request_that_comes_too_late_is_not_handed_on(admission, request_for, seen, virtual_time, late_by_ns):
    stage = admission()
    request = request_for(id="r", deadline_ns=virtual_time() - late_by_ns)
    stage(request)
    assert (request.outcome.code, request.outcome.message) == (
        Code.DEADLINE,
        "[request id: r] Request timeout expired",
    )
    assert (seen.requests, stage.in_flight) == ([], 0)


@pytest.mark.parametrize("timeout_ms", [1, 2, 3, 50, 60_000])
async def test_late_request_is_answered_within_two_milliseconds(admission, request_for, virtual_time, timeout_ms):
    stage = admission()
    request = request_for(deadline_ns=virtual_time() + timeout_ms * MS)
    answered = []
    request.on_outcome.append(lambda done, outcome: answered.append(virtual_time()))
    stage(request)
    await asyncio.sleep(timeout_ms / 1000 + 1)
    assert request.outcome.code is Code.DEADLINE
    assert 0 <= answered[0] - request.deadline_ns <= 2 * MS + 1000


async def test_steady_stream_of_short_deadlines_does_not_put_the_sweep_off(admission, request_for, virtual_time):
    stage = admission()
    late_by = []
    for _ in range(50):
        request = request_for(deadline_ns=virtual_time() + MS // 2)
        request.on_outcome.append(lambda done, outcome: late_by.append(virtual_time() - done.deadline_ns))
        stage(request)
        await asyncio.sleep(0.0003)
    await asyncio.sleep(0.01)
    assert len(late_by) == 50
    assert max(late_by) <= 2 * MS + 1000


async def test_each_of_many_deadlines_is_met_in_any_order_of_arrival(admission, request_for, virtual_time):
    stage = admission()
    late_by = []
    for timeout_ms in (90, 10, 50, 70, 30, 10, 500, 11):
        request = request_for(deadline_ns=virtual_time() + timeout_ms * MS)
        request.on_outcome.append(lambda done, outcome: late_by.append(virtual_time() - done.deadline_ns))
        stage(request)
    await asyncio.sleep(1)
    assert len(late_by) == 8
    assert min(late_by) >= 0
    assert max(late_by) <= 2 * MS + 1000


async def test_answered_requests_are_not_failed_by_the_sweep(admission, request_for, virtual_time):
    stage = admission()
    request = request_for(deadline_ns=virtual_time() + 5 * MS)
    stage(request)
    answer = InferResponse({})
    request.complete(answer)
    await asyncio.sleep(0.1)
    assert request.outcome is answer


async def test_tightened_deadline_is_watched_from_then_on(admission, request_for, virtual_time):
    stage = admission()
    request = request_for()
    stage(request)
    request.deadline_ns = virtual_time() + 5 * MS
    stage.watch(request)
    await asyncio.sleep(0.0075)
    assert request.outcome.code is Code.DEADLINE


async def test_drained_waits_for_the_last_to_finish(admission, request_for):
    stage = admission()
    await stage.drained()  # nothing in flight: at once
    requests = [request_for(), request_for()]
    for request in requests:
        stage(request)
    waiting = asyncio.create_task(stage.drained())
    await asyncio.sleep(0.1)
    requests[0].finish()
    await asyncio.sleep(0.1)
    assert not waiting.done()
    requests[1].finish()
    await waiting


async def test_drained_waits_again_for_requests_that_came_later(admission, request_for):
    stage = admission()
    for _ in range(2):
        request = request_for()
        stage(request)
        waiting = asyncio.create_task(stage.drained())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        request.finish()
        await waiting


@pytest.fixture
def live():
    return {}


@pytest.fixture
async def sweep(live, virtual_time):
    made = DeadlineSweep(live.values(), virtual_time)
    yield made
    made.close()


async def test_sweep_fires_only_when_a_deadline_asks_for_it(sweep, live, request_for, virtual_time, monkeypatch):
    fired = []
    inner = sweep.sweep
    monkeypatch.setattr(sweep, "sweep", lambda: (fired.append(virtual_time()), inner())[1])
    start = virtual_time()
    for number, timeout_ms in enumerate((100, 40, 60)):
        live[number] = request_for(deadline_ns=start + timeout_ms * MS)
        sweep.watch(live[number].deadline_ns)
    del live[1]
    live[2].complete(InferResponse({}))
    await asyncio.sleep(1)
    assert [round((at - start) / MS) for at in fired] == [40, 100]  # none for the one that was answered
    assert sweep.next_ns == NEVER_NS


async def test_timer_moves_only_to_an_earlier_deadline(sweep, virtual_time):
    now = virtual_time()
    sweep.watch(now + 50 * MS)
    sweep.watch(now + 80 * MS)
    assert sweep.next_ns == now + 50 * MS
    sweep.watch(now + 20 * MS)
    assert sweep.next_ns == now + 20 * MS
    sweep.watch(now + 1)
    assert sweep.next_ns == now + 2 * MS  # not more often than every two milliseconds
    await asyncio.sleep(0.001)
    sweep.watch(now + 1)
    assert sweep.next_ns == now + 2 * MS


async def test_hook_that_admits_the_next_request_leaves_one_timer(sweep, live, request_for, virtual_time, monkeypatch):
    fired = []
    inner = sweep.sweep
    monkeypatch.setattr(sweep, "sweep", lambda: (fired.append(virtual_time()), inner())[1])
    start = virtual_time()

    def admit_next(request, outcome):
        live[9] = request_for(deadline_ns=start + 30 * MS)
        sweep.watch(live[9].deadline_ns)

    live[0] = request_for(deadline_ns=start + 10 * MS)
    live[0].on_outcome.append(admit_next)
    live[1] = request_for(deadline_ns=start + 20 * MS)
    sweep.watch(start + 10 * MS)
    await asyncio.sleep(1)
    assert [round((at - start) / MS) for at in fired] == [10, 20, 30]


async def test_closed_sweep_fires_no_more(sweep, live, request_for, virtual_time):
    live[0] = request_for(deadline_ns=virtual_time() + 5 * MS)
    sweep.watch(live[0].deadline_ns)
    sweep.close()
    sweep.close()
    await asyncio.sleep(0.1)
    assert live[0].outcome is None


def test_budget_is_taken_given_and_never_passed():
    budget = ByteBudget(100)
    assert budget.take(60)
    assert not budget.take(41)
    assert budget.used == 60  # a refusal takes nothing
    assert budget.take(40)
    assert not budget.take(1)
    budget.give(60)
    assert budget.take(60)
    assert budget.used == 100


def test_body_larger_than_the_whole_budget_is_let_in_alone():
    budget = ByteBudget(100)
    assert budget.take(500)
    assert not budget.take(1)
    budget.give(500)
    assert budget.take(1)
    assert not budget.take(500)


@pytest.mark.parametrize("name", ["max_requests_in_flight", "max_bytes_in_flight", "default_timeout_ms"])
def test_bounds_of_nothing_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"^{name}: expected at least 1, got 0$"):
        AdmissionSettings(**{name: 0})
