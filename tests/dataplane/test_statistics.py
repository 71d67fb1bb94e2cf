"""Statistics: what clients of the statistics extension read after known traffic."""

import pytest

from gateway.core.errors import Code
from gateway.core.timeline import BatchRecord, RequestRecord, Timeline
from gateway.dataplane.statistics import Statistics, VersionStatistics

MS = 1_000_000


def request(version="1", code=Code.OK, model="m", **more):
    times = more.pop("times", None) or Timeline(
        received=1 * MS,
        decoded=2 * MS,
        routed=3 * MS,
        queued=4 * MS,
        execute_start=9 * MS,
        execute_end=19 * MS,
        answered=21 * MS,
    )
    return RequestRecord(model, version, "stable", "http", code, times, **more)


def batch(rows=4, requests=2, ok=True, model="m", version="1"):
    return BatchRecord(model, version, rows, requests, "idle", 8 * MS, 9 * MS, 19 * MS, ok)


@pytest.fixture
def statistics():
    return Statistics(clock=lambda: 101 * MS, wall_ns=lambda: 1_700_000_000_000 * MS)


def only(statistics, *args, **kwargs):
    (message,) = statistics.report(*args, **kwargs)
    return message


def pair(duration):
    return duration.count, duration.ns


def test_success_counts_rows_and_phases(statistics):
    statistics.observe_batch(batch())
    statistics.observe([request(rows=3)])
    statistics.observe([request(rows=1)])
    message = only(statistics, "m")
    stats = message.inference_stats
    assert (message.name, message.version) == ("m", "1")
    assert (message.inference_count, message.execution_count) == (4, 1)
    assert pair(stats.success) == (2, 40 * MS)
    assert pair(stats.fail) == (0, 0)
    assert pair(stats.queue) == (2, 8 * MS)  # 5 ms each, 1 ms of it merging
    assert pair(stats.compute_input) == (2, 2 * MS)
    assert pair(stats.compute_infer) == (2, 20 * MS)
    assert pair(stats.compute_output) == (2, 4 * MS)


def test_many_requests_are_counted_exactly(statistics):
    for _ in range(1000):
        statistics.observe([request(rows=2)])
    message = only(statistics)
    assert message.inference_count == 2000
    assert pair(message.inference_stats.success) == (1000, 20_000 * MS)


def test_request_executed_without_a_queue_has_no_queue_time(statistics):
    statistics.observe([request(times=Timeline(received=1, execute_start=5, execute_end=7, answered=9))])
    stats = only(statistics).inference_stats
    assert (pair(stats.queue), pair(stats.compute_infer)) == ((1, 0), (1, 2))


def test_batch_stats_are_kept_per_size_in_order(statistics):
    for rows in (8, 2, 8):
        statistics.observe_batch(batch(rows=rows))
    sizes = only(statistics).batch_stats
    assert [(s.batch_size, pair(s.compute_input), pair(s.compute_infer)) for s in sizes] == [
        (2, (1, 1 * MS), (1, 10 * MS)),
        (8, (2, 2 * MS), (2, 20 * MS)),
    ]


def test_failed_execution_is_not_an_execution(statistics):
    statistics.observe_batch(batch(ok=False))
    assert statistics.report() == []


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_every_other_code_is_a_failure(statistics, code):
    statistics.observe([request(code=code)])
    message = only(statistics)
    assert pair(message.inference_stats.fail) == (1, 20 * MS)
    assert message.inference_stats.success.count == 0
    assert message.inference_count == 0
    assert message.last_inference == 0


def test_client_that_left_fails_without_a_negative_duration(statistics):
    statistics.observe([request(code=Code.CANCELLED, times=Timeline(received=5 * MS))])
    assert pair(only(statistics).inference_stats.fail) == (1, 0)


def test_last_inference_is_unix_milliseconds_of_arrival(statistics):
    statistics.observe([request()])  # received 100 ms before "now"
    assert only(statistics).last_inference == 1_700_000_000_000 - 100


def test_request_without_version_is_left_out(statistics):
    statistics.observe([request(version="", code=Code.NOT_READY)])
    assert statistics.report() == []


def test_cache_hits_are_successes_but_not_inferences(statistics):
    statistics.observe([request(cache="hit")])
    statistics.observe([request(cache="miss", rows=2)])
    message = only(statistics)
    stats = message.inference_stats
    assert pair(stats.success) == (2, 40 * MS)
    assert pair(stats.cache_hit) == (1, 18 * MS)
    assert pair(stats.cache_miss) == (1, 1 * MS)
    assert pair(stats.queue) == (1, 5 * MS)
    assert message.inference_count == 2


def test_report_filters_and_sorts_numerically(statistics):
    for model, version in (("b", "10"), ("b", "9"), ("a", "1")):
        statistics.observe([request(model=model, version=version)])
    assert [(m.name, m.version) for m in statistics.report()] == [("a", "1"), ("b", "9"), ("b", "10")]
    assert [(m.name, m.version) for m in statistics.report("b")] == [("b", "9"), ("b", "10")]
    assert [(m.name, m.version) for m in statistics.report("b", "10")] == [("b", "10")]
    assert statistics.report("c") == []


def test_loaded_version_without_traffic_reports_zeros(statistics):
    message = only(statistics, "idle", "1", loaded=[("idle", "1"), ("other", "2")])
    assert (message.name, message.version, message.inference_count) == ("idle", "1", 0)
    assert message.inference_stats.HasField("success")


def test_forget_drops_a_version(statistics):
    statistics.observe([request()])
    statistics.forget("m", "1")
    statistics.forget("m", "1")
    assert statistics.report() == []


def test_merge_adds_two_processes_up(statistics):
    other = Statistics()
    for target in (statistics, other):
        target.observe_batch(batch(rows=4))
        target.observe([request(rows=4)])
    other.observe_batch(batch(rows=2))
    other.observe([request(code=Code.BACKEND)])
    total = VersionStatistics()
    total.merge(statistics.snapshot()["m", "1"])
    total.merge(other.snapshot()["m", "1"])
    assert (total.success_count, total.fail_count, total.rows, total.executions) == (2, 1, 8, 3)
    assert {rows: size.count for rows, size in total.sizes.items()} == {4: 2, 2: 1}
    assert total.last_ns == 1 * MS
    assert statistics.snapshot()["m", "1"].rows == 4
