import math

import pytest

from gateway.cli.bench import Tally, percentile, read_head


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 12", (200, 12)),
        (b"HTTP/1.1 503 Service Unavailable\r\nX: y\r\nContent-Length:0", (503, 0)),
        (b"HTTP/1.1 204 No Content", (204, 0)),
    ],
)
def test_a_head_has_status_and_length(head, found):
    assert read_head(head) == found


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4)])
def test_percentiles_are_nearest_rank(share, value):
    assert percentile([1, 2, 3, 4], share) == value


def test_a_percentile_of_nothing_is_not_a_number():
    assert math.isnan(percentile([], 0.5))


def test_the_tally_counts_only_while_told_to():
    tally = Tally()
    tally.add(1.0, 500, b"no")
    tally.counting = True
    tally.add(2.0, 200, b"")
    tally.add(3.0, 503, b"busy")
    tally.add(4.0, 504, b"late")
    assert tally.latencies_s == [2.0, 3.0, 4.0]
    assert (tally.failures, tally.first_failure) == (2, "status 503: busy")
