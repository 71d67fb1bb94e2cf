"""ModelInfer over HTTP/1.1, as Envoy's reverse bridge speaks it."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from gateway.core.errors import Code, GatewayError
from gateway.core.types import InferRequest, InferResponse, ServableVersion, Tensor
from gateway.protocols import bridge
from runtimes.base import ModelSignature


def body(client_id=""):
    message = service_pb2.ModelInferRequest(model_name="m", id=client_id)
    message.inputs.add(name="x", datatype="FP32", shape=[1])
    message.raw_input_contents.append(bytes(4))
    return message.SerializeToString()


BRIDGE_HEADERS = {b"content-type": b"application/x-protobuf"}


def test_a_bridged_request_is_the_bare_message_with_grpcs_deadline():
    headers = BRIDGE_HEADERS | {b"grpc-timeout": b"250m", b"grpc-encoding": b"identity"}
    request = bridge.decode_bridge(headers, body("7"), 5)
    assert (request.model, request.id, request.deadline_ns) == ("m", "7", 250_000_005)
    assert bridge.decode_bridge({}, body(), 5).deadline_ns == 0


@pytest.mark.parametrize(
    ("headers", "code", "words"),
    [
        ({b"content-type": b"application/json"}, Code.UNSUPPORTED_MEDIA, "application/json"),
        ({b"grpc-encoding": b"gzip"}, Code.UNSUPPORTED_MEDIA, "compressed"),
        ({b"grpc-timeout": b"soon"}, Code.INVALID_ARGUMENT, "grpc-timeout"),
    ],
)
def test_what_cannot_cross_the_bridge_is_refused(headers, code, words):
    with pytest.raises(GatewayError) as caught:
        bridge.decode_bridge(BRIDGE_HEADERS | headers, body(), 0)
    assert caught.value.code is code
    assert words in caught.value.message


def test_a_bridged_answer_is_the_bare_message():
    request = InferRequest(model="m", request_id="r")
    status, headers, body = bridge.encode_bridge(request, InferResponse({"y": Tensor("FP32", np.float32([1]))}))
    assert (status, dict(headers)) == (200, {b"content-type": b"application/x-protobuf", b"x-request-id": b"r"})
    assert service_pb2.ModelInferResponse.FromString(body).outputs[0].name == "y"


def test_a_bridged_answer_names_version_and_route():
    target = ServableVersion("m", "3", ModelSignature((), ()), 8, lambda request: None)
    request = InferRequest(model="m", target=target, route_reason="rule=only")
    _, headers, body = bridge.encode_bridge(request, InferResponse({"y": Tensor("FP32", np.float32([1]))}))
    assert dict(headers)[b"x-gateway-version"] == b"3"
    assert dict(headers)[b"x-gateway-route"] == b"rule=only"
    assert service_pb2.ModelInferResponse.FromString(body).model_version == "3"


def test_a_bridged_error_carries_the_true_status_and_words():
    error = GatewayError(Code.NOT_READY, "50 % für 'm'\n", retry_after_s=2)
    status, headers, body = bridge.encode_bridge(InferRequest(model="m"), error)
    assert (status, body) == (503, b"")
    assert dict(headers) == {
        b"content-type": b"application/x-protobuf",
        b"x-gateway-grpc-status": b"14",
        b"x-gateway-grpc-message": b"50 %25 f%C3%BCr 'm'%0A",
        b"retry-after": b"2",
    }


def test_a_bridged_answer_that_cannot_be_encoded_is_internal():
    request = InferRequest(model="m")
    broken = InferResponse({"y": Tensor("BYTES", np.array([1], object))})
    status, headers, _ = bridge.encode_bridge(request, broken)
    assert (status, dict(headers)[b"x-gateway-grpc-status"]) == (500, b"13")
    assert request.outcome.code is Code.INTERNAL
