"""TensorFlow Serving's predict call: documents in, arrays out, and back."""

import base64
import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, InferResponse, ServableVersion, Tensor
from gateway.protocols.v1 import decode_predict, encode_predict
from runtimes.base import DTYPES, ModelSignature, TensorSpec


def servable(*inputs, outputs=(("y", "FP32", (-1, 2)),), optional=()):
    signature = ModelSignature(
        tuple(TensorSpec(*spec) for spec in inputs), tuple(TensorSpec(*spec) for spec in outputs)
    )
    return ServableVersion("m", "1", signature, 8, lambda request: None, optional_inputs=frozenset(optional))


ONE = servable(("x", "FP32", (-1, 2)))
TWO = servable(("tag", "BYTES", (-1,)), ("signal", "INT64", (-1, 3)))


def answer_of(model, response, row_form):
    return encode_predict(InferRequest("m", target=model), response, row_form)


def decode(model, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_predict(model, body)


def refusal(model, document):
    with pytest.raises(GatewayError) as caught:
        decode(model, document)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_rows_of_the_only_input_are_bare_values():
    request, rows = decode(ONE, {"instances": [[1, 2.5], [3, 4]]})
    assert rows is True
    assert (request.model, request.version, request.protocol) == ("m", "", "v1")
    assert request.inputs["x"].datatype == "FP32"
    assert request.inputs["x"].array.dtype == np.float32
    assert request.inputs["x"].array.tolist() == [[1, 2.5], [3, 4]]
    assert request.bytes_in == len(b'{"instances": [[1, 2.5], [3, 4]]}')


def test_rows_may_name_their_inputs():
    document = {"instances": [{"signal": [1, 2, 3], "tag": "foo"}, {"tag": "bar", "signal": [4, 5, 6]}]}
    request, rows = decode(TWO, document)
    assert rows
    assert list(request.inputs) == ["tag", "signal"]
    assert request.inputs["tag"].array.tolist() == [b"foo", b"bar"]
    assert request.inputs["signal"].array.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert request.inputs["signal"].array.dtype == np.int64
    assert decode(ONE, {"instances": [{"x": [1, 2]}]})[0].inputs["x"].array.tolist() == [[1, 2]]


def test_columns_are_whole_tensors():
    request, rows = decode(TWO, {"inputs": {"tag": ["foo", "bar"], "signal": [[1, 2, 3], [4, 5, 6]]}})
    assert rows is False
    assert request.inputs["signal"].array.shape == (2, 3)
    assert decode(ONE, {"inputs": [[1, 2]]})[0].inputs["x"].array.tolist() == [[1, 2]]
    assert decode(ONE, {"inputs": {"x": [[1, 2]]}, "signature_name": "serving_default"})[1] is False


def test_binary_values_come_as_base64_objects():
    image = b"\x00\xff\x89PNG"
    encoded = {"b64": base64.b64encode(image).decode()}
    model = servable(("image_bytes", "BYTES", (-1,)))
    assert decode(model, {"instances": [encoded, "text"]})[0].inputs["image_bytes"].array.tolist() == [image, b"text"]
    assert decode(model, {"instances": [{"image_bytes": encoded}]})[0].inputs["image_bytes"].array.tolist() == [image]
    scalar = servable(("s", "BYTES", ()))
    assert decode(scalar, {"inputs": encoded})[0].inputs["s"].array.item() == image


def test_input_that_is_called_b64_is_still_an_input():
    model = servable(("b64", "FP32", (-1,)))
    assert decode(model, {"inputs": {"b64": [1.5]}})[0].inputs["b64"].array.tolist() == [1.5]


def test_optional_inputs_may_be_left_out():
    model = servable(("x", "FP32", (-1,)), ("mask", "BOOL", (-1,)), optional=["mask"])
    assert list(decode(model, {"instances": [{"x": 1}, {"x": 2}]})[0].inputs) == ["x"]
    assert list(decode(model, {"instances": [1, 2]})[0].inputs) == ["x"]
    assert decode(model, {"inputs": {"x": [1], "mask": [True]}})[0].inputs["mask"].array.tolist() == [True]
    assert "'mask' must be given in all rows or in none" in refusal(
        model, {"instances": [{"x": 1}, {"x": 2, "mask": True}]}
    )
    only_optional = servable(("x", "FP32", (-1,)), optional=["x"])
    assert list(decode(only_optional, {"instances": [1]})[0].inputs) == ["x"]


@pytest.mark.parametrize("datatype", sorted(set(DTYPES) - {"BYTES", "BF16", "BOOL"}))
def test_every_number_type_is_read_and_written(datatype):
    dtype = DTYPES[datatype]
    values = [0, 1, 2] if dtype.kind == "f" else [0, int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)]
    model = servable(("x", datatype, (-1,)), outputs=(("y", datatype, (-1,)),))
    array = decode(model, {"instances": values})[0].inputs["x"].array
    assert array.dtype == dtype
    assert array.tolist() == values
    answer = answer_of(model, InferResponse({"y": Tensor(datatype, array)}), row_form=True)
    assert json.loads(answer) == {"predictions": values}


def test_bf16_is_rounded_to_nearest_even_and_back():
    model = servable(("x", "BF16", (-1,)), outputs=(("y", "BF16", (-1,)),))
    array = decode(model, {"instances": [1.0, -2.5, 1.00390625, 1.01171875, "NaN", "Infinity"]})[0].inputs["x"].array
    assert array.dtype == np.uint16
    assert array[:4].tolist() == [0x3F80, 0xC020, 0x3F80, 0x3F82]
    answer = json.loads(answer_of(model, InferResponse({"y": Tensor("BF16", array)}), row_form=False))
    assert answer == {"outputs": [1.0, -2.5, 1.0, 1.015625, "NaN", "Infinity"]}


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_non_finite_numbers_are_strings_both_ways(datatype):
    model = servable(("x", datatype, (-1, 2)), outputs=(("y", datatype, (-1, 2)),))
    rows = [["NaN", 0.5], ["Infinity", "-Infinity"]]
    tensor = decode(model, {"instances": rows})[0].inputs["x"]
    answer = answer_of(model, InferResponse({"y": tensor}), row_form=True)
    assert orjson.loads(answer) == {"predictions": rows}


def test_several_outputs_are_objects_per_row():
    model = servable(("x", "FP32", (-1,)), outputs=(("label", "BYTES", (-1,)), ("scores", "FP32", (-1, 2))))
    labels = np.array([b"cat", b"dog"], object)
    response = InferResponse(
        {"label": Tensor("BYTES", labels), "scores": Tensor("FP32", np.array([[0.1, 0.9], [1, 0]], np.float32))}
    )
    assert json.loads(answer_of(model, response, row_form=True)) == {
        "predictions": [{"label": "cat", "scores": [0.1, 0.9]}, {"label": "dog", "scores": [1.0, 0.0]}]
    }
    assert json.loads(answer_of(model, response, row_form=False)) == {
        "outputs": {"label": ["cat", "dog"], "scores": [[0.1, 0.9], [1.0, 0.0]]}
    }


def test_outputs_without_common_rows_need_the_column_form():
    model = servable(("x", "FP32", (-1,)), outputs=(("a", "FP32", (-1,)), ("b", "FP32", (-1,))))
    response = InferResponse(
        {"a": Tensor("FP32", np.zeros(2, np.float32)), "b": Tensor("FP32", np.zeros(3, np.float32))}
    )
    with pytest.raises(GatewayError, match="send 'inputs'"):
        answer_of(model, response, row_form=True)
    assert json.loads(answer_of(model, response, row_form=False)) == {"outputs": {"a": [0, 0], "b": [0, 0, 0]}}


def test_scalar_output_has_no_rows_but_a_column():
    model = servable(("x", "FP32", (-1,)), outputs=(("loss", "FP32", ()),))
    response = InferResponse({"loss": Tensor("FP32", np.array(0.5, np.float32))})
    assert answer_of(model, response, row_form=False) == b'{"outputs":0.5}'
    with pytest.raises(GatewayError, match="cannot be given per row"):
        answer_of(model, response, row_form=True)


def test_binary_outputs_are_base64_by_name_or_need():
    def answer(name):
        model = servable(("x", "FP32", (-1,)), outputs=((name, "BYTES", (-1,)),))
        response = InferResponse({name: Tensor("BYTES", np.array([b"text", b"\xff"], object))})
        return json.loads(answer_of(model, response, row_form=True))["predictions"]

    text, high = ({"b64": base64.b64encode(value).decode()} for value in (b"text", b"\xff"))
    assert answer("image_bytes") == [text, high]
    assert answer("caption") == ["text", high]


def test_output_view_that_is_not_contiguous_is_written():
    model = servable(("x", "FP32", (-1,)), outputs=(("y", "FP32", (-1, 2)),))
    array = np.arange(8, dtype=np.float32).reshape(2, 4)[:, ::2]
    answer = answer_of(model, InferResponse({"y": Tensor("FP32", array)}), row_form=True)
    assert json.loads(answer) == {"predictions": [[0, 2], [4, 6]]}


@pytest.mark.parametrize(
    ("model", "document", "words"),
    [
        (ONE, b"{", ["not valid JSON"]),
        (ONE, b'{"instances": [[NaN, 1]]}', ["not valid JSON"]),
        (ONE, b'{"instances": ' + b"[" * 5000, ["not valid JSON"]),
        # Valid JSON, yet no double: the reader's "infinity" tells neither that nor the place.
        (ONE, b'{"instances": [[1, 2]], "name": 2E47483648}', ["Number out of range", "`$"]),
        (ONE, b'{"instances": [[1, 2], [3, -1e999]]}', ["Number out of range", "`$"]),
        (ONE, [1], ["JSON object"]),
        (ONE, {}, ["'instances'", "'inputs'"]),
        (ONE, {"instances": [], "inputs": []}, ["either"]),
        (ONE, {"instances": []}, ["at least one row"]),
        (ONE, {"instances": 5}, ["must be a list"]),
        (ONE, {"instances": [[1, 2]], "signature_name": "other"}, ["signature_name", "'other'"]),
        (ONE, {"instances": [[1, 2]], "signature_name": None}, ["signature_name"]),
        (ONE, {"instances": [[1, 2], [3, "4"]]}, ["instances[1][1]", "expected a number", '"4"']),
        (ONE, {"instances": [[1, 2], [3, None]]}, ["instances[1][1]", "null"]),
        (ONE, {"instances": [[1, True]]}, ["instances[0][1]", "true"]),
        (ONE, {"instances": [[1, {}]]}, ["instances[0][1]", "an object"]),
        (ONE, {"instances": [[1, 1e39]]}, ["instances[0][1]", "out of range for FP32"]),
        (ONE, {"instances": [[1, 2], [3]]}, ["instances[0]", "equal lengths", "1 to 2"]),
        (ONE, {"instances": [[1, [2]], [3, 4]]}, ["instances[0][1]", "another depth"]),
        (ONE, {"instances": [[1, 2, 3]]}, ["instances[0]", "'x'", "[3]", "[2]"]),
        (ONE, {"instances": [1, 2]}, ["instances[0]", "rows of shape []", "[2]"]),
        (ONE, {"inputs": {"x": [1, 2]}}, ["inputs.x", "shape [2]", "[-1, 2]"]),
        (ONE, {"inputs": {"x": [[1, 2]], "z": 1}}, ["inputs", "no input 'z'", "'x'"]),
        (ONE, {"inputs": {}}, ["missing required input 'x'"]),
        (ONE, {"instances": [{"x": [1, 2]}, {"z": [1, 2]}]}, ["instances[1]", "'z'"]),
        (ONE, {"instances": [{"x": [1, 2]}, [1, 2]]}, ["instances[1]", "object"]),
        (TWO, {"instances": [1, 2]}, ["must name its inputs", "'tag'", "'signal'"]),
        (TWO, {"instances": [{"tag": "a"}]}, ["instances[0]", "missing required input 'signal'"]),
        (TWO, {"instances": [{"tag": "a", "signal": [1, 2.5, 3]}]}, ["instances[0].signal[1]", "whole number", "2.5"]),
        (TWO, {"inputs": {"tag": ["a"], "signal": [[1, 2**63, 3]]}}, ["inputs.signal[0][1]", "INT64"]),
        (TWO, {"inputs": {"tag": [5], "signal": [[1, 2, 3]]}}, ["inputs.tag[0]", "expected a string"]),
        (TWO, {"inputs": {"tag": [{"b64": "!"}], "signal": [[1, 2, 3]]}}, ["inputs.tag[0]", "base64"]),
        (servable(("x", "BOOL", (-1,))), {"instances": [True, 1]}, ["instances[1]", "true or false", "1"]),
        (servable(("x", "INT8", (-1,))), {"instances": [1, 128]}, ["instances[1]", "-128 to 127", "128"]),
        (servable(("x", "UINT64", (-1,))), {"instances": [2**64 - 1, -1]}, ["instances[1]", "-1"]),
        (ONE, b'{"inputs": ' + b"[" * 70 + b"1" + b"]" * 70 + b"}", ["deeper than 64"]),
        (ONE, {"instances": [[1, "x" * 5000]]}, ["instances[0][1]"]),
    ],
)
def test_refusals_name_the_place(model, document, words):
    message = refusal(model, document)
    for word in words:
        assert word in message
    assert len(message) < 400


def test_exact_integers_above_two_to_the_53():
    model = servable(("x", "INT64", (-1,)))
    assert decode(model, {"instances": [2**53 + 1, -(2**63)]})[0].inputs["x"].array.tolist() == [2**53 + 1, -(2**63)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "tag", "signal", "b64"]), inner),
    max_leaves=20,
)


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from([ONE, TWO]), st.sampled_from(["instances", "inputs"]), json_values)
def test_any_value_is_either_read_or_refused_by_name(model, key, value):
    try:
        body = orjson.dumps({key: value})
    except TypeError:  # orjson refuses integers beyond 64 bits
        body = json.dumps({key: value}, allow_nan=False).encode() if not _has_nan(value) else b"{}"
    outcome = _outcome(model, body)
    if isinstance(outcome, GatewayError):
        assert outcome.code is Code.INVALID_ARGUMENT
        assert key in outcome.message or "not valid JSON" in outcome.message or "'instances'" in outcome.message
        return
    for spec in model.signature.inputs:
        tensor = outcome.inputs[spec.name]
        assert tensor.array.dtype == DTYPES[spec.datatype]
        assert tensor.array.ndim == len(spec.shape)


SOUND = orjson.dumps(
    {
        "signature_name": "",
        "instances": [{"tag": "a", "signal": [1, -2, 3]}, {"tag": {"b64": "/w=="}, "signal": [4, 5, 6]}],
    }
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SOUND)), st.integers(0, 8), st.binary(max_size=4)), max_size=3))
def test_damaged_bodies_are_read_or_refused(damages):
    body = SOUND
    for start, cut, put in damages:
        body = body[:start] + put + body[start + cut :]
    outcome = _outcome(TWO, body)
    if isinstance(outcome, GatewayError):
        assert outcome.code is Code.INVALID_ARGUMENT
        assert outcome.message
    else:
        assert outcome.inputs["signal"].array.dtype == np.int64


def _outcome(model, body):
    try:
        return decode_predict(model, body)[0]
    except GatewayError as error:
        return error


def _has_nan(value):
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return True
    return False


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2), min_size=1, max_size=5))
def test_floats_survive_the_round_trip(rows):
    model = servable(("x", "FP32", (-1, 2)), outputs=(("y", "FP32", (-1, 2)),))
    names = {float("inf"): "Infinity", float("-inf"): "-Infinity"}
    body = json.dumps({"instances": [[names.get(value, value) for value in row] for row in rows]}).encode()
    tensor = decode_predict(model, body)[0].inputs["x"]
    answer = answer_of(model, InferResponse({"y": tensor}), row_form=True)
    again = decode_predict(model, answer.replace(b"predictions", b"instances"))[0].inputs["x"]
    assert np.array_equal(tensor.array, again.array)
    assert tensor.array.tolist() == rows
