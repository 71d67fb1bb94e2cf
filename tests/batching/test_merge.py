"""Merging and splitting are inverse for every datatype, and refuse what would mix up rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batching.merge import merge, parameters_key, select, split, wanted_outputs
from gateway.core.types import InferRequest, RequestedOutput, Tensor
from runtimes.base import DTYPES


def filled(draw, datatype, shape):
    size = int(np.prod(shape))
    if datatype == "BYTES":
        array = np.empty(size, np.object_)
        array[:] = draw(st.lists(st.binary(max_size=6), min_size=size, max_size=size))
        return array.reshape(shape)
    dtype = DTYPES[datatype]
    if datatype == "BOOL":
        return np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), np.bool_).reshape(shape)
    raw = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    return np.frombuffer(raw, dtype).reshape(shape)  # any bit pattern, NaNs too; read-only as bodies are


@st.composite
def batches(draw):
    """1 to 5 requests over 1 to 3 inputs, each of any datatype and row shape."""
    inputs = [
        (f"INPUT{i}", draw(st.sampled_from(sorted(DTYPES))), tuple(draw(st.lists(st.integers(0, 3), max_size=2))))
        for i in range(draw(st.integers(1, 3)))
    ]
    requests = []
    for rows in draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)):
        tensors = {name: Tensor(kind, filled(draw, kind, (rows, *shape))) for name, kind, shape in inputs}
        requests.append(InferRequest("m", inputs=tensors, rows=rows))
    return requests


def same(one, other):
    if one.dtype == np.object_:
        return one.dtype == other.dtype and one.shape == other.shape and one.tolist() == other.tolist()
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@given(batches())
def test_what_is_merged_is_split_into_the_same_bits(requests):
    merged = merge(requests)
    datatypes = {name: tensor.datatype for name, tensor in requests[0].inputs.items()}
    parts = split(merged, datatypes, requests)
    for request, part in zip(requests, parts, strict=True):
        assert list(part) == list(request.inputs)
        for name, tensor in request.inputs.items():
            assert part[name].datatype == tensor.datatype
            assert same(part[name].array, tensor.array)


def test_one_request_is_passed_on_without_a_copy(make_request):
    request = make_request(rows=3)
    assert merge([request])["INPUT0"] is request.inputs["INPUT0"].array


def test_requests_of_other_row_shapes_do_not_merge(make_request):
    with pytest.raises(ValueError, match="dimension"):
        merge([make_request(width=2), make_request(width=3)])


@pytest.mark.parametrize("shape", [(), (2,), (4,), (2, 3), (0,)])
def test_output_with_another_number_of_rows_is_refused(make_request, shape):
    with pytest.raises(ValueError, match=r"output 'y' has shape \[.*\] for a batch of 3 rows"):
        split({"y": np.zeros(shape)}, {"y": "FP64"}, [make_request(rows=2), make_request(rows=1)])


def test_output_nobody_declared_is_refused(make_request):
    with pytest.raises(KeyError):
        split({"y": np.zeros(1)}, {}, [make_request()])


def wanting(*names):
    return InferRequest("m", outputs=tuple(RequestedOutput(name) for name in names))


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [
        ([wanting()], ()),
        ([wanting("b", "a")], ("b", "a")),
        ([wanting("a"), wanting("b", "a")], ("a", "b")),
        ([wanting("a"), wanting()], ()),  # somebody wants all
    ],
)
def test_wanted_outputs_are_the_union(requests, wanted):
    assert wanted_outputs(requests) == wanted


def test_each_request_gets_the_outputs_it_named_in_its_order():
    requests = [wanting("b", "a"), wanting("a"), wanting()]
    outputs = {"a": np.array([1, 2, 3]), "b": np.array([4, 5, 6])}
    parts = split(outputs, {"a": "INT64", "b": "INT64"}, requests)
    assert [{name: int(tensor.array[0]) for name, tensor in part.items()} for part in parts] == [
        {"b": 4, "a": 1},
        {"a": 2},
        {"a": 3, "b": 6},
    ]
    assert list(parts[0]) == ["b", "a"]


def test_select_of_an_output_the_model_did_not_give_is_an_error():
    with pytest.raises(KeyError):
        select({"a": None}, wanting("b"))


def test_requests_whose_parameters_differ_do_not_share_a_batch():
    assert parameters_key({"temperature": 0.5}) != parameters_key({"temperature": 0.7})
    assert parameters_key({"a": 1, "b": 2}) == parameters_key({"b": 2, "a": 1})


def test_deadlines_and_priorities_do_not_keep_requests_apart():
    assert parameters_key({"timeout": 5, "priority": 1}) == parameters_key({})
