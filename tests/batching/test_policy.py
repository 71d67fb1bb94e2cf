"""The batching decision, by table and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batching.cost import CostModel
from gateway.batching.policy import BatchingSettings, CloseReason, Run, Wait, Waiting, decide

US = 1000
FREE = CostModel()
PER_ROW = CostModel(0.0, 1000.0)  # dividing rows among slots pays
PER_CALL = CostModel(1000.0, 1.0)  # it does not
DEAR_CALL = CostModel(3_000_000.0, 6_000_000.0)  # a transformer: company is worth a short wait


def decision(rows, *, waited_us=0, slots=1, cost=FREE, expected=0, **settings):
    result = decide(Waiting(rows, 0, expected), waited_us * US, slots, BatchingSettings(**settings), cost)
    return (result.rows, result.reason.value) if isinstance(result, Run) else result.until_ns // US


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, (1, "idle")), (7, (7, "idle")), (8, (8, "full")), (9, (8, "full")), (80, (8, "full"))]
)
def test_idle_slot_takes_what_waits_up_to_the_batch_size(rows, expected):
    assert decision(rows, max_batch_size=8) == expected


@pytest.mark.parametrize(
    ("rows", "waited", "expected"),
    [(1, 0, 500), (7, 499, 500), (7, 500, (7, "delay")), (7, 900, (7, "delay")), (8, 0, (8, "full"))],
)
def test_with_a_delay_a_partial_batch_waits_for_it_and_no_longer(rows, waited, expected):
    assert decision(rows, waited_us=waited, max_batch_size=8, max_queue_delay_us=500) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, (1, "idle")), (2, (2, "preferred")), (3, (2, "preferred")), (5, (4, "preferred")), (8, (8, "full"))],
)
def test_without_a_delay_the_largest_preferred_size_reached_goes(rows, expected):
    assert decision(rows, max_batch_size=8, preferred_batch_sizes=(4, 2)) == expected


@pytest.mark.parametrize(
    ("rows", "waited", "expected"),
    [
        (1, 0, 500),
        (3, 0, 500),  # a larger preferred size may still come
        (4, 0, (4, "preferred")),
        (6, 0, (4, "preferred")),
        (3, 500, (3, "delay")),
        (8, 0, (8, "full")),
    ],
)
def test_with_a_delay_only_the_largest_preferred_size_ends_the_wait(rows, waited, expected):
    settings = {"max_batch_size": 8, "preferred_batch_sizes": (2, 4), "max_queue_delay_us": 500}
    assert decision(rows, waited_us=waited, **settings) == expected


@pytest.mark.parametrize(
    ("rows", "slots", "cost", "expected"),
    [
        (8, 2, PER_ROW, (4, "shared")),
        (7, 2, PER_ROW, (4, "shared")),
        (16, 2, PER_ROW, (8, "full")),  # the share is a whole batch
        (2, 4, PER_ROW, (1, "shared")),
        (1, 4, PER_ROW, (1, "idle")),
        (6, 1, PER_ROW, (6, "idle")),
        (6, 2, PER_CALL, (6, "idle")),
        (8, 2, PER_CALL, (8, "full")),
        (6, 2, FREE, (6, "idle")),
    ],
)
def test_rows_are_shared_among_idle_slots_where_rows_cost_more_than_calls(rows, slots, cost, expected):
    assert decision(rows, slots=slots, cost=cost, max_batch_size=8) == expected


IMAGE = {"max_batch_size": 8, "row_bytes": 2_408_448}


@pytest.mark.parametrize(
    ("rows", "cost", "settings", "expected"),
    [
        (5, CostModel(7_000.0, 10_000.0), IMAGE, (1, "copy")),
        (9, CostModel(7_000.0, 10_000.0), IMAGE, (1, "copy")),
        (1, CostModel(7_000.0, 10_000.0), IMAGE, (1, "idle")),
        (5, CostModel(120_000.0, 10_000.0), IMAGE, (5, "idle")),
        (5, FREE, IMAGE, (5, "idle")),
        (5, CostModel(0.0, 1.0), {**IMAGE, "row_bytes": 16_384}, (5, "idle")),  # too small to ask
        (5, CostModel(0.0, 1.0), {**IMAGE, "row_bytes": 0}, (5, "idle")),
        (4, CostModel(0.0, 1.0), {**IMAGE, "preferred_batch_sizes": (4,)}, (4, "preferred")),  # as configured
    ],
)
def test_large_rows_are_merged_only_where_copying_them_costs_less_than_calls(rows, cost, settings, expected):
    assert decision(rows, cost=cost, **settings) == expected


@pytest.mark.parametrize("limit", [0, 1])
def test_a_model_that_does_not_merge_never_waits(limit):
    settings = BatchingSettings(max_batch_size=limit, max_queue_delay_us=1000)
    assert isinstance(decide(Waiting(1, 0, 9), 0, 1, settings, DEAR_CALL), Run)


costs = st.builds(CostModel, st.floats(0, 1e9), st.floats(0, 1e9))
cases = st.integers(1, 128).flatmap(
    lambda limit: st.builds(
        BatchingSettings,
        max_batch_size=st.just(limit),
        preferred_batch_sizes=st.lists(st.integers(1, limit), max_size=3, unique=True).map(tuple),
        max_queue_delay_us=st.sampled_from([0, 0, 1, 100, 10_000]),
        row_bytes=st.sampled_from([0, 16, 1 << 20]),
    )
)


@pytest.mark.parametrize(
    ("rows", "expected", "waited_us", "cost", "result"),
    [
        (1, 8, 0, DEAR_CALL, 1500),  # the first of eight that return: half a call's cost is waited
        (7, 8, 1499, DEAR_CALL, 1500),
        (7, 8, 1500, DEAR_CALL, (7, "idle")),
        (8, 8, 0, DEAR_CALL, (8, "idle")),  # all are back
        (1, 1, 0, DEAR_CALL, (1, "idle")),  # a lone client never waits
        (1, 8, 0, CostModel(300_000.0, 1.0), (1, "idle")),  # a cheap call is not worth it
        (1, 8, 0, CostModel(90_000_000.0, 1.0), 2000),  # 2 ms at most
    ],
)
def test_rows_that_are_expected_are_waited_for_where_a_call_is_dear(rows, expected, waited_us, cost, result):
    assert decision(rows, expected=expected, waited_us=waited_us, cost=cost, max_batch_size=16) == result


@pytest.mark.parametrize(
    ("waited_us", "cost", "result"),
    [
        (0, FREE, 2000),
        (1999, PER_CALL, 2000),
        (2000, PER_CALL, (3, "idle")),
        (0, CostModel(999_000.0, 900.0), 2000),
        (0, CostModel(0.0, 1_000_000.0), (3, "idle")),  # a dear model: the door no longer matters
        (0, DEAR_CALL, (3, "idle")),
    ],
)
def test_a_door_that_trickles_is_given_its_time_unless_the_model_is_dear(waited_us, cost, result):
    waiting = Waiting(3, 0, 0, 2000 * US)
    got = decide(waiting, waited_us * US, 1, BatchingSettings(max_batch_size=16), cost)
    assert ((got.rows, got.reason.value) if isinstance(got, Run) else got.until_ns // US) == result


def test_a_full_batch_does_not_wait_for_a_door_that_trickles():
    waiting = Waiting(4, 0, 0, 2000 * US)
    assert decide(waiting, 0, 1, BatchingSettings(max_batch_size=4), FREE) == Run(4, CloseReason.FULL)


@given(
    st.builds(Waiting, st.integers(1, 1000), st.integers(0, 10**9), st.integers(0, 256)),
    st.integers(0, 10**8),
    st.integers(1, 16),
    cases,
    costs,
)
def test_decision_keeps_its_promises(waiting, waited, slots, settings, cost):
    rows, oldest = waiting.rows, waiting.oldest_ns
    result = decide(waiting, oldest + waited, slots, settings, cost)
    delay_ns = settings.max_queue_delay_us * US
    if isinstance(result, Wait):
        if not delay_ns:
            delay_ns = int(cost.worth_waiting_ns())
            assert rows < waiting.expected_rows
        assert waited < delay_ns
        assert rows < settings.max_batch_size
        assert oldest + waited < result.until_ns <= oldest + delay_ns
        return
    assert 1 <= result.rows <= min(rows, settings.max_batch_size)
    if result.reason is CloseReason.COPY:
        assert result.rows == 1
    if result.reason is CloseReason.FULL:
        assert result.rows == settings.max_batch_size
    if result.reason is CloseReason.PREFERRED:
        assert result.rows in settings.preferred_batch_sizes
    if result.reason is CloseReason.SHARED:
        assert result.rows * slots >= min(rows, settings.max_batch_size)  # no slot is left without its share
