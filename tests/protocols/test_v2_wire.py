"""The protobuf shortcut against the codec it stands in for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, InferResponse, ServableVersion, Tensor
from gateway.protocols import v2_pb, v2_wire
from runtimes.base import DTYPES, ModelSignature

FIXED = sorted(set(DTYPES) - {"BYTES", "BOOL"})


def message(client_id="", datatype="FP32", values=(1, 2), **fields):
    array = np.array(values).astype(DTYPES[datatype])
    made = service_pb2.ModelInferRequest(model_name="m", id=client_id, **fields)
    made.inputs.add(name="x", datatype=datatype, shape=array.shape)
    made.raw_input_contents.append(array.tobytes())
    return made


def outcome(decode, body):
    """What a codec makes of `body`, in comparable form."""
    try:
        request = decode(body)
    except GatewayError as error:
        return error.code, error.message
    inputs = {
        name: (tensor.datatype, tensor.array.dtype, tensor.array.shape, tensor.array.tolist())
        for name, tensor in request.inputs.items()
    }
    return (
        request.model, request.version, request.id, request.protocol, request.outputs, dict(request.parameters),
        request.deadline_ns, repr(inputs),
    )  # fmt: skip


def whole(body):
    return v2_pb.decode_infer(v2_pb.parse_infer(body), 7)


def short(body):
    return v2_wire.decode_body(body, 7)


@pytest.mark.parametrize("datatype", FIXED)
def test_the_second_request_reads_as_the_first(datatype):
    first = message("1", datatype, [[1, 2], [3, 4]], model_version="2").SerializeToString()
    second = message("other", datatype, [[5, 6], [7, 8]], model_version="2").SerializeToString()
    assert outcome(short, first) == outcome(whole, first)
    assert outcome(short, second) == outcome(whole, second)


def test_tensors_are_aligned_and_ids_never_stick():
    for client_id in ("", "a", "ab", "abc", "abcd", "x" * 200):
        request = short(message(client_id, "FP64", [1, 2]).SerializeToString())
        assert request.id == client_id
        assert request.inputs["x"].array.flags.aligned


def test_large_tensors_are_views_of_the_message():
    made = message("", "UINT8", np.arange(5000) % 256)
    body = bytearray(made.SerializeToString())
    short(body)
    array = short(body).inputs["x"].array
    body[-1] = 99
    assert array[-1] == 99


def test_several_inputs_outputs_and_parameters():
    def made(first, second, timeout):
        built = message("i", values=first)
        built.inputs.add(name="y", datatype="INT64", shape=[1])
        built.raw_input_contents.append(np.int64(second).tobytes())
        built.outputs.add(name="out").parameters["classification"].int64_param = 2
        built.parameters["timeout"].int64_param = timeout
        return built.SerializeToString()

    for body in (made([1, 2], 3, 50), made([4, 5], 6, 50), made([4, 5], 6, 60)):
        assert outcome(short, body) == outcome(whole, body)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body[:-1],
        lambda body: body + b"\x00",
        lambda body: body + b"\x3a\x00",
        lambda body: body.replace(b"\x3a\x08", b"\x3a\x07"),
        lambda body: body.replace(b"\x3a\x08", b"\x42\x08"),
        lambda body: body.replace(b"\x3a\x08", b"\x3a\x88\x00"),
        lambda body: body + b"\x1a\x01z",
        lambda body: b"\x1a\x01y" + body,
        lambda body: b"\x08\x01" + body,
        lambda body: b"\x82\x01\x01a" + body,
        lambda body: b"\x1a\x02\xff\xff" + body,
        lambda body: body[:3],
        lambda body: b"\x0a",
        lambda body: b"",
    ],
)
def test_what_only_looks_like_a_known_request_takes_the_whole_codec(spoil):
    body = message("id").SerializeToString()
    short(body)
    assert outcome(short, spoil(body)) == outcome(whole, spoil(body))


def test_typed_strings_and_flags_take_the_whole_codec_every_time():
    typed = service_pb2.ModelInferRequest(model_name="m")
    typed.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    text = message()
    text.inputs[0].datatype = "BYTES"
    text.inputs[0].shape[:] = [1]
    text.raw_input_contents[0] = b"\x01\0\0\0a"
    flags = message("", "BOOL", [0, 1])
    for made in (typed, text, flags):
        body = made.SerializeToString()
        for _ in range(2):
            assert outcome(short, body) == outcome(whole, body)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(v2_wire, "MAX_PLANS", 2)
    for number in range(6):
        short(message(model_version=str(number)).SerializeToString())
    assert len(v2_wire._PLANS) <= 2
    monkeypatch.setattr(v2_wire, "MAX_KEY", 1)
    v2_wire._PLANS.clear()
    short(message().SerializeToString())
    assert not v2_wire._PLANS


cuts = st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 3))


@settings(max_examples=1000, deadline=None)
@given(st.lists(cuts, max_size=3), st.sampled_from(["", "1", "ab"]))
def test_damaged_messages_read_the_same_either_way(damage, client_id):
    body = message(client_id).SerializeToString()
    short(body)
    for at, filler, removed in damage:
        place = int(len(body) * at)
        body = body[:place] + filler + body[place + removed :]
    assert outcome(short, body) == outcome(whole, body)
    assert outcome(short, body) == outcome(whole, body)


def served(client_id=""):
    target = ServableVersion("m", "3", ModelSignature((), ()), 8, lambda request: None)
    return InferRequest(model="m", id=client_id, target=target)


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": Tensor("FP32", np.float32([[1, 2]]))},
        {"y": Tensor("BYTES", np.array([b"ab", b""], object)), "z": Tensor("INT64", np.int64(5))},
        {"t": Tensor("INT16", np.arange(6, dtype=np.int16).reshape(2, 3).T)},
        {"big": Tensor("FP64", np.arange(3000.0))},
        {"bigt": Tensor("FP64", np.arange(3000.0).reshape(2, 1500).T)},
        {"none": Tensor("FP32", np.empty((0, 3), np.float32))},
        {},
    ],
)
def test_answers_have_protobufs_own_bytes(outputs):
    request = served("7")
    response = InferResponse(outputs)
    expected = v2_pb.encode_infer(request, response).SerializeToString()
    assert v2_wire.encode_body(request, response) == expected
    request.id = ""
    assert v2_wire.encode_body(request, response) == v2_pb.encode_infer(request, response).SerializeToString()


def test_answers_with_parameters_and_without_a_version():
    response = InferResponse({"y": Tensor("FP32", np.float32([1]))}, {"k": 1})
    for request in (served(), InferRequest(model="m", version="2")):
        parsed = service_pb2.ModelInferResponse.FromString(v2_wire.encode_body(request, response))
        assert parsed.parameters["k"].int64_param == 1


def test_a_full_memo_is_not_filled_further(monkeypatch):
    monkeypatch.setattr(v2_wire, "MAX_MEMO", 0)
    request = served()
    response = InferResponse({"y": Tensor("FP32", np.float32([1]))})
    assert v2_wire.encode_body(request, response) == v2_pb.encode_infer(request, response).SerializeToString()
    assert not request.target.memo


@given(st.integers(0, 2**40))
def test_whole_numbers_as_protobuf_writes_them(value):
    parameter = service_pb2.InferParameter(uint64_param=value)
    assert parameter.SerializeToString() == b"\x28" + v2_wire.varint(value)


def test_code_of_refusals():
    with pytest.raises(GatewayError) as caught:
        short(b"\xff")
    assert caught.value.code is Code.INVALID_ARGUMENT
