"""What is expected of the next batch, by what the batches before were."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batching.company import Company

MS = 1_000_000


def after(*batches):
    company = Company()
    for requests in batches:
        company.ended(requests, requests)
    return company


def searches(company, batches, requests=1):
    """Which of the next batches are searches."""
    found = []
    for index in range(batches):
        if company.searching:
            found.append(index)
        company.ended(requests, requests)
    return found


def test_nobody_is_expected_before_anything_is_known():
    assert Company().until_ns(1, 0) == 0


def test_as_many_are_waited_for_as_came_together_and_two_milliseconds_at_most():
    company = after(5)
    assert company.until_ns(4, 7) == 7 + 2 * MS
    assert company.until_ns(5, 7) == 0


@pytest.mark.parametrize(
    ("deadline_ms", "until_ms"), [(0, 2), (60_000, 2), (4, 2), (3.5, 1.5), (2, 0), (1, 0), (0.001, 0)]
)
def test_nobody_waits_into_the_last_moments_before_a_deadline(deadline_ms, until_ms):
    assert after(5).until_ns(1, 0, int(deadline_ms * MS)) == until_ms * MS


def test_a_crowd_that_shrinks_is_forgotten_over_a_few_batches():
    company = after(32)
    expected = []
    while company.requests > 1:
        expected.append(company.requests)
        company.ended(1, 1)
    assert expected[:3] == [32, 27, 23]
    assert len(expected) < 20


def test_a_lone_client_meets_a_search_ever_more_rarely():
    found = searches(Company(), 20_000)
    gaps = [late - early for early, late in itertools.pairwise(found)]
    assert found[0] == 16
    assert gaps[:6] == [32, 64, 128, 256, 512, 1024]
    assert set(gaps[6:]) == {1024}


def test_a_search_that_finds_more_makes_the_next_one_near():
    company = Company()
    searches(company, 5000)
    while not company.searching:
        company.ended(1, 1)
    company.ended(9, 9)
    assert searches(company, 100, requests=9)[0] == 15


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 300), st.integers(0, 2**62))
def test_a_wait_is_bounded_and_never_for_more_than_once_came(batches, requests, oldest):
    company = after(*batches)
    until = company.until_ns(requests, oldest)
    assert until == 0 or until == oldest + 2 * MS
    if requests >= max(batches, default=0):
        assert company.searching or until == 0
