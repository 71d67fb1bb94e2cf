import io

import numpy as np
import pytest

from gateway.cli.features import KINDS, Unfit, featurise

X = [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}]
PAIR = [{"name": "ids", "datatype": "INT64", "shape": [-1, -1]}, {"name": "text", "datatype": "BYTES", "shape": [-1]}]


def npy(array, **arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays) if arrays else np.save(stream, array)
    return stream.getvalue()


def refused(client_input, data, inputs=X):
    with pytest.raises(Unfit) as caught:
        featurise(client_input, data, inputs)
    return str(caught.value)


def test_an_unknown_kind_names_the_known_ones():
    message = refused({"kind": "hologram"}, b"")
    assert "'hologram'" in message
    assert all(kind in message for kind in KINDS)


def test_csv_is_one_row_per_line():
    found = featurise({"kind": "csv", "input": "X", "columns": 3}, b"1,2,3\r\n\n4, 5.5 ,6\n", X)
    assert found["X"].dtype == np.float32
    assert found["X"].tolist() == [[1, 2, 3], [4, 5.5, 6]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"1,2\n", "row 1: expected 3 numbers, got 2"),
        (b"1,2,3\n1,2,3,4\n", "row 2: expected 3 numbers, got 4"),
        (b"a,b,c\n", "comma-separated numbers"),
        (b"\xff\xff", "comma-separated numbers"),
        (b"", "at least one line"),
    ],
)
def test_csv_that_does_not_fit_says_where(data, words):
    assert words in refused({"kind": "csv", "input": "X", "columns": 3}, data)


def test_json_takes_the_only_input_a_mapping_or_a_v2_request():
    assert featurise({"kind": "json"}, b"[[1,2,3]]", X)["X"].tolist() == [[1, 2, 3]]
    found = featurise({"kind": "json"}, b'{"ids": [[1, 2]], "text": ["a\\u00e9"]}', PAIR)
    assert found["ids"].dtype == np.int64
    assert found["text"].tolist() == ["aé".encode()]
    request = b'{"inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}'
    assert featurise({"kind": "json"}, request, X)["X"].shape == (1, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "expected JSON"),
        (b'{"Y": [1]}', "unknown input 'Y'; the model has X"),
        (b'[[1, "a", 3]]', "input 'X': expected values of FP32"),
        (b'{"inputs": [{"data": [1]}]}', "incomplete or wrong"),
    ],
)
def test_json_that_does_not_fit_says_why(data, words):
    assert words in refused({"kind": "json"}, data)


def test_json_for_one_of_several_inputs_must_say_which():
    assert "one of ids, text" in refused({"kind": "json"}, b"[1]", PAIR)
    assert featurise({"kind": "json", "input": "ids"}, b"[[1]]", PAIR)["ids"].tolist() == [[1]]


def test_npy_and_npz_are_arrays_by_name():
    assert featurise({"kind": "npy"}, npy(np.ones((2, 3))), X)["X"].dtype == np.float32
    both = npy(None, ids=np.ones((1, 2)), text=np.array(["a"]))
    assert set(featurise({"kind": "npy"}, both, PAIR)) == {"ids", "text"}


def test_npy_refuses_pickles_and_unknown_names():
    stream = io.BytesIO()
    np.save(stream, np.array([{}], object), allow_pickle=True)
    assert "numpy's format" in refused({"kind": "npy"}, stream.getvalue())
    assert "numpy's format" in refused({"kind": "npy"}, b"")
    assert "unknown input 'z'" in refused({"kind": "npy"}, npy(None, z=np.ones(1)), PAIR)


BYTES = [{"name": "image", "datatype": "UINT8", "shape": [-1]}]
TEXT = [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}]
ENDS = [{"name": "bytes", "datatype": "INT32", "shape": [-1, 8]}]
FIELDS = {"kind": "file_ends", "input": "bytes", "block": 6, "take": 4, "pad": 256, "strip": True}


def test_bytes_are_passed_as_they_are():
    assert featurise({"kind": "bytes"}, b"\0\xff", BYTES)["image"].tolist() == [0, 255]
    assert featurise({"kind": "bytes"}, b"\0\xff", TEXT)["text"].tolist() == [b"\0\xff"]


def test_lines_are_one_text_each():
    found = featurise({"kind": "lines", "input": "text"}, "one\n\n tw\u00f6\r\n".encode(), TEXT)
    assert found["text"].tolist() == [[b"one"], [" tw\u00f6".encode()]]


@pytest.mark.parametrize("data", [b"\xff\xfe", b"", b"\n \n"])
def test_lines_need_text(data):
    assert "expected" in refused({"kind": "lines"}, data, TEXT)


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        (b"", [256] * 8),
        (b"ab", [97, 98, 256, 256, 256, 256, 97, 98]),
        (b"abcdefgh", [97, 98, 99, 100, 101, 102, 103, 104]),
        (b"  abcdefgh\n\n", [97, 98, 99, 100, 101, 102, 103, 104]),
        (b"      abc", [256, 256, 256, 256, 32, 97, 98, 99]),  # the first block is all white space
    ],
)
def test_file_ends_are_stripped_cut_and_padded_away_from_the_middle(data, numbers):
    found = featurise(FIELDS, data, ENDS)["bytes"]
    assert found.dtype == np.int32
    assert found.tolist() == [numbers]


def test_file_ends_without_its_fields_says_which_is_missing():
    assert "'take'" in refused({"kind": "file_ends", "block": 6, "pad": 0}, b"", ENDS)
