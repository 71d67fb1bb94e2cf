"""The stack of one version over the echo runtime: what its configuration means for a request."""

import asyncio

import numpy as np
import pytest

from gateway.batching.policy import BatchingSettings
from gateway.core.errors import Code
from gateway.core.types import RequestedOutput
from gateway.dataplane.version_stack import DEFAULT_QUEUE_SIZE, VersionStack, batching_settings
from gateway.models.config import PaddingConfig


def numbered(request_for, rows, width=2, **fields):
    request = request_for(f"INPUT0:FP32:{rows},{width}", **fields)
    request.inputs["INPUT0"].array = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    return request


@pytest.fixture
def serve(loaded):
    """Send requests to a version in one tick; answers its stack and what was executed."""

    async def run(*requests, **options):
        batches = []
        stack = VersionStack(loaded(**options), on_batch=[batches.append])
        for request in requests:
            request.target = stack.servable  # as routing does
            stack.servable.stack(request)
        await stack.drain(10)
        return stack, [batch.rows for batch in batches]

    return run


async def test_merging_version_executes_requests_together_and_divides_large_ones(serve, request_for):
    requests = [numbered(request_for, rows) for rows in (1, 2, 9)]
    _, executed = await serve(*requests)
    assert sum(executed) == 12
    assert max(executed) == 4
    for request in requests:
        assert request.outcome.outputs["OUTPUT0"].array.tolist() == request.inputs["INPUT0"].array.tolist()


async def test_version_that_does_not_merge_executes_alone_and_refuses_large_requests(serve, request_for):
    fits, large = numbered(request_for, 4), numbered(request_for, 5)
    other = numbered(request_for, 2)
    _, executed = await serve(fits, large, other, dynamic_batching=False)
    assert executed == [4, 2]
    assert "batch-size must be <= 4" in large.outcome.message


async def test_unbatched_version_takes_its_shapes_as_they_are(serve, request_for):
    request = numbered(request_for, 3)
    _, executed = await serve(request, inputs=("INPUT0:FP32:3,2",), max_batch_size=0)
    assert executed == [1]
    assert request.outcome.outputs["OUTPUT0"].array.shape == (3, 2)


async def test_unsound_request_is_refused_before_it_waits(serve, request_for):
    request = numbered(request_for, 1, width=3)
    _, executed = await serve(request)
    assert (request.outcome.code, executed) == (Code.INVALID_ARGUMENT, [])


async def test_configured_padding_lets_lengths_share_a_batch(serve, request_for):
    def tokens(length):
        return request_for(f"INPUT0:FP32:1,{length}", f"INPUT1:FP32:1,{length}")

    requests = [tokens(3), tokens(4), tokens(1)]
    _, executed = await serve(
        *requests, inputs=("INPUT0:FP32:-1,-1", "INPUT1:FP32:-1,-1"), padding=PaddingConfig(1, (4,), "INPUT1")
    )
    assert executed == [3]
    assert [request.outcome.outputs["OUTPUT0"].array.shape for request in requests] == [(1, 3), (1, 4), (1, 1)]


async def test_large_padded_request_is_divided_padded_and_rejoined(serve, request_for):
    request = numbered(request_for, 6, width=3)
    request.inputs["INPUT1"] = request_for("INPUT1:FP32:6,3").inputs["INPUT1"]
    _, executed = await serve(
        request, inputs=("INPUT0:FP32:-1,-1", "INPUT1:FP32:-1,-1"), padding=PaddingConfig(1, (4,), "INPUT1")
    )
    assert executed == [4, 2]
    assert request.outcome.outputs["OUTPUT0"].array.tolist() == request.inputs["INPUT0"].array.tolist()


async def test_classes_of_a_divided_request_are_those_of_all_its_rows(serve, request_for):
    request = numbered(request_for, 6, outputs=[RequestedOutput("OUTPUT0", classification=1)])
    await serve(request, labels={"OUTPUT0": ("low", "high")})
    expected = [[f"{2 * row + 1}.000000:1:high".encode()] for row in range(6)]
    assert request.outcome.outputs["OUTPUT0"].array.tolist() == expected


async def test_servable_tells_what_the_configuration_says(loaded):
    version = loaded(
        "scores", "7", default_timeout_ms=30, labels={"OUTPUT0": ("a",)}, optional_inputs=frozenset({"INPUT0"})
    )
    servable = VersionStack(version).servable
    assert (servable.model, servable.version, servable.max_batch_size) == ("scores", "7", 4)
    assert servable.default_timeout_ns == 30_000_000
    assert (servable.labels, servable.optional_inputs) == ({"OUTPUT0": ("a",)}, {"INPUT0"})
    assert servable.signature is version.facts.signature


async def test_drain_waits_for_what_executes(loaded, request_for, virtual_time):
    stack = VersionStack(loaded(script={"delay_ns": 5_000_000_000}))
    request = numbered(request_for, 1)
    stack.servable.stack(request)
    await stack.drain(60)
    assert request.outcome is not None


async def test_drain_gives_up_when_its_time_is_over(loaded, request_for, virtual_time):
    stack = VersionStack(loaded(script={"delay_ns": 5_000_000_000}))
    request = numbered(request_for, 1)
    stack.servable.stack(request)
    start = virtual_time()
    await stack.drain(1)
    assert request.outcome is None
    assert virtual_time() - start == pytest.approx(10**9, abs=10**6)
    await asyncio.sleep(10)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"max_batch_size": 4, "max_queue_size": DEFAULT_QUEUE_SIZE, "row_bytes": 8}),
        ({"dynamic_batching": False}, {"max_batch_size": 0}),
        ({"max_batch_size": 0}, {"max_batch_size": 0}),
        (
            {
                "preferred_batch_sizes": (2, 4),
                "max_queue_delay_us": 100,
                "preserve_ordering": True,
                "max_queue_size": 7,
                "queue_timeout_us": 900,
                "instances": 3,
            },
            {
                "preferred_batch_sizes": (2, 4),
                "max_queue_delay_us": 100,
                "preserve_ordering": True,
                "max_queue_size": 7,
                "queue_timeout_us": 900,
                "max_slots": 3,
            },
        ),
        ({"inputs": ("INPUT0:FP32:-1,2,3", "B:INT64:-1,5")}, {"row_bytes": 64}),
        ({"inputs": ("INPUT0:FP32:-1,-1",)}, {"row_bytes": 0}),
        ({"inputs": ("INPUT0:FP32:-1,2", "B:BYTES:-1,1")}, {"row_bytes": 0}),
    ],
)
def test_configuration_is_translated_for_the_batcher(loaded, config, expected):
    settings = batching_settings(loaded(**config))
    assert isinstance(settings, BatchingSettings)
    assert {name: getattr(settings, name) for name in expected} == expected


async def test_costs_of_warm_up_are_known_from_the_start(loaded):
    stack = VersionStack(loaded(costs=((1, 1100), (4, 1400))))
    model = stack.batcher._costs.model
    assert (model.fixed_ns, model.per_row_ns) == (pytest.approx(1000), pytest.approx(100))
