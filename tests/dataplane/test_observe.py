"""Each request is counted once, whatever became of it; plain successes as columns, others as records."""

import numpy as np
import pytest

from gateway.core.errors import Code, invalid
from gateway.core.timeline import STEPS
from gateway.core.types import InferResponse
from gateway.dataplane.observe import ObserveStage
from gateway.dataplane.statistics import Statistics


class Counter:
    def __init__(self):
        self.records = []
        self.groups = []

    def observe(self, records):
        self.records.extend(records)

    def observe_group(self, group):
        self.groups.append(group)


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def records():
    return []


@pytest.fixture
def observe(counter, records):
    return ObserveStage([counter], [records.extend], lambda request: None)


def served(observe, request, target, start=1_000, **fields):
    """Take a request through the stage to a plain success."""
    request.target, request.known = target, True
    for name, value in fields.items():
        setattr(request, name, value)
    observe(request)
    for place, step in enumerate(STEPS):
        setattr(request.timeline, step, start + place)
    request.complete(InferResponse({}))
    request.finish()
    request.finish()
    return request


def test_success_is_recorded_once_and_counted_when_asked(observe, counter, records, version, request_for):
    target = version()
    served(observe, request_for(), target, rows=3, compute_share_ns=70)
    assert [(record.model, record.version, record.code) for record in records] == [("m", "1", Code.OK)]
    assert (counter.groups, counter.records) == ([], [])
    observe.flush()
    observe.flush()
    (group,) = counter.groups
    assert (group.model, group.version, group.role, group.protocol) == ("m", "1", "stable", "http")
    assert (group.rows, group.compute_share_ns) == (3, 70)
    assert group.steps.tolist() == [[1000, 1001, 1002, 1003, 1004, 1005]]


def test_successes_are_grouped_by_version_role_and_protocol(observe, counter, version, request_for):
    one, two = version(), version(version="2")
    for target, role, protocol in (
        (one, "stable", "http"),
        (two, "stable", "http"),
        (one, "stable", "http"),
        (one, "pinned", "http"),
        (one, "stable", "grpc"),
    ):
        served(observe, request_for(), target, role=role, protocol=protocol)
    observe.flush()
    assert sorted((group.version, group.role, group.protocol, len(group.steps)) for group in counter.groups) == [
        ("1", "pinned", "http", 1),
        ("1", "stable", "grpc", 1),
        ("1", "stable", "http", 2),
        ("2", "stable", "http", 1),
    ]


def test_a_version_loaded_again_is_counted_with_its_own(observe, counter, version, request_for):
    for rows in (1, 2):
        served(observe, request_for(), version(), rows=rows)
    observe.flush()
    assert sorted(group.rows for group in counter.groups) == [1, 2]


def test_many_successes_are_counted_before_anybody_asks(observe, counter, version, request_for):
    target = version()
    for number in range(1000):
        served(observe, request_for(), target, start=1 + number * 10)
    assert len(counter.groups) == 3
    observe.flush()
    assert sum(len(group.steps) for group in counter.groups) == 1000
    received = np.concatenate([group.steps[:, 0] for group in counter.groups])
    assert received.tolist() == [1 + number * 10 for number in range(1000)]


@pytest.mark.parametrize("fields", [{"cache": "hit"}, {"principal": "alice"}])
def test_success_with_more_to_tell_is_counted_as_a_record(observe, counter, records, version, request_for, fields):
    served(observe, request_for(), version(), **fields)
    observe.flush()
    assert counter.groups == []
    assert counter.records == records
    assert len(records) == 1


def test_refused_request_is_recorded_too(observe, counter, records, request_for):
    request = request_for()
    observe.refuse(request, invalid("no such thing"))
    assert request.outcome.message == "no such thing"
    assert records == []  # not before its door is done with it
    request.finish()
    assert [record.code for record in records] == [Code.INVALID_ARGUMENT]
    assert counter.records == records


def test_request_of_a_name_nobody_knows_is_recorded_without_it(observe, records, request_for):
    request = request_for(model="made up")
    observe(request)
    request.fail(Code.NOT_FOUND, "")
    request.finish()
    assert [(record.model, record.version) for record in records] == [("", "")]


def test_abandoned_request_is_recorded_as_cancelled(observe, counter, request_for):
    request = request_for()
    observe(request)
    request.finish()
    assert [record.code for record in counter.records] == [Code.CANCELLED]


def test_success_without_a_version_is_no_version_s(counter, request_for):
    stage = ObserveStage([counter], [], lambda request: None)
    request = request_for()
    stage(request)
    request.complete(InferResponse({}))
    request.finish()
    stage.flush()
    assert counter.groups == []


def test_answer_nobody_read_has_no_duration(version, request_for):
    statistics = Statistics(clock=lambda: 0, wall_ns=lambda: 0)
    stage = ObserveStage([statistics], [], lambda request: None)
    request = request_for()
    request.target, request.known = version(), True
    stage(request)
    request.timeline.received = request.timeline.execute_start = request.timeline.execute_end = 5_000
    request.complete(InferResponse({}))
    request.finish()
    stage.flush()
    (message,) = statistics.report()
    assert message.inference_stats.success.count == 1
    assert message.inference_stats.success.ns == 0
    assert message.inference_stats.compute_output.ns == 0
