"""Answers of one batch that are written together read like answers written one by one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batching.merge import split
from gateway.core.errors import GatewayError
from gateway.core.types import InferRequest
from gateway.protocols.v2_json import json_from_array, json_from_tensor


def parts_of(array, sizes, datatype):
    requests = [InferRequest("m", rows=rows) for rows in sizes]
    return [part["y"] for part in split({"y": array}, {"y": datatype}, requests)]


def written_alike(array, sizes, datatype):
    for tensor in parts_of(array, sizes, datatype):
        assert json_from_tensor(tensor, "y") == json_from_array(datatype, tensor.array, "y")


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2), (0,)])
@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64", "UINT8", "BOOL"])
def test_rows_of_any_shape_are_written_flat(shape, datatype):
    dtype = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "UINT8": np.uint8, "BOOL": np.bool_}[datatype]
    array = (np.arange(7 * math.prod(shape)).reshape((7, *shape)) % 5).astype(dtype)
    written_alike(array, [1, 1, 2, 1, 2], datatype)


@given(
    st.lists(st.floats(width=32), min_size=12, max_size=12), st.sampled_from([[1] * 6, [2, 1, 3], [6], [1, 5], [3, 3]])
)
def test_any_numbers_are_written_alike_those_that_json_has_no_token_for_included(values, sizes):
    written_alike(np.array(values, np.float32).reshape(6, 2), sizes, "FP32")


def test_an_array_that_lies_otherwise_in_memory_is_written_row_by_row():
    written_alike(np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3)), [1, 1, 1, 1], "FP32")


def test_texts_keep_their_commas_and_brackets():
    array = np.empty((3, 1), object)
    array[:, 0] = [b"a],[b", b"\n", b""]
    written_alike(array, [1, 1, 1], "BYTES")


def test_a_large_batch_is_not_written_for_the_few_who_want_text():
    array = np.zeros((8, 1024), np.float32)
    tensors = parts_of(array, [1] * 8, "FP32")
    for tensor in tensors[:3]:
        json_from_tensor(tensor, "y")
    assert not tensors[0].batch.texts


def test_the_first_answer_does_not_pay_for_others_that_may_want_none():
    tensors = parts_of(np.zeros((8, 2), np.float32), [1] * 8, "FP32")
    json_from_tensor(tensors[0], "y")
    assert tensors[0].batch.texts is None
    json_from_tensor(tensors[1], "y")
    assert len(tensors[0].batch.texts) == 8


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_datatypes_without_a_json_form_are_refused_for_every_answer(datatype):
    array = np.zeros((3, 1), np.float16 if datatype == "FP16" else np.uint16)
    for tensor in parts_of(array, [1, 1, 1], datatype):
        with pytest.raises(GatewayError, match="not supported"):
            json_from_tensor(tensor, "y")
