"""Operators that would end the process are refused before a session is made."""

import onnx
import pytest
from onnx import TensorProto, helper

from runtimes import onnx as onnx_runtime
from runtimes.base import LoadFailed


def decoding_model() -> onnx.ModelProto:
    node = helper.make_node("DecodeImage", ["image"], ["pixels"], domain="ai.onnx.contrib")
    graph = helper.make_graph(
        [node],
        "decode",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["bytes"])],
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["h", "w", 3])],
    )
    return helper.make_model(graph)


@pytest.mark.parametrize("version", ["0.14.0", "0.15.2", "1.0.0"])
def test_decode_image_of_a_release_that_exits_is_refused(monkeypatch, version):
    monkeypatch.setattr(onnx_runtime.metadata, "version", lambda name: version)
    with pytest.raises(LoadFailed, match=r"DecodeImage .*ends the process .* install onnxruntime-extensions 0\.13"):
        onnx_runtime._refuse_fatal_operators(decoding_model())


def test_decode_image_of_a_sound_release_is_accepted(monkeypatch):
    monkeypatch.setattr(onnx_runtime.metadata, "version", lambda name: "0.13.0")
    onnx_runtime._refuse_fatal_operators(decoding_model())
