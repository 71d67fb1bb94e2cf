"""ModelInferRequest and ModelInferResponse against the request they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, InferResponse, Tensor
from gateway.protocols import v2_pb
from runtimes.base import DTYPES


def request_message(datatype="FP32", shape=(1, 2), raw=bytes(8), **fields):
    message = service_pb2.ModelInferRequest(model_name="m", **fields)
    message.inputs.add(name="x", datatype=datatype, shape=shape)
    if raw is not None:
        message.raw_input_contents.append(raw)
    return message


def typed_message(datatype, field, values, shape=None):
    message = request_message(datatype, (len(values),) if shape is None else shape, None)
    getattr(message.inputs[0].contents, field).extend(values)
    return message


def refusal(message):
    with pytest.raises(GatewayError) as caught:
        v2_pb.decode_infer(message, 0)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_the_fields_of_a_request():
    message = request_message(id="7", model_version="2", raw=np.float32([1, 2]).tobytes())
    message.outputs.add(name="y")
    message.outputs.add(name="z").parameters["classification"].int64_param = 3
    request = v2_pb.decode_infer(v2_pb.parse_infer(message.SerializeToString()), 0)
    assert (request.model, request.version, request.id, request.protocol) == ("m", "2", "7", "grpc")
    assert request.inputs["x"].array.tolist() == [[1, 2]]
    assert [(output.name, output.classification) for output in request.outputs] == [("y", 0), ("z", 3)]


TYPED = [
    ("BOOL", "bool_contents", [True, False]),
    ("UINT8", "uint_contents", [0, 255]),
    ("UINT16", "uint_contents", [0, 65535]),
    ("UINT32", "uint_contents", [0, 2**32 - 1]),
    ("UINT64", "uint64_contents", [0, 2**64 - 1]),
    ("INT8", "int_contents", [-128, 127]),
    ("INT16", "int_contents", [-32768, 32767]),
    ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
    ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
    ("FP32", "fp32_contents", [0.5, math.inf]),
    ("FP64", "fp64_contents", [0.1, -math.inf]),
    ("BYTES", "bytes_contents", [b"a\0b", b""]),
]


@pytest.mark.parametrize(("datatype", "field", "values"), TYPED)
def test_typed_contents_are_exact(datatype, field, values):
    array = v2_pb.decode_infer(typed_message(datatype, field, values, (1, 2)), 0).inputs["x"].array
    assert array.dtype == DTYPES[datatype]
    assert array.tolist() == [values]


@pytest.mark.parametrize(("datatype", "field", "values"), TYPED)
def test_typed_contents_of_the_wrong_count_are_refused(datatype, field, values):
    text = refusal(typed_message(datatype, field, values, (3,)))
    assert "'x'" in text
    assert "mismatch" in text or "expecting 3" in text


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [("UINT8", "uint_contents", [256]), ("INT8", "int_contents", [-129]), ("INT16", "int_contents", [40000])],
)
def test_values_that_do_not_fit_are_refused(datatype, field, values):
    assert "value outside" in refusal(typed_message(datatype, field, values))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_to_be_raw(datatype):
    assert "must use raw_input_contents" in refusal(typed_message(datatype, "fp32_contents", [1.0]))
    assert v2_pb.decode_infer(request_message(datatype, (1, 2), bytes(4)), 0).inputs["x"].array.shape == (1, 2)


def test_contents_of_another_type_are_refused():
    text = refusal(typed_message("FP32", "int_contents", [1]))
    assert "unexpected explicit tensor data for input tensor 'x' for model 'm'" in text
    assert "'fp32_contents'" in text


def test_contents_that_are_too_many_have_to_be_raw(monkeypatch):
    monkeypatch.setattr(v2_pb, "MAX_TYPED_ELEMENTS", 1)
    assert "use raw_input_contents" in refusal(typed_message("INT32", "int_contents", [1, 2]))


def test_raw_and_typed_may_not_be_mixed():
    message = request_message()
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    assert "contents field must not be specified when using raw_input_contents for 'x'" in refusal(message)


def test_every_input_needs_its_data():
    assert "unable to find data for input tensor 'x' for model 'm' in request." in refusal(request_message(raw=None))
    message = request_message()
    message.inputs.add(name="y", datatype="FP32", shape=[1])
    assert "unable to find data for input tensor 'y'" in refusal(message)


def test_raw_contents_without_an_input_are_refused():
    message = request_message()
    message.raw_input_contents.append(b"")
    assert "expected 1 raw_input_contents for 1 inputs of model 'm', got 2" in refusal(message)


def test_an_input_may_come_once():
    message = request_message()
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    message.raw_input_contents.append(bytes(8))
    assert "input 'x' for model 'm' is given more than once" in refusal(message)


def test_an_output_may_be_asked_for_once():
    message = request_message()
    message.outputs.add(name="y")
    message.outputs.add(name="y")
    assert "output 'y' is requested more than once" in refusal(message)


def test_names_have_a_limit():
    assert "10000 characters" in refusal(service_pb2.ModelInferRequest(model_name="m" * 10_000))
    message = request_message()
    message.inputs[0].name = "x" * 10_000
    assert "10000 characters" in refusal(message)


def test_messages_carry_the_request_id():
    assert refusal(request_message(raw=b"", id="42")).startswith("[request id: 42] ")
    assert refusal(request_message(raw=b"")).startswith("[request id: <id_unknown>] ")


def test_an_unknown_datatype_is_refused():
    assert "unknown data-type 'FP8'" in refusal(request_message("FP8"))
    assert "unknown data-type 'FP8'" in refusal(typed_message("FP8", "fp32_contents", [1.0]))


def test_parameters_of_all_kinds_arrive():
    message = request_message()
    message.parameters["flag"].bool_param = True
    message.parameters["number"].int64_param = -3
    message.parameters["big"].uint64_param = 2**63
    message.parameters["real"].double_param = 0.5
    message.parameters["text"].string_param = "t"
    message.parameters["priority"].uint64_param = 2
    message.parameters["sequence_id"].int64_param = 0
    message.parameters["binary_data_output"].bool_param = True
    request = v2_pb.decode_infer(message, 0)
    assert request.parameters == {
        "flag": True, "number": -3, "big": 2**63, "real": 0.5, "text": "t", "priority": 2, "sequence_id": 0,
    }  # fmt: skip


def test_timeout_is_microseconds_from_now():
    message = request_message()
    message.parameters["timeout"].int64_param = 1500
    assert v2_pb.decode_infer(message, 10).deadline_ns == 1_500_010
    assert v2_pb.decode_infer(request_message(), 10).deadline_ns == 0


@pytest.mark.parametrize(
    ("key", "field", "value", "words"),
    [
        ("timeout", "string_param", "soon", "parameter 'timeout'"),
        ("timeout", "int64_param", -1, "parameter 'timeout'"),
        ("priority", "int64_param", -1, "invalid value for 'priority'"),
        ("priority", "string_param", "high", "invalid value for 'priority'"),
        ("sequence_id", "int64_param", 5, "sequences are not supported"),
        ("sequence_id", "string_param", "s", "sequences are not supported"),
        ("sequence_start", "bool_param", True, "sequences are not supported"),
    ],
)
def test_parameters_that_cannot_be_honoured_are_refused(key, field, value, words):
    message = request_message()
    setattr(message.parameters[key], field, value)
    assert words in refusal(message)


def test_a_parameter_without_a_value_is_refused():
    message = request_message()
    message.parameters["empty"].SetInParent()
    assert "invalid value type for 'empty' parameter" in refusal(message)


def test_shared_memory_is_refused_by_name():
    message = request_message()
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    assert "'shared_memory_region' of input 'x'" in refusal(message)
    message = request_message()
    message.outputs.add(name="y").parameters["shared_memory_region"].string_param = "r"
    assert "'shared_memory_region' of output 'y'" in refusal(message)


@pytest.mark.parametrize(("field", "value"), [("int64_param", 0), ("string_param", "2"), ("bool_param", True)])
def test_classification_is_a_count(field, value):
    message = request_message()
    setattr(message.outputs.add(name="y").parameters["classification"], field, value)
    assert "parameter 'classification' of output 'y'" in refusal(message)


def test_an_answer_goes_out_raw():
    outputs = {
        "y": Tensor("FP32", np.float32([[1, 2]])),
        "s": Tensor("BYTES", np.array([b"ab", b""], object)),
        "transposed": Tensor("INT16", np.int16([[1, 2], [3, 4]]).T),
    }
    parameters = {"flag": True, "number": 1, "big": 2**64 - 1, "real": 0.5, "text": "t", "huge": 2**70}
    request = InferRequest(model="m", version="3", id="7")
    message = v2_pb.encode_infer(request, InferResponse(outputs, parameters))
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "7")
    assert [(o.name, o.datatype, list(o.shape)) for o in message.outputs] == [
        ("y", "FP32", [1, 2]), ("s", "BYTES", [2]), ("transposed", "INT16", [2, 2]),
    ]  # fmt: skip
    assert list(message.raw_output_contents) == [
        np.float32([1, 2]).tobytes(), b"\2\0\0\0ab\0\0\0\0", np.int16([1, 3, 2, 4]).tobytes(),
    ]  # fmt: skip
    back = {key: v2_pb.parameter_value(value) for key, value in message.parameters.items()}
    assert back == parameters | {"huge": str(2**70)}


def test_bytes_that_are_no_message():
    for body in (b"\xff", b"\x0a\x02\xff\xff", b"\x0a\x7fshort"):
        with pytest.raises(GatewayError) as caught:
            v2_pb.parse_infer(body)
        assert caught.value.code is Code.INVALID_ARGUMENT


names = st.sampled_from(["x", "y", "", "é"]) | st.text(max_size=5)
dims = st.sampled_from([0, 1, 2, 4, -1, 2**40, 2**63 - 1, -(2**63)])
contents = st.builds(
    service_pb2.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=2),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=2),
    fp32_contents=st.lists(st.floats(width=32), max_size=2),
    bytes_contents=st.lists(st.binary(max_size=3), max_size=2),
)
parameters = st.dictionaries(
    st.sampled_from(["timeout", "priority", "sequence_id", "classification", "shared_memory_region", "binary_data"])
    | st.text(max_size=3),
    st.one_of(
        st.builds(service_pb2.InferParameter),
        st.builds(service_pb2.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
        st.builds(service_pb2.InferParameter, bool_param=st.booleans()),
        st.builds(service_pb2.InferParameter, double_param=st.floats()),
        st.builds(service_pb2.InferParameter, string_param=st.text(max_size=3)),
        st.builds(service_pb2.InferParameter, uint64_param=st.integers(0, 2**64 - 1)),
    ),
    max_size=2,
)
inputs = st.builds(
    service_pb2.ModelInferRequest.InferInputTensor,
    name=names,
    datatype=st.sampled_from([*DTYPES, "FP8", ""]),
    shape=st.lists(dims, max_size=4),
    parameters=st.just({}) | parameters,
    contents=st.none() | contents,
)
outputs = st.builds(
    service_pb2.ModelInferRequest.InferRequestedOutputTensor, name=names, parameters=st.just({}) | parameters
)
requests = st.builds(
    service_pb2.ModelInferRequest,
    model_name=names,
    id=st.text(max_size=3),
    parameters=st.just({}) | parameters,
    inputs=st.lists(inputs, max_size=3),
    outputs=st.just([]) | st.lists(outputs, max_size=2),
    raw_input_contents=st.just([]) | st.lists(st.binary(max_size=16), max_size=3),
)


def decoded(body):
    """The request in `body`, or the error that refuses it."""
    try:
        return v2_pb.decode_infer(v2_pb.parse_infer(body), 0)
    except GatewayError as error:
        return error


def judge(message):
    result = decoded(message.SerializeToString())
    if isinstance(result, GatewayError):
        assert result.code is Code.INVALID_ARGUMENT
        assert result.message.startswith("[request id: ")
    else:
        assert [*result.inputs] == [item.name for item in message.inputs]
        shapes = [tensor.array.shape for tensor in result.inputs.values()]
        assert shapes == [tuple(item.shape) for item in message.inputs]


@settings(max_examples=1000, deadline=None)
@given(requests)
def test_any_request_is_read_or_refused(message):
    judge(message)


@pytest.mark.soak
@settings(max_examples=100_000, deadline=None)
@given(requests)
def test_any_of_very_many_requests_is_read_or_refused(message):
    judge(message)


def damaged(message, at, filler):
    body = message.SerializeToString()
    cut = int(len(body) * at)
    return body[:cut] + filler + body[cut + len(filler) :]


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=60) | st.builds(damaged, requests, st.floats(0, 1), st.binary(max_size=2)))
def test_any_bytes_are_read_or_refused(body):
    result = decoded(body)
    assert not isinstance(result, GatewayError) or result.code is Code.INVALID_ARGUMENT
