"""The V2 codec by tables: each datatype in JSON and binary, both ways, and what is refused in which words."""

import json

import numpy as np
import pytest

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, InferResponse, RequestedOutput, Tensor
from gateway.protocols import v2
from runtimes.base import DTYPES


def tensor(datatype, data, shape=None, name="x", **more):
    return {"name": name, "shape": [len(data)] if shape is None else shape, "datatype": datatype, "data": data, **more}


def decode(*inputs, tail=b"", **document):
    body = json.dumps({"inputs": list(inputs), **document}).encode()
    return v2.decode_request("m", "", body + tail, len(body) if tail else None, 1000)


def decode_text(text, datatype, shape):
    body = b'{"inputs":[{"name":"x","datatype":"%b","shape":%b,"data":%b}]}' % (
        datatype.encode(),
        json.dumps(shape).encode(),
        text.encode(),
    )
    return v2.decode_request("m", "", body, None, 0).request.inputs["x"].array


def refusal(call, *args, **kwargs):
    with pytest.raises(GatewayError) as caught:
        call(*args, **kwargs)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def encode(datatype, array, *, binary=False, outputs=(), parameters=None):
    request = InferRequest("m", "1", "r", outputs=outputs)
    return v2.encode_response(request, InferResponse({"y": Tensor(datatype, array)}, parameters or {}), binary=binary)


INTEGERS = [name for name in DTYPES if name.startswith(("INT", "UINT"))]


# Numbers in


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_are_exact_to_the_ends_of_their_range(datatype):
    bounds = np.iinfo(DTYPES[datatype])
    values = [int(bounds.min), 0, 1, int(bounds.max)]
    for shape, data in (([4], values), ([2, 2], [values[:2], values[2:]]), ([4, 1], values)):
        array = decode(tensor(datatype, data, shape)).request.inputs["x"].array
        assert (array.dtype, array.shape) == (DTYPES[datatype], tuple(shape))
        assert array.ravel().tolist() == values


@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("beyond", [-1, 1])
def test_integers_beyond_their_range_are_refused_by_name(datatype, beyond):
    bounds = np.iinfo(DTYPES[datatype])
    value = int(bounds.max) + 1 if beyond > 0 else int(bounds.min) - 1
    message = refusal(decode, tensor(datatype, [0, value]))
    assert "'x'" in message
    assert f"outside the range of {datatype}" in message


@pytest.mark.parametrize("datatype", ["INT64", "UINT64"])
@pytest.mark.parametrize("value", [2**53 - 1, 2**53, 2**53 + 1, 2**62 + 1, 2**63 - 1])
def test_integers_keep_what_doubles_lose(datatype, value):
    assert decode(tensor(datatype, [value])).request.inputs["x"].array.tolist() == [value]
    if datatype == "INT64":
        assert decode(tensor(datatype, [-value])).request.inputs["x"].array.tolist() == [-value]


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_unsigned_integers_go_on_beyond_signed(value):
    assert decode(tensor("UINT64", [0, value])).request.inputs["x"].array.tolist() == [0, value]


@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize(
    ("text", "got"),
    [("1.5", "a number"), ("1.0", "a number"), ('"1"', "a string"), ("true", "true or false"), ("null", "null")],
)
def test_what_is_no_whole_number_is_refused_with_its_place(datatype, text, got):
    message = refusal(decode_text, f"[0, {text}]", datatype, [2])
    assert message == f"input 'x': $.inputs[0].data[1] must be a whole number for {datatype}, got {got}"


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("long", [False, True])
def test_floats_are_read_as_the_nearest(datatype, long):
    values = [0.1, -0.0, 1e-30, 3, 16777217, 1.17549435e-38] * (600 if long else 1)
    array = decode(tensor(datatype, values)).request.inputs["x"].array
    assert array.dtype == DTYPES[datatype]
    assert array.tobytes() == np.array(values, np.float64).astype(DTYPES[datatype]).tobytes()


def test_fp64_is_exact():
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**53 + 1]
    assert decode(tensor("FP64", values)).request.inputs["x"].array.tolist() == values


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("long", [False, True])
def test_special_numbers_are_strings(datatype, long):
    values = ["NaN", "Infinity", "-Infinity", 1.5] * (600 if long else 1)
    array = decode(tensor(datatype, values)).request.inputs["x"].array[:4]
    assert array.dtype == DTYPES[datatype]
    assert np.isnan(array[0])
    assert array[1:].tolist() == [np.inf, -np.inf, 1.5]


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "nan", "1e", "01", "+1", ".5", "0x1"])
@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT32"])
def test_bare_tokens_are_no_json(datatype, token):
    assert "JSON" in refusal(decode_text, f"[{token}]", datatype, [1])


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("text", ["1e39", "-3.5e38"])
def test_floats_beyond_fp32_are_refused_not_infinite(text, long):
    count = 600 if long else 1
    message = refusal(decode_text, "[" + ",".join([text] * count) + "]", "FP32", [count])
    assert "'x'" in message
    assert "outside the range of FP32" in message


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize(
    ("value", "got"), [("1", "a string"), (True, "true or false"), (None, "null"), ({}, "an object")]
)
def test_what_is_no_number_is_refused_with_its_place(datatype, value, got):
    message = refusal(decode, tensor(datatype, [[1, 2], [3, value]], [2, 2]))
    assert message == f"input 'x': $.inputs[0].data[1][1] must be a number for {datatype}, got {got}"


def test_flags_are_true_and_false_alone():
    assert decode(tensor("BOOL", [[True], [False]], [2, 1])).request.inputs["x"].array.tolist() == [[True], [False]]
    message = refusal(decode, tensor("BOOL", [True, 1]))
    assert message == "input 'x': $.inputs[0].data[1] must be true or false for BOOL, got a number"


def test_strings_become_utf8_bytes():
    array = decode(tensor("BYTES", [["é", ""], ["a\0b", "日本"]], [2, 2])).request.inputs["x"].array
    assert array.tolist() == [["é".encode(), b""], [b"a\0b", "日本".encode()]]
    assert "must be a string for BYTES" in refusal(decode, tensor("BYTES", ["a", 1]))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_json_form(datatype):
    message = refusal(decode, tensor(datatype, [1.5]))
    assert message == (
        f"sending {datatype} data via JSON is not supported. Please use the binary data format for input 'x'"
    )
    message = refusal(encode, datatype, np.zeros(1, DTYPES[datatype]))
    assert message.endswith("Please use the binary data format for output 'y'")


# Shapes and documents


@pytest.mark.parametrize(
    ("data", "shape"),
    [([1, 2, 3, 4], [2, 2]), ([[1, 2], [3, 4]], [4]), ([[[1], [2]], [[3], [4]]], [2, 2]), ([1, 2, 3, 4], [1, 4, 1])],
)
@pytest.mark.parametrize("datatype", ["FP32", "INT32", "FP64"])
def test_nested_and_flat_are_the_same(datatype, data, shape):
    array = decode(tensor(datatype, data, shape)).request.inputs["x"].array
    assert array.shape == tuple(shape)
    assert array.ravel().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("shape", [[3], [5], [2, 3], [0], [2**31, 2**31], [2**62], [4, 0]])
@pytest.mark.parametrize("datatype", ["FP32", "INT32", "BYTES", "BOOL"])
def test_a_wrong_count_says_both_counts(datatype, shape):
    data = {"BYTES": ["a"] * 4, "BOOL": [True] * 4}.get(datatype, [1] * 4)
    message = refusal(decode, tensor(datatype, data, shape))
    count = int(np.prod(np.array(shape, object)))
    assert message == f"input 'x': shape {shape} of {datatype} has {count} elements, but data has 4"


def test_empty_tensors_and_scalars_are_tensors():
    assert decode(tensor("FP32", [], [0, 4])).request.inputs["x"].array.shape == (0, 4)
    assert decode(tensor("INT64", [7], [])).request.inputs["x"].array.shape == ()


DOCUMENTS = [
    (b"", "the request body is empty"),
    (b"{", "failed to parse the request JSON buffer"),
    (b"\xff\xfe", "failed to parse the request JSON buffer"),
    (b'{"inputs":[]} x', "failed to parse the request JSON buffer"),
    (b"[]", "- at `$`"),
    (b"{}", "`inputs` - at `$`"),
    (b'{"inputs":{}}', "`$.inputs`"),
    (b'{"inputs":[1]}', "`$.inputs[0]`"),
    (b'{"inputs":[{"name":1}]}', "`$.inputs[0].name`"),
    (b'{"inputs":[{"name":"x","shape":[1]}]}', "`datatype` - at `$.inputs[0]`"),
    (b'{"inputs":[{"name":"x","shape":[-1],"datatype":"FP32","data":[1]}]}', "`$.inputs[0].shape[0]`"),
    (b'{"inputs":[{"name":"x","shape":[1.5],"datatype":"FP32","data":[1]}]}', "`$.inputs[0].shape[0]`"),
    (
        b'{"inputs":[{"name":"x","shape":[99999999999999999999],"datatype":"FP32","data":[1]}]}',
        "`$.inputs[0].shape[0]`",
    ),
    (b'{"inputs":[],"id":5}', "`$.id`"),
    (b'{"inputs":[],"outputs":[{}]}', "`$.outputs[0]`"),
    (b'{"inputs":[],"parameters":[]}', "`$.parameters`"),
    (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP31","data":[1]}]}', "unknown data-type 'FP31'"),
    (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}', "input 'x'"),
    (
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":1}]}',
        "$.inputs[0].data must be an array, got a number",
    ),
    (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":{}}]}', "must be an array, got an object"),
]


@pytest.mark.parametrize(("body", "text"), DOCUMENTS)
def test_a_document_that_does_not_fit_is_told_where(body, text):
    assert text in refusal(v2.decode_request, "m", "", body, None, 0)


def test_65_dimensions_are_refused():
    assert "length <= 64 - at `$.inputs[0].shape`" in refusal(decode, tensor("FP32", [1], [1] * 65))
    assert decode(tensor("FP32", [1], [1] * 64)).request.inputs["x"].array.ndim == 64


@pytest.mark.parametrize(("depth", "fine"), [(50, True), (99, False), (120, False), (100_000, False)])
def test_nesting_is_bounded(depth, fine):
    text = "[" * depth + "1" + "]" * depth
    if fine:
        assert decode_text(text, "FP32", [1]).tolist() == [1]
    else:
        assert "nested deeper than 100 levels" in refusal(decode_text, text, "FP32", [1])


def test_brackets_in_strings_are_no_nesting():
    array = decode(tensor("BYTES", ["[" * 500, '\\"[{' * 100], [2])).request.inputs["x"].array
    assert array.tolist() == [b"[" * 500, b'\\"[{' * 100]


def test_one_bad_body_does_not_hinder_the_next():
    """What the large-body parser made of one request must not outlive it in a traceback."""
    kept = []
    for bad in ({}, [1, "a"], [[1], [2.5, None]], "text"):
        with pytest.raises(GatewayError) as caught:
            decode(tensor("INT64", bad, [2]))
        kept.append(caught.value)
        assert decode(tensor("INT64", [1, 2])).request.inputs["x"].array.tolist() == [1, 2]
    assert len(kept) == 4


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (
            {"inputs": [tensor("FP32", [1]), tensor("FP32", [1])]},
            "input 'x' is given more than once ($.inputs[1].name)",
        ),
        ({"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}, "output 'y' is requested more than once"),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
            "output 'y': binary_data must be",
        ),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": -1}}]},
            "output 'y': classification",
        ),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": True}}]},
            "output 'y': classification",
        ),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
            "output 'y': shared memory is not supported",
        ),
        (
            {"inputs": [tensor("FP32", [1], parameters={"shared_memory_offset": 0})]},
            "input 'x': shared memory is not supported ($.inputs[0].parameters.shared_memory_offset)",
        ),
        (
            {"inputs": [], "parameters": {"binary_data_output": 1}},
            "parameter 'binary_data_output' must be true or false",
        ),
        ({"inputs": [], "parameters": {"sequence_id": 3}}, "parameter 'sequence_id': sequences are not supported"),
        ({"inputs": [], "parameters": {"timeout": "5"}}, "parameter 'timeout' must be a whole number"),
        ({"inputs": [tensor("FP32", [1], parameters={"binary_data_size": 4})]}, "both data and binary_data_size"),
    ],
)
def test_parameters_that_cannot_be_are_named(document, text):
    assert text in refusal(v2.decode_request, "m", "", json.dumps(document).encode(), None, 0)


def test_parameters_reach_the_request():
    decoded = decode(
        id="i",
        parameters={"a": 1, "timeout": 5, "binary_data_output": True},
        outputs=[{"name": "a"}, {"name": "b", "parameters": {"binary_data": False, "classification": 3}}],
    )
    request = decoded.request
    assert (request.id, decoded.binary, request.deadline_ns) == ("i", True, 1000 + 5000)
    assert dict(request.parameters) == {"a": 1, "timeout": 5}
    assert request.outputs == (RequestedOutput("a"), RequestedOutput("b", False, 3))


# Binary


def spec(datatype, size, shape, name="x"):
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name not in ("BYTES", "BOOL")])
def test_binary_numbers_are_views_of_the_body(datatype):
    raw = bytes(range(8 * DTYPES[datatype].itemsize))
    array = decode(spec(datatype, len(raw), [2, 4]), tail=raw).request.inputs["x"].array
    assert (array.dtype, array.shape, array.tobytes()) == (DTYPES[datatype], (2, 4), raw)
    assert not array.flags.writeable
    head, size = encode(datatype, array, binary=True)
    assert head[size:] == raw
    assert json.loads(head[:size])["outputs"] == [
        {"name": "y", "datatype": datatype, "shape": [2, 4], "parameters": {"binary_data_size": len(raw)}}
    ]


def test_binary_strings_and_flags_round_trip():
    words = b"\x02\0\0\0hi\0\0\0\0\x03\0\0\0\xff\0x"
    inputs = decode(spec("BYTES", len(words), [3]), spec("BOOL", 2, [2], "f"), tail=words + b"\x01\x00").request.inputs
    assert inputs["x"].array.tolist() == [b"hi", b"", b"\xff\0x"]
    assert inputs["f"].array.tolist() == [True, False]
    body, size = encode("BYTES", inputs["x"].array, binary=True)
    assert body[size:] == words


@pytest.mark.parametrize(
    ("inputs", "tail", "text"),
    [
        (
            [spec("FP32", 12, [4])],
            bytes(12),
            "input byte size mismatch for input 'x' for model 'm'. Expected 16, got 12",
        ),
        ([spec("FP32", 16, [4])], bytes(12), "input 'x' claims 16 bytes of binary data, the body has 12 left"),
        ([spec("FP32", 16, [4])], bytes(20), "the body has 4 bytes of binary data that no input claims"),
        ([spec("FP32", -4, [4])], bytes(16), "input 'x': binary_data_size must be a whole number"),
        ([spec("FP32", True, [4])], bytes(16), "input 'x': binary_data_size must be a whole number"),
        ([spec("FP32", 2**62, [4])], bytes(16), "input 'x' claims"),
        ([spec("FP31", 16, [4])], bytes(16), "input 'x' for model 'm' has unknown data-type 'FP31'"),
        ([spec("BYTES", 6, [1])], b"\xff\0\0\0hi", "expecting string of length 255"),
        ([spec("BYTES", 6, [2])], b"\x02\0\0\0hi", "input 'x'"),
        ([spec("FP32", 0, [2**40, 2**20])], b"x", "input 'x'"),
        ([tensor("FP32", [1], parameters={"binary_data_size": 4})], bytes(4), "both data and binary_data_size"),
    ],
)
def test_binary_data_that_does_not_fit_is_told_by_name(inputs, tail, text):
    assert text in refusal(decode, *inputs, tail=tail)


def test_an_empty_body_is_called_empty():
    message = refusal(v2.decode_request, "m", "", b"", None, 0)
    assert message == "the request body is empty; expected a JSON object with inputs ($)"


@pytest.mark.parametrize("length", [0, 3])
def test_a_header_length_beyond_the_body_is_refused(length):
    assert "is not between 1 and" in refusal(v2.decode_request, "m", "", b"{}", length and 3, 0)
