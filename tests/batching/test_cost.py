import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batching.cost import CostModel, CostTracker


def test_no_samples_cost_nothing():
    assert CostModel.fit(()) == CostModel(0.0, 0.0)


def test_one_size_says_nothing_of_how_the_cost_divides():
    assert CostModel.fit([(4, 400), (4, 800)]) == CostModel(0.0, 0.0)


@given(st.integers(0, 10**9), st.integers(0, 10**7), st.lists(st.integers(1, 512), min_size=2, max_size=9, unique=True))
def test_fit_finds_the_line_that_was_measured(fixed, per_row, sizes):
    model = CostModel.fit([(rows, fixed + per_row * rows) for rows in sizes])
    assert model.fixed_ns == pytest.approx(fixed, rel=1e-6, abs=1 + per_row * 512 * 1e-6)
    assert model.per_row_ns == pytest.approx(per_row, rel=1e-6, abs=1)


@given(st.lists(st.tuples(st.integers(1, 4096), st.integers(0, 10**12)), max_size=20))
def test_costs_are_never_negative(samples):
    model = CostModel.fit(samples)
    assert model.fixed_ns >= 0
    assert model.per_row_ns >= 0


def test_prediction_adds_the_call_and_its_rows():
    assert CostModel(100.0, 7.0).predict(3) == 121.0


@pytest.mark.parametrize(
    ("fixed", "per_row", "rows", "slots", "worth"), [(10, 10, 8, 2, True), (40, 10, 8, 2, False), (0, 0, 8, 2, False)]
)
def test_sharing_is_worth_it_where_the_share_outweighs_a_call(fixed, per_row, rows, slots, worth):
    assert CostModel(fixed, per_row).worth_sharing(rows, slots) is worth


def test_tracker_starts_from_warm_up():
    assert CostTracker([(1, 110), (8, 180)]).model == CostModel(100.0, 10.0)


def test_tracker_follows_a_model_that_became_slower():
    tracker = CostTracker([(1, 110), (8, 180)])
    before = tracker.model
    for _ in range(63):
        tracker.observe(8, 1800)
    assert tracker.model is before  # a fit costs, so it is rare
    for _ in range(1000):
        tracker.observe(1, 1100)
        tracker.observe(8, 1800)
    assert tracker.model.fixed_ns == pytest.approx(1000, rel=0.01)
    assert tracker.model.per_row_ns == pytest.approx(100, rel=0.01)


def test_tracker_learns_sizes_warm_up_did_not_try():
    tracker = CostTracker()
    for _ in range(32):
        tracker.observe(1, 110)
        tracker.observe(33, 430)
    assert tracker.model.per_row_ns == pytest.approx(10)
    assert tracker.model.fixed_ns == pytest.approx(100)


@pytest.mark.parametrize(
    ("fixed", "per_row", "row_bytes", "worth"),
    [
        (7_000, 10_000, 602_112, True),  # 40 us of copying to save 97
        (7_000, 10_000, 2_408_448, False),  # 160 us of copying
        (120_000, 10_000, 2_408_448, True),
        (0, 0, 602_112, True),  # nothing known: single rows alone would never tell
    ],
)
def test_copying_is_worth_it_where_a_call_costs_more(fixed, per_row, row_bytes, worth):
    assert CostModel(fixed, per_row).worth_copying(row_bytes) is worth


def test_tracker_that_saw_one_size_leaves_everything_open():
    tracker = CostTracker()
    for _ in range(200):
        tracker.observe(1, 900_000)
    assert tracker.model.worth_copying(602_112)
    assert not tracker.model.worth_sharing(8, 2)
