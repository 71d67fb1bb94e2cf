"""Protobuf messages as Triton's JSON, against protobuf's own mapping."""

import json

import pytest
from google.protobuf import json_format

from gateway.core.oip import model_config_pb2, service_pb2
from gateway.protocols.proto_json import plain


@pytest.fixture
def config():
    message = model_config_pb2.ModelConfig(name="m", max_batch_size=8)
    message.input.add(name="x", data_type=model_config_pb2.TYPE_FP32, dims=[-1, 2**40])
    message.version_policy.specific.versions.extend([1, 3])
    message.dynamic_batching.max_queue_delay_microseconds = 2**53 + 1
    message.parameters["k"].string_value = "v"
    message.cc_model_filenames["7.5"] = "a"
    return message


def numbers(value):
    """Make protobuf's 64-bit texts the numbers they stand for."""
    if isinstance(value, dict):
        return {key: numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner) for inner in value]
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


def test_equals_protobufs_mapping_but_for_integers(config):
    expected = json_format.MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert plain(config) == numbers(expected)
    assert json.loads(json.dumps(plain(config))) == plain(config)


def test_integers_are_numbers_and_enums_are_names(config):
    document = plain(config)
    assert document["input"][0]["dims"] == [-1, 2**40]
    assert document["input"][0]["data_type"] == "TYPE_FP32"
    assert document["dynamic_batching"]["max_queue_delay_microseconds"] == 2**53 + 1
    assert document["parameters"] == {"k": {"string_value": "v"}}


def test_unset_messages_are_left_out_and_scalars_have_their_default():
    document = plain(model_config_pb2.ModelConfig())
    assert document["max_batch_size"] == 0
    assert document["input"] == []
    assert "dynamic_batching" not in document


def test_bytes_are_base64_and_unknown_enums_numbers():
    message = service_pb2.ModelInferRequest(raw_input_contents=[b"\xff"])
    assert plain(message)["raw_input_contents"] == ["/w=="]
    config = model_config_pb2.ModelConfig()
    config.input.add(data_type=99)
    assert plain(config)["input"][0]["data_type"] == 99
