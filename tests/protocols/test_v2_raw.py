"""Raw binary requests: the whole body is the one input."""

import pytest

from gateway.core.errors import Code, GatewayError
from gateway.core.types import ServableVersion
from gateway.protocols import v2
from runtimes.base import ModelSignature, TensorSpec


def refusal(call, *args, **kwargs):
    with pytest.raises(GatewayError) as caught:
        call(*args, **kwargs)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def servable(*specs, batch=4):
    signature = ModelSignature(tuple(specs), (TensorSpec("y", "FP32", (-1,)),))
    return ServableVersion("m", "1", signature, batch, lambda request: None)


def test_a_raw_request_is_the_only_input_as_batch_1():
    decoded = v2.decode_raw(servable(TensorSpec("x", "FP32", (-1, 2, 2))), "", bytes(16))
    assert decoded.binary
    assert decoded.request.inputs["x"].array.shape == (1, 2, 2)
    assert v2.decode_raw(servable(TensorSpec("x", "FP32", (-1, -1, 2))), "", bytes(24)).request.inputs[
        "x"
    ].array.shape == (1, 3, 2)
    text = v2.decode_raw(servable(TensorSpec("x", "BYTES", (-1, 1))), "", b"a\0b").request.inputs["x"].array
    assert text.tolist() == [[b"a\0b"]]


@pytest.mark.parametrize(
    ("specs", "body", "text"),
    [
        ((TensorSpec("a", "FP32", (-1, 1)), TensorSpec("b", "FP32", (-1, 1))), b"", "exactly one input, 'm' has 2"),
        ((TensorSpec("x", "FP32", (-1, -1, -1)),), bytes(4), "input 'x' has more than one variable dimension"),
        ((TensorSpec("x", "FP32", (-1, 4)),), bytes(12), "for input 'x' for model 'm'. Expected 16, got 12"),
        ((TensorSpec("x", "BYTES", (-1, 2)),), b"a", "BYTES input 'x' must have shape [1]"),
    ],
)
def test_raw_requests_that_cannot_be(specs, body, text):
    assert text in refusal(v2.decode_raw, servable(*specs), "", body)


# Answers
