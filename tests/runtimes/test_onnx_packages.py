"""Custom operators from the allow-list, and devices that are not there."""

import sys

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from runtimes.base import LoadFailed, LoadOptions


def shouting(build):
    return build.model(
        [helper.make_node("StringUpper", ["x"], ["y"], domain="ai.onnx.contrib")],
        [build.value("x", "BYTES", (-1,))],
        [build.value("y", "BYTES", (-1,))],
        domains=("ai.onnx.contrib",),
    )


async def test_allowed_custom_operators_run(onnx_runtime, build, saved, run):
    source, options = saved(shouting(build)), LoadOptions(custom_ops=("onnxruntime-extensions",))

    facts = onnx_runtime.inspect(source, options)
    result = await run(onnx_runtime.load(source, options), {"x": np.array([b"quiet"], np.object_)})

    assert facts.signature.inputs[0].datatype == "BYTES"
    assert "ai.onnx.contrib=1" in facts.metadata["onnx.opset"]
    assert result["y"].tolist() == [b"QUIET"]


def test_custom_operators_need_to_be_asked_for(onnx_runtime, build, saved):
    with pytest.raises(LoadFailed, match=r"StringUpper.*custom_ops names their package: onnxruntime-extensions"):
        onnx_runtime.load(saved(shouting(build)), LoadOptions())


@pytest.mark.parametrize("package", ["/elsewhere/evil.so", "../x.so", "onnxruntime_extensions", "numpy", ""])
def test_custom_operators_outside_the_allow_list_are_refused(onnx_runtime, build, saved, package):
    source, options = saved(shouting(build)), LoadOptions(custom_ops=(package,))

    for ask in (onnx_runtime.inspect, onnx_runtime.load):
        with pytest.raises(LoadFailed, match="not allowed; allowed are onnxruntime-extensions"):
            ask(source, options)


def test_custom_operators_whose_package_is_missing_say_what_to_install(onnx_runtime, build, saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)

    with pytest.raises(LoadFailed, match="install the extra 'extensions'"):
        onnx_runtime.load(saved(shouting(build)), LoadOptions(custom_ops=("onnxruntime-extensions",)))


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cpu:1", "", "cuda:-1"])
def test_unknown_device_is_a_load_failure(onnx_runtime, build, saved, device):
    for ask in (onnx_runtime.inspect, onnx_runtime.load):
        with pytest.raises(LoadFailed, match=r"device .* is unknown"):
            ask(saved(build.identity(("FP32", (1,)))), LoadOptions(device=device))


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_a_cuda_build_is_a_load_failure(onnx_runtime, build, saved, device, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])

    with pytest.raises(LoadFailed, match=f"device '{device}' needs onnxruntime-gpu"):
        onnx_runtime.load(saved(build.identity(("FP32", (1,)))), LoadOptions(device=device))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_that_cannot_be_started_is_a_load_failure(onnx_runtime, build, saved, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])

    with pytest.raises(LoadFailed, match="device 'cuda': CUDA could not be started"):
        onnx_runtime.load(saved(build.identity(("FP32", (1,)))), LoadOptions(device="cuda"))
