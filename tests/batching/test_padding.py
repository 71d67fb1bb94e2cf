"""Padding: lengths share a batch, answers are those of the unpadded request to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batching.batcher import Batcher
from gateway.batching.padding import PaddingSettings, PadStage, padded
from gateway.batching.policy import BatchingSettings
from gateway.core.errors import Code
from gateway.core.types import InferRequest, InferResponse, Tensor
from runtimes.base import ModelSignature, TensorSpec, nothing_to_cancel

SIGNATURE = ModelSignature(
    (TensorSpec("ids", "INT64", (-1, -1)), TensorSpec("mask", "INT64", (-1, -1))),
    (TensorSpec("tokens", "INT64", (-1, -1)), TensorSpec("pooled", "INT64", (-1, 1))),
)
SETTINGS = PaddingSettings(axis=1, buckets=(4, 8), mask="mask")


def masked_model(inputs):
    """What padding needs of a model: the answers depend on nothing where the mask is 0."""
    ids, mask = inputs["ids"], inputs["mask"]
    total = (ids * mask).sum(axis=1, keepdims=True)
    return {"tokens": ids * mask * 3 + total * mask, "pooled": total}


class Masked:
    """An instance of `masked_model` that notes the shapes it was given."""

    slots = 1

    def __init__(self):
        self.shapes = []

    def submit(self, call, done):
        self.shapes.append({name: array.shape for name, array in call.inputs.items()})
        done(masked_model(call.inputs))
        return nothing_to_cancel


def tokens(length, seed=1, rows=1):
    """A request of random ids, all of them real."""
    ids = np.random.default_rng(seed + length).integers(1, 1000, (rows, length))
    return InferRequest(
        "m", inputs={"ids": Tensor("INT64", ids), "mask": Tensor("INT64", np.ones_like(ids))}, rows=rows
    )


def arrays(request):
    return {name: tensor.array for name, tensor in request.inputs.items()}


@pytest.fixture
def model():
    return Masked()


@pytest.fixture
async def send(model, virtual_time):
    batcher = Batcher(
        model, BatchingSettings(max_batch_size=64), {"tokens": "INT64", "pooled": "INT64"}, now=virtual_time
    )
    stage = PadStage(SETTINGS, SIGNATURE, batcher)

    async def all_of(*requests):
        expected = [masked_model(arrays(request)) for request in requests]
        for request in requests:
            stage(request)
        await batcher.drain()
        for request, wanted in zip(requests, expected, strict=True):
            got = {name: tensor.array.tolist() for name, tensor in request.outcome.outputs.items()}
            assert got == {name: array.tolist() for name, array in wanted.items()}

    return all_of


async def test_lengths_of_one_bucket_share_a_batch_and_are_answered_exactly(send, model):
    await send(tokens(1), tokens(3), tokens(4), tokens(2, rows=3))
    assert model.shapes == [{"ids": (6, 4), "mask": (6, 4)}]


async def test_buckets_execute_apart(send, model):
    await send(tokens(3), tokens(5), tokens(8), tokens(2))
    assert [shapes["ids"] for shapes in model.shapes] == [(2, 4), (2, 8)]


async def test_request_longer_than_all_buckets_goes_as_it_is(send, model):
    await send(tokens(9))
    assert model.shapes == [{"ids": (1, 9), "mask": (1, 9)}]


async def test_answer_as_long_as_the_bucket_is_not_cut_for_an_exact_fit(send):
    await send(tokens(4), tokens(8))


def staged(request, settings=SETTINGS, signature=SIGNATURE):
    """The request as the next stage gets it."""
    seen = []
    PadStage(settings, signature, seen.append)(request)
    return seen[0]


def test_request_without_the_mask_is_not_padded():
    request = tokens(3)
    del request.inputs["mask"]
    request.shape_key = ("as validated",)
    assert staged(request).inputs["ids"].array.shape == (1, 3)
    assert request.shape_key == ("as validated",)
    assert request.on_outcome == []


def test_uneven_inputs_are_left_for_the_model_to_judge():
    request = tokens(3)
    request.inputs["mask"].array = np.ones((1, 2), np.int64)
    assert [array.shape for array in arrays(staged(request)).values()] == [(1, 3), (1, 2)]


def test_requests_with_other_inputs_or_axes_do_not_share_a_batch():
    with_more = tokens(3)
    with_more.inputs["types"] = Tensor("INT64", np.zeros((1, 3), np.int64))
    wider = tokens(3)
    for tensor in wider.inputs.values():
        tensor.array = np.zeros((1, 3, 7), np.int64)
    keys = {staged(request).shape_key for request in (tokens(3), tokens(2), with_more, wider)}
    assert len(keys) == 3


def test_order_of_inputs_does_not_matter_for_sharing():
    turned = tokens(3)
    turned.inputs = dict(reversed(turned.inputs.items()))
    assert staged(turned).shape_key == staged(tokens(3)).shape_key


def test_the_client_s_arrays_are_not_modified():
    request = tokens(3)
    given_arrays = arrays(request)
    copies = {name: array.copy() for name, array in given_arrays.items()}
    staged(request)
    assert all(np.array_equal(given_arrays[name], copies[name]) for name in copies)
    assert given_arrays["ids"].shape == (1, 3)


def test_errors_pass_the_cut_unchanged():
    request = staged(tokens(3))
    request.fail(Code.INTERNAL, "broken")
    assert request.outcome.message == "broken"


def test_parts_of_a_streamed_answer_are_cut_like_its_end():
    parts = []
    request = tokens(3)
    request.on_part = parts.append
    staged(request)
    outputs = {"tokens": np.arange(4)[None], "pooled": np.ones((1, 1))}
    request.emit(InferResponse({name: Tensor("INT64", array) for name, array in outputs.items()}))
    (part,) = parts
    assert part.outputs["tokens"].array.tolist() == [[0, 1, 2]]
    assert part.outputs["pooled"].array.shape == (1, 1)


def test_output_of_another_length_than_the_bucket_is_left_alone():
    request = staged(tokens(3))
    own = Tensor("INT64", np.zeros((1, 2), np.int64))
    request.complete(InferResponse({"tokens": own, "pooled": own}, {"note": 1}))
    assert request.outcome.outputs == {"tokens": own, "pooled": own}
    assert request.outcome.parameters == {"note": 1}


@given(st.integers(1, 3), st.integers(0, 6), st.integers(0, 6), st.sampled_from([np.int64, np.float32, np.bool_]))
def test_padding_appends_zeros_and_keeps_the_rest(axis, length, more, dtype):
    shape = [2, 3, 2, 2]
    shape[axis] = length
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype) + dtype(1)
    result = padded(array, axis, length + more)
    shape[axis] = length + more
    assert (result.shape, result.dtype) == (tuple(shape), array.dtype)
    kept, added = np.split(result, [length], axis=axis)
    assert np.array_equal(kept, array)
    assert not added.any()


def specs(*texts):
    made = []
    for text in texts:
        name, datatype, dims = text.split(":")
        made.append(TensorSpec(name, datatype, tuple(map(int, dims.split(",")))))
    return ModelSignature(tuple(made), ())


@pytest.mark.parametrize(
    ("settings", "signature", "problem"),
    [
        (SETTINGS, SIGNATURE, ""),
        (PaddingSettings(2, (4,), "mask"), specs("mask:FP32:-1,3,-1"), ""),
        (PaddingSettings(0, (4,), "mask"), SIGNATURE, "axis >= 1"),
        (PaddingSettings(1, (), "mask"), SIGNATURE, "ascending"),
        (PaddingSettings(1, (8, 4), "mask"), SIGNATURE, "ascending"),
        (PaddingSettings(1, (4, 4), "mask"), SIGNATURE, "ascending"),
        (PaddingSettings(1, (0, 4), "mask"), SIGNATURE, ">= 1"),
        (PaddingSettings(1, (4,), "nope"), SIGNATURE, "no input 'nope'"),
        (PaddingSettings(1, (4,), "mask"), specs("mask:INT64:-1,-1", "x:INT64:-1,4"), "axis 1 of input 'x'"),
        (PaddingSettings(1, (4,), "mask"), specs("mask:INT64:-1,-1", "x:BYTES:-1,-1"), "axis 1 of input 'x'"),
        (PaddingSettings(2, (4,), "mask"), SIGNATURE, "axis 2 of input 'ids'"),
    ],
)
def test_settings_that_cannot_be_exact_are_named(settings, signature, problem):
    said = settings.problem(signature)
    assert (problem in said) if problem else said == ""
