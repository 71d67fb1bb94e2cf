"""V2 answers byte for byte: JSON, and what each output was asked in."""

import json

import numpy as np
import orjson
import pytest

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, InferResponse, RequestedOutput, Tensor
from gateway.protocols import v2
from runtimes.base import DTYPES


def encode(datatype, array, *, binary=False, outputs=(), parameters=None):
    request = InferRequest("m", "1", "r", outputs=outputs)
    return v2.encode_response(request, InferResponse({"y": Tensor(datatype, array)}, parameters or {}), binary=binary)


@pytest.mark.parametrize(
    ("datatype", "values", "text"),
    [
        ("BOOL", [True, False], b"[true,false]"),
        ("INT8", [-128, 127], b"[-128,127]"),
        ("UINT8", [0, 255], b"[0,255]"),
        ("INT64", [-(2**63), 2**53 + 1], b"[-9223372036854775808,9007199254740993]"),
        ("UINT64", [2**64 - 1, 0], b"[18446744073709551615,0]"),
        ("FP32", [0.1, 1e30], b"[0.1,1e+30]"),
        ("FP64", [0.1, 5e-324], b"[0.1,5e-324]"),
        ("FP32", [np.nan, 1.5], b'["NaN",1.5]'),
        ("FP64", [np.inf, -np.inf], b'["Infinity","-Infinity"]'),
    ],
)
def test_outputs_in_json_byte_for_byte(datatype, values, text):
    body, size = encode(datatype, np.array(values, DTYPES[datatype]))
    assert size is None
    assert body == (
        b'{"model_name":"m","model_version":"1","id":"r","outputs":'
        b'[{"name":"y","datatype":"%b","shape":[2],"data":%b}]}' % (datatype.encode(), text)
    )
    body = b'{"inputs":[{"name":"x","datatype":"%b","shape":[2],"data":%b}]}' % (datatype.encode(), text)
    again = v2.decode_request("m", "", body, None, 0).request.inputs["x"].array
    assert np.array_equal(again, np.array(values, DTYPES[datatype]), equal_nan=datatype.startswith("FP"))


def test_outputs_are_flat_row_major_whatever_their_layout():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    document = json.loads(encode("FP32", array)[0])["outputs"][0]
    assert (document["shape"], document["data"]) == ([3, 2], [0, 3, 1, 4, 2, 5])


def test_strings_that_are_no_text_go_out_binary_only():
    words = np.array([b"\xff"], np.object_)
    told = "output 'y' holds bytes that are not UTF-8 text; ask for binary data"
    with pytest.raises(GatewayError, match=told) as caught:
        encode("BYTES", words)
    assert caught.value.code is Code.INVALID_ARGUMENT
    body, size = encode("BYTES", words, binary=True)
    assert body[size:] == b"\x01\0\0\0\xff"


def test_each_output_has_the_form_it_was_asked_in():
    response = InferResponse({name: Tensor("FP32", np.array([1], np.float32)) for name in "abc"})
    outputs = (RequestedOutput("a", True), RequestedOutput("b", False), RequestedOutput("c"))
    for default, binary in ((False, "a"), (True, "ac")):
        body, size = v2.encode_response(InferRequest("m", "1", outputs=outputs), response, binary=default)
        forms = {o["name"]: "parameters" in o for o in json.loads(body[:size])["outputs"]}
        assert forms == {name: name in binary for name in "abc"}
        assert len(body) - size == 4 * len(binary)


def test_response_parameters_and_no_outputs():
    body, _ = v2.encode_response(InferRequest("m", "1"), InferResponse({}, {"p": 1}), binary=False)
    assert json.loads(body) == {"model_name": "m", "model_version": "1", "parameters": {"p": 1}, "outputs": []}


def test_errors_are_json_whatever_the_message_holds():
    body = v2.error_body(GatewayError(Code.INVALID_ARGUMENT, 'quote " newline \n \0 é'))
    assert orjson.loads(body) == {"error": 'quote " newline \n \0 é'}
