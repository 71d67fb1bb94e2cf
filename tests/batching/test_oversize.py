"""Requests above the batch size: divided, executed as ordinary requests, rejoined in order."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batching.oversize import OversizeStage
from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, InferResponse, RequestedOutput, ServableVersion, Tensor
from runtimes.base import ModelSignature

MS = 1_000_000


def numbered(rows, **fields):
    array = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    return InferRequest("m", inputs={"INPUT0": Tensor("FP32", array)}, rows=rows, **fields)


def echo(request):
    request.complete(InferResponse({"OUTPUT0": request.inputs["INPUT0"]}))


@given(st.integers(1, 40), st.integers(1, 9))
def test_parts_are_rejoined_in_order(rows, limit):
    sizes = []

    def inner(part):
        sizes.append(part.rows)
        echo(part)

    request = numbered(rows)
    OversizeStage(limit, inner)(request)
    assert request.outcome.outputs["OUTPUT0"].array.tolist() == request.inputs["INPUT0"].array.tolist()
    assert max(sizes) <= limit
    assert sum(sizes) == rows


@given(st.permutations(range(5)))
def test_parts_that_end_in_any_order_are_rejoined_in_theirs(order):
    parts = []
    request = numbered(9)
    OversizeStage(2, parts.append)(request)
    for number in order:
        assert request.outcome is None
        echo(parts[number])
    assert request.outcome.outputs["OUTPUT0"].array.tolist() == request.inputs["INPUT0"].array.tolist()


def test_parts_carry_what_the_next_stages_look_at():
    parts = []
    target = ServableVersion("m", "1", ModelSignature((), ()), 2, parts.append)
    request = numbered(
        3,
        id="r",
        outputs=(RequestedOutput("OUTPUT0"),),
        parameters={"p": 1},
        deadline_ns=77,
        target=target,
        known=True,
        role="pinned",
        shape_key=("k",),
    )
    OversizeStage(2, parts.append)(request)
    for part in parts:
        for name in ("model", "id", "outputs", "parameters", "deadline_ns", "target", "known", "role", "shape_key"):
            assert getattr(part, name) == getattr(request, name), name


def test_failed_part_fails_the_whole_and_drops_the_others():
    parts = []
    request = numbered(6, id="r")
    OversizeStage(2, parts.append)(request)
    echo(parts[0])
    parts[1].fail(Code.INTERNAL, "broken")
    assert (request.outcome.code, request.outcome.message) == (Code.INTERNAL, "broken")
    assert parts[2].outcome.code is Code.CANCELLED
    echo(parts[2])  # its late answer changes nothing
    assert request.outcome.code is Code.INTERNAL


def test_parts_after_a_refused_one_are_not_handed_on():
    seen = []

    def inner(part):
        seen.append(part)
        part.fail(Code.OVERLOADED, "Exceeds maximum queue size", retry_after_s=1)

    request = numbered(6)
    OversizeStage(2, inner)(request)
    assert len(seen) == 1
    assert (request.outcome.code, request.outcome.retry_after_s) == (Code.OVERLOADED, 1)


@pytest.mark.parametrize("answers", [[(2, 3), (2, 4)], [(2, 3), None]])
def test_answers_that_do_not_fit_together_are_an_error(answers):
    parts = []
    request = numbered(4, id="r")
    OversizeStage(2, parts.append)(request)
    for part, shape in zip(parts, answers, strict=True):
        part.complete(InferResponse({} if shape is None else {"OUTPUT0": Tensor("FP32", np.zeros(shape))}))
    assert request.outcome.code is Code.INTERNAL
    assert request.outcome.message.startswith("[request id: r] ")
    assert "do not fit together" in request.outcome.message


async def test_parts_are_batched_like_other_requests(desk):
    desk = desk(max_batch_size=4, script={"delay_ns": MS})
    request = numbered(10)
    OversizeStage(4, desk.batcher)(request)
    other = desk.send(7, rows=2)
    await desk.batcher.drain()
    assert desk.sizes == [4, 4, 4]  # the last part and the other request share one
    assert request.outcome.outputs["OUTPUT0"].array.tolist() == request.inputs["INPUT0"].array.tolist()
    assert other.outcome.outputs["OUTPUT0"].array.tolist() == [[7, 7]] * 2
    timeline = request.timeline
    assert timeline.execute_end - timeline.execute_start == pytest.approx(3 * MS, abs=1000)
    assert timeline.queued == timeline.execute_start
    assert (request.batch_rows, request.batch_requests, request.close_reason) == (4, 2, "full")
    assert request.compute_share_ns == pytest.approx(2.5 * MS, abs=1000)


async def test_cancelled_whole_keeps_its_waiting_parts_from_executing(desk):
    desk = desk(max_batch_size=2, script={"delay_ns": MS})
    request = numbered(8)
    OversizeStage(2, desk.batcher)(request)
    await asyncio.sleep(0.0015)  # the second part is executing
    request.fail(Code.CANCELLED, "the client left")
    await desk.batcher.drain()
    assert desk.instance.executions == 2
    assert request.outcome.code is Code.CANCELLED


async def test_failure_in_the_runtime_drops_the_parts_that_wait(desk):
    desk = desk(max_batch_size=2, script={"delay_ns": MS, "fail_every": 2})
    request = numbered(8)
    OversizeStage(2, desk.batcher)(request)
    await desk.batcher.drain()
    assert request.outcome.code is Code.INTERNAL
    assert desk.instance.executions == 2


def test_request_of_more_parts_than_the_queue_holds_is_refused_at_once():
    refused = []
    stage = OversizeStage(4, refused.append, max_parts=2)
    request = InferRequest("m", inputs={"x": Tensor("FP32", np.zeros((9, 1), np.float32))}, rows=9)
    stage(request)
    assert isinstance(request.outcome, GatewayError)
    assert request.outcome.code is Code.INVALID_ARGUMENT
    assert "batch-size must be <= 8 for 'm'" in request.outcome.message
    assert not refused
