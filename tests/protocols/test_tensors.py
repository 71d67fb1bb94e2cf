"""Raw tensor bytes to arrays and back."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code, GatewayError
from gateway.protocols import tensors
from runtimes.base import DTYPES

FIXED = sorted(set(DTYPES) - {"BYTES"})


def message(*arguments):
    with pytest.raises(GatewayError) as caught:
        tensors.array_from_raw(*arguments, "x", "m")
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize("datatype", FIXED)
def test_fixed_size_datatypes_come_back_as_they_were(datatype):
    array = np.arange(6).astype(DTYPES[datatype]).reshape(2, 3)
    back = tensors.array_from_raw(datatype, (2, 3), memoryview(array.tobytes()), "x", "m")
    assert back.dtype == DTYPES[datatype]
    assert back.tolist() == array.tolist()
    assert tensors.raw_from_array(datatype, back) == array.tobytes()


def test_numbers_are_views_of_the_body():
    body = bytearray(8)
    array = tensors.array_from_raw("FP32", (2,), body, "x", "m")
    body[:4] = struct.pack("<f", 1.5)
    assert array.tolist() == [1.5, 0]


def test_any_nonzero_byte_is_true():
    assert tensors.array_from_raw("BOOL", (3,), b"\x00\x01\x02", "x", "m").tolist() == [False, True, True]


def test_scalars_and_empty_tensors_are_tensors():
    assert tensors.array_from_raw("INT32", (), b"\x07\0\0\0", "x", "m") == 7
    assert tensors.array_from_raw("FP32", (0, 4), b"", "x", "m").shape == (0, 4)
    assert tensors.array_from_raw("BYTES", (0,), b"", "x", "m").shape == (0,)


def test_size_mismatches_are_told_in_tritons_words():
    expected = "input byte size mismatch for input 'x' for model 'm'. Expected 16, got 12"
    assert message("FP32", (1, 4), bytes(12)) == expected
    assert "Expected 2, got 3" in message("BOOL", (2,), bytes(3))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((-1, 4), "negative dimension -1"),
        ((0, -2), "negative dimension -2"),
        ((1,) * 65, "65 dimensions, at most 64"),
        ((2**40, 2**40), "more than"),
        ((0, 2**40, 2**40), "more than"),
        ((2**63 - 1,) * 64, "more than"),
    ],
)
def test_impossible_shapes_are_refused(shape, words):
    for datatype in ("FP32", "BYTES"):
        text = message(datatype, shape, b"")
        assert words in text
        assert len(text) < 200


def test_unknown_datatypes_are_named_and_cut():
    assert "'FP8'" in message("FP8", (1,), b"1")
    assert len(message("F" * 10_000, (1,), b"1")) < 200


@given(st.lists(st.binary(max_size=12), max_size=20) | st.lists(st.binary(min_size=3, max_size=3), max_size=20))
def test_strings_come_back_as_they_were(elements):
    array = np.empty(len(elements), object)
    array[:] = elements
    packed = tensors.packed_from_bytes(array)
    assert packed == b"".join(struct.pack("<I", len(e)) + e for e in elements)
    back = tensors.array_from_raw("BYTES", (len(elements),), packed, "x", "m")
    assert back.tolist() == elements
    assert all(type(element) is bytes for element in back.tolist())


def unpacked(packed, count):
    """The array in `packed`, or the error that refuses it."""
    try:
        return tensors.bytes_from_packed(packed, count, "x", "m")
    except GatewayError as error:
        return error


@given(st.binary(max_size=200), st.integers(0, 30))
def test_broken_strings_are_refused_or_read_exactly(packed, count):
    result = unpacked(packed, count)
    if isinstance(result, GatewayError):
        assert result.code is Code.INVALID_ARGUMENT
        assert "'x'" in result.message
    else:
        assert tensors.packed_from_bytes(result) == packed


@pytest.mark.parametrize(
    ("packed", "count", "words"),
    [
        (b"\x01\0\0", 1, "only 3 bytes available"),
        (b"\x05\0\0\0abc", 1, "expecting string of length 5 but only 3 bytes available"),
        (b"\xff\xff\xff\xffabc", 1, "expecting string of length 4294967295"),
        (b"\x04\0\0\0abcd", 2, "incomplete string length indicator"),
        (b"\0\0\0\0abc", 1, "with 3 bytes left over"),
        (b"", 2**30, "at most 1048576"),
    ],
)
def test_lengths_beyond_the_buffer_are_told(packed, count, words):
    with pytest.raises(GatewayError) as caught:
        tensors.bytes_from_packed(packed, count, "x", "m")
    assert words in caught.value.message


def test_equal_lengths_that_only_look_so_are_read_one_by_one():
    elements = [b"a" * 4] * 7 + [b"b" * 8, b""]
    packed = b"".join(struct.pack("<I", len(e)) + e for e in elements)
    assert len(packed) == 9 * 8
    assert tensors.bytes_from_packed(packed, 9, "x", "m").tolist() == elements


def test_the_prefix_names_the_request_or_says_that_it_has_no_id():
    error = GatewayError(Code.QUOTA, "no", retry_after_s=3)
    assert tensors.with_request_id(error, "7").message == "[request id: 7] no"
    assert tensors.with_request_id(error, "").message == "[request id: <id_unknown>] no"
    assert tensors.with_request_id(error, "").retry_after_s == 3
