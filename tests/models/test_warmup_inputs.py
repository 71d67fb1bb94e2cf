"""Batch sizes and arrays of the warm-up, and what its outputs are held to."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.models.config import ModelConfig, PaddingConfig, Proto, WarmUpSample, WarmUpTensor
from gateway.models.warmup_inputs import WarmUpImpossible, batch_inputs, mismatch, sample_inputs, warm_up_sizes


def config(size=8, **more):
    return ModelConfig("m", "onnx", Proto(name="m", max_batch_size=size), max_batch_size=size, **more)


def sample(**inputs):
    return WarmUpSample("s", 1, 1, inputs)


@pytest.mark.parametrize(
    ("limit", "preferred", "sizes"),
    [
        (0, (), (1,)),
        (1, (), (1,)),
        (8, (), (1, 2, 4, 8)),
        (12, (), (1, 2, 4, 8, 12)),
        (8, (3, 6), (1, 2, 3, 4, 6, 8)),
        (4, (16, 0, -1), (1, 2, 4)),
    ],
)
def test_sizes_are_powers_of_two_the_maximum_and_the_preferred(limit, preferred, sizes):
    assert warm_up_sizes(limit, preferred) == sizes


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 31), st.lists(st.integers(-5, 1 << 31), max_size=5))
def test_sizes_rise_from_one_to_the_maximum(limit, preferred):
    sizes = warm_up_sizes(limit, preferred)
    assert sizes[0] == 1
    assert sizes[-1] == max(1, limit)
    assert list(sizes) == sorted(set(sizes))


def test_batch_inputs_are_zeros_of_the_signature(facts):
    signature = facts(["x:FP16:-1,3,-1", "s:BYTES:-1,2", "b:BOOL:-1", "o?:FP32:-1,1"], ["y:FP32:-1"]).signature
    arrays = batch_inputs(config(), signature, 4)
    assert {name: (array.shape, array.dtype.str) for name, array in arrays.items()} == {
        "x": ((4, 3, 1), "<f2"),
        "s": ((4, 2), "|O"),
        "b": ((4,), "|b1"),
    }
    assert arrays["s"].tolist() == [[b"", b""]] * 4
    assert not arrays["x"].any()


def test_batch_inputs_without_a_batch_dimension_keep_the_shape(facts):
    signature = facts(["x:FP32:2,-1", "k:INT64:"], ["y:FP32:-1"]).signature
    arrays = batch_inputs(config(0), signature, 1)
    assert (arrays["x"].shape, arrays["k"].shape) == ((2, 1), ())


def test_batch_inputs_variable_length_is_the_smallest_bucket(facts):
    signature = facts(["ids:INT64:-1,-1", "mask:INT64:-1,-1", "f:FP32:-1,7"], ["y:FP32:-1"]).signature
    arrays = batch_inputs(config(padding=PaddingConfig(1, (16, 32), "mask")), signature, 2)
    assert [array.shape for array in arrays.values()] == [(2, 16), (2, 16), (2, 7)]


def test_batch_inputs_too_large_are_refused(facts):
    signature = facts(["x:FP32:-1,1000000000"], ["y:FP32:-1"]).signature
    with pytest.raises(WarmUpImpossible, match=r"input 'x': a batch of shape .* is too large"):
        batch_inputs(config(), signature, 1)


def test_batch_inputs_repeat_the_first_samples_row(facts):
    signature = facts(["s:BYTES:-1,1", "x:FP32:-1,2"], ["y:FP32:-1"]).signature
    raw = WarmUpTensor("BYTES", (1,), "file", struct.pack("<I", 3) + b"\xff\xd8\x00")
    numbers = WarmUpTensor("FP32", (2,), "file", np.array([1, 2], "<f4").tobytes())
    arrays = batch_inputs(config(warm_up_samples=(sample(s=raw, x=numbers),)), signature, 3)
    assert arrays["s"].tolist() == [[b"\xff\xd8\x00"]] * 3
    assert arrays["x"].tolist() == [[1, 2]] * 3
    assert arrays["x"].flags.c_contiguous


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP64", "INT8", "UINT64", "BOOL", "BYTES"])
def test_sample_inputs_random_has_the_datatype(facts, datatype):
    signature = facts([f"x:{datatype}:-1,5"], ["y:FP32:-1"]).signature
    tensor = WarmUpTensor(datatype, (5,), "random")
    array = sample_inputs(config(), signature, sample(x=tensor), 2)["x"]
    zeros = sample_inputs(config(), signature, sample(x=WarmUpTensor(datatype, (5,), "zero")), 2)["x"]
    assert array.shape == zeros.shape == (2, 5)
    assert array.dtype == zeros.dtype


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (WarmUpTensor("FP32", (3,), "zero"), "input 'x' says FP32, the model has BYTES"),
        (WarmUpTensor("BYTES", (2,), "file", struct.pack("<I", 1) + b"a"), "holds 1 elements, dims need 2"),
        (WarmUpTensor("BYTES", (1,), "file", b"\x01\x00"), "ends inside an element"),
        (WarmUpTensor("BYTES", (1,), "file", struct.pack("<I", 9) + b"a"), "ends inside an element"),
        (WarmUpTensor("BYTES", (1 << 40,), "file", b""), "too large"),
        (WarmUpTensor("BYTES", (1 << 40,), "zero"), "too large"),
    ],
)
def test_sample_inputs_faults_are_named(facts, tensor, words):
    signature = facts(["x:BYTES:-1,3"], ["y:FP32:-1"]).signature
    with pytest.raises(WarmUpImpossible) as raised:
        sample_inputs(config(), signature, sample(x=tensor), 1)
    assert words in str(raised.value)
    with pytest.raises(WarmUpImpossible, match="'z' is no input of the model"):
        sample_inputs(config(), signature, sample(z=tensor), 1)


@pytest.mark.parametrize(
    ("shape", "fits"), [((2, 3), True), ((1, 3), False), ((2, 4), False), ((2, 3, 1), False), ((2,), False)]
)
def test_mismatch_names_output_got_and_expected(facts, shape, fits):
    signature = facts(["x:FP32:-1"], ["y:FP32:-1,3"]).signature
    message = mismatch(config(), signature, {"y": np.zeros(shape)}, 2)
    assert (message == "") == fits
    if not fits:
        assert f"output 'y' has shape {list(shape)} for a batch of 2 rows, expected [2, 3]" in message


def test_mismatch_missing_output_is_named(facts):
    assert "'y' is missing" in mismatch(config(), facts([], ["y:FP32:-1"]).signature, {}, 1)
