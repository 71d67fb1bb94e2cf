"""Classification: the best k of each row as `score:index[:label]`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferResponse, RequestedOutput, Tensor
from gateway.dataplane.classify import classify_outputs, top_k
from runtimes.base import DTYPES


def classes(values, k, labels=(), *, datatype="FP32", batched=True):
    tensor = top_k(Tensor(datatype, np.array(values, DTYPES[datatype])), k, labels, batched=batched)
    assert tensor.datatype == "BYTES"
    return np.vectorize(bytes.decode, otypes=[object])(tensor.array).tolist() if tensor.array.size else tensor.array


@pytest.mark.parametrize(
    ("values", "k", "expected"),
    [
        ([[0.1, 0.7, 0.2]], 1, [["0.700000:1"]]),
        ([[0.1, 0.7, 0.2]], 2, [["0.700000:1", "0.200000:2"]]),
        ([[0.1, 0.7, 0.2]], 9, [["0.700000:1", "0.200000:2", "0.100000:0"]]),  # no more than there are
        ([[5, 5, 6, 5]], 4, [["6.000000:2", "5.000000:0", "5.000000:1", "5.000000:3"]]),  # ties: lower index first
        ([[1, 2], [4, 3]], 1, [["2.000000:1"], ["4.000000:0"]]),
        ([[[1, 2], [4, 3]]], 2, [["4.000000:2", "3.000000:3"]]),  # further dimensions are flattened
        ([[float("nan"), 1, float("inf"), float("-inf")]], 3, [["inf:2", "1.000000:1", "-inf:3"]]),
    ],
)
def test_best_k_of_each_row(values, k, expected):
    assert classes(values, k) == expected


def test_labels_follow_where_there_are_some():
    assert classes([[1, 3, 2]], 3, ("cat", "dog")) == [["3.000000:1:dog", "2.000000:2", "1.000000:0:cat"]]


def test_output_without_a_batch_dimension_is_one_row():
    assert classes([1, 3, 2], 2, batched=False) == ["3.000000:1", "2.000000:2"]
    assert classes([[1, 3], [4, 2]], 2, batched=False) == ["4.000000:2", "3.000000:1"]
    assert classes(7, 2, batched=False) == ["7.000000:0"]


@pytest.mark.parametrize("datatype", ["INT8", "INT32", "INT64", "UINT8", "UINT64"])
def test_whole_numbers_are_written_whole(datatype):
    assert classes([[3, 120, 0]], 2, datatype=datatype) == [["120:1", "3:0"]]


def test_large_whole_numbers_are_told_apart():
    assert classes([[2**53, 2**53 + 1]], 2, datatype="INT64") == [[f"{2**53 + 1}:1", f"{2**53}:0"]]
    assert classes([[-(2**63), 2**63 - 1, -1]], 3, datatype="INT64") == [
        [f"{2**63 - 1}:1", "-1:2", f"{-(2**63)}:0"],
    ]
    assert classes([[0, 2**64 - 1]], 2, datatype="UINT64") == [[f"{2**64 - 1}:1", "0:0"]]


@pytest.mark.parametrize("datatype", ["FP16", "FP64"])
def test_other_floats_are_classified(datatype):
    assert classes([[0.5, 1.5]], 1, datatype=datatype) == [["1.500000:1"]]


@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_nothing_to_classify_gives_no_classes(shape):
    assert classes(np.zeros(shape), 3).shape == (shape[0], 0)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9), st.integers(1, 10))
def test_classes_are_sorted_best_first_by_score_then_index(values, k):
    (row,) = classes([values], k, datatype="INT64")
    expected = sorted(range(len(values)), key=lambda index: (-values[index], index))[:k]
    assert row == [f"{values[index]}:{index}" for index in expected]


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "BF16"])
def test_other_datatypes_are_refused(datatype):
    with pytest.raises(GatewayError, match=f"due to unsupported type '{datatype}'") as caught:
        top_k(Tensor(datatype, np.zeros((1, 2), DTYPES[datatype])), 1, (), batched=True)
    assert caught.value.code is Code.INVALID_ARGUMENT


def answered(request, target, **outputs):
    request.target = target
    request.on_outcome.append(classify_outputs)
    request.complete(InferResponse({name: Tensor(kind, array) for name, (kind, array) in outputs.items()}, {"note": 1}))
    return request.outcome


SCORES = np.array([[1, 3], [4, 2]], np.float32)


@pytest.mark.parametrize(("batch", "expected"), [(8, [[b"3.000000:1:dog"], [b"4.000000:0:cat"]]), (0, [b"4.000000:2"])])
def test_only_outputs_that_ask_are_classified(version, request_for, batch, expected):
    request = request_for(outputs=[RequestedOutput("y", classification=1), "z"])
    target = version(batch=batch, labels={"y": ("cat", "dog")})
    outcome = answered(request, target, y=("FP32", SCORES), z=("FP32", SCORES))
    assert outcome.outputs["y"].array.tolist() == expected
    assert outcome.outputs["y"].datatype == "BYTES"
    assert outcome.outputs["z"].array is SCORES
    assert outcome.parameters == {"note": 1}


def test_output_that_cannot_be_classified_fails_the_request(version, request_for):
    request = request_for(outputs=[RequestedOutput("y", classification=1)])
    outcome = answered(request, version(), y=("BOOL", np.zeros((1, 2), np.bool_)))
    assert outcome.code is Code.INVALID_ARGUMENT
    assert request.record().code is Code.INVALID_ARGUMENT


def test_errors_are_passed_on(version, request_for):
    request = request_for(outputs=[RequestedOutput("y", classification=1)])
    request.target = version()
    request.on_outcome.append(classify_outputs)
    request.fail(Code.INTERNAL, "broken")
    assert request.outcome.message == "broken"
