import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import wire


def split(body, headers):
    length = int(headers[wire.HEADER_LENGTH])
    return json.loads(body[:length]), body[length:]


def test_a_binary_body_describes_its_inputs_and_carries_their_bytes_in_order():
    inputs = {
        "a": ("FP32", np.array([[1.0, 2.0]], np.float32)),
        "b": ("BYTES", np.array([b"x", b"\0yz"], object)),
    }
    head, blobs = split(*wire.infer_body(inputs, [{"name": "out"}]))
    assert [entry["parameters"]["binary_data_size"] for entry in head["inputs"]] == [8, 12]
    assert [entry["shape"] for entry in head["inputs"]] == [[1, 2], [2]]
    assert head["outputs"] == [{"name": "out"}]
    assert np.frombuffer(blobs[:8], "<f4").tolist() == [1.0, 2.0]
    assert blobs[8:] == b"\1\0\0\0x\3\0\0\0\0yz"


def test_no_outputs_means_all_outputs():
    head, _ = split(*wire.infer_body({"a": ("FP32", np.zeros((1,), np.float32))}))
    assert "outputs" not in head


def test_a_json_body_is_plain_v2():
    body = wire.json_body({"t": ("BYTES", np.array([["é".encode()]], object)), "n": ("INT64", np.array([7]))})
    assert json.loads(body) == {
        "inputs": [
            {"name": "t", "datatype": "BYTES", "shape": [1, 1], "data": ["é"]},
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [7]},
        ]
    }


def test_blank_fills_variable_dimensions_and_takes_text_shapes():
    blank = wire.blank(
        [
            {"name": "x", "datatype": "FP32", "shape": ["-1", "4"]},
            {"name": "s", "datatype": "BYTES", "shape": [-1, 2]},
        ]
    )
    assert blank["x"][1].shape == (1, 4)
    assert blank["s"][1].tolist() == [[b"", b""]]


@pytest.mark.parametrize(
    ("output", "classified", "line"),
    [
        ({"name": "p", "data": ["0.987:3:markdown"]}, {"p": 1}, ["markdown 0.99"]),
        ({"name": "p", "data": ["0.5:3:a:b"]}, {"p": 1}, ["a:b 0.50"]),
        ({"name": "p", "data": ["0.5:3"]}, {"p": 1}, ["3 0.50"]),
        (
            {"name": "p", "data": ["0.9:0:a", "0.1:1:b", "0.7:1:b", "0.3:0:a"]},
            {"p": 2},
            ["a 0.90  b 0.10", "b 0.70  a 0.30"],
        ),
        ({"name": "y", "datatype": "INT64", "shape": [2], "data": [1, 2]}, {}, ["y INT64[2]: 1, 2"]),
        (
            {"name": "y", "datatype": "FP32", "shape": [1, 9], "data": [0.5] * 9},
            {},
            ["y FP32[1, 9]: 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, ... (9 values)"],
        ),
        ({"name": "y", "datatype": "FP32", "shape": [1], "data": ["NaN"]}, {}, ["y FP32[1]: NaN"]),
    ],
)
def test_an_answer_is_readable(output, classified, line):
    assert wire.readable({"outputs": [output]}, classified) == line


@given(st.lists(st.binary(max_size=20), min_size=1))
def test_bytes_elements_can_be_told_apart(elements):
    blob = wire.tensor_bytes("BYTES", np.array([*elements, None], object)[:-1])
    found = []
    while blob:
        length = int.from_bytes(blob[:4], "little")
        found.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    assert found == elements
