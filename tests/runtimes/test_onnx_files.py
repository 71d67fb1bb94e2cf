"""Files that must not be loaded, and what the operator is told."""

import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from runtimes.base import LoadFailed, LoadOptions, ModelSource
from runtimes.onnx_files import MAX_MESSAGE_CHARS, clean


def external_model(build, **entries):
    """y = x + w, where w (4 floats) lies outside of the file as `entries` say."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, text in entries.items():
        weight.external_data.add(key=key, value=text)
    return build.model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [build.value("x", "FP32", (4,))],
        [build.value("y", "FP32", (4,))],
        [weight],
    )


def reason(ask, source):
    """What LoadFailed said, "" where it loaded; anything else propagates."""
    try:
        ask(source, LoadOptions())
    except LoadFailed as error:
        return str(error)
    return ""


def refuse(runtime, source, said):
    for ask in (runtime.inspect, runtime.load):
        with pytest.raises(LoadFailed, match=said) as caught:
            ask(source, LoadOptions())
        assert str(source.root) not in str(caught.value)
        assert "onnxruntime_src" not in str(caught.value)


@pytest.fixture
def weights():
    return np.arange(4, dtype=np.float32)


async def test_external_data_beside_the_model_is_read(onnx_runtime, build, saved, weights, run):
    source = saved(external_model(build, location="data/w.bin", offset="16", length="16"))
    (source.root / "data").mkdir()
    (source.root / "data" / "w.bin").write_bytes(bytes(16) + weights.tobytes())

    facts = onnx_runtime.inspect(source, LoadOptions())
    result = await run(onnx_runtime.load(source, LoadOptions()), {"x": np.ones(4, np.float32)})

    assert [spec.name for spec in facts.signature.inputs] == ["x"]
    assert result["y"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "", "w\0.bin", "..\\w.bin", "."])
def test_external_data_elsewhere_is_refused(onnx_runtime, build, saved, weights, location):
    source = saved(external_model(build, location=location))
    (source.root.parent / "w.bin").write_bytes(weights.tobytes())

    refuse(onnx_runtime, source, r"external data of tensor 'w'")


def test_external_data_behind_a_hard_link_is_refused(onnx_runtime, build, saved, weights, tmp_path):
    source = saved(external_model(build, location="w.bin"))
    (tmp_path / "secret").write_bytes(weights.tobytes())
    os.link(tmp_path / "secret", source.root / "w.bin")

    refuse(onnx_runtime, source, "plain file with one name")


def test_external_data_behind_a_symlink_is_refused(onnx_runtime, build, saved, weights, tmp_path):
    source = saved(external_model(build, location="w.bin"))
    (tmp_path / "secret").write_bytes(weights.tobytes())
    (source.root / "w.bin").symlink_to(tmp_path / "secret")

    refuse(onnx_runtime, source, "plain file with one name")


def test_external_data_behind_a_linked_folder_is_refused(onnx_runtime, build, saved, weights, tmp_path):
    source = saved(external_model(build, location="data/w.bin"))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "w.bin").write_bytes(weights.tobytes())
    (source.root / "data").symlink_to(tmp_path / "secrets")

    refuse(onnx_runtime, source, "is not a folder")


def test_external_data_that_is_missing_is_refused(onnx_runtime, build, saved):
    refuse(onnx_runtime, saved(external_model(build, location="w.bin")), "'w.bin' cannot be read")


@pytest.mark.parametrize(
    ("offset", "length", "said"),
    [("8", "16", "reach beyond"), ("-8", "16", "reach beyond"), ("0", str(2**62), "reach beyond"), ("x", "1", "whole")],
)
def test_external_data_beyond_its_file_is_refused(onnx_runtime, build, saved, weights, offset, length, said):
    source = saved(external_model(build, location="w.bin", offset=offset, length=length))
    (source.root / "w.bin").write_bytes(weights.tobytes())

    refuse(onnx_runtime, source, said)


def test_external_data_of_a_constant_in_a_subgraph_is_checked(onnx_runtime, build, saved):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../w.bin")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor)], "b", [], [build.value("c", "FP32", (1,))]
    )
    model = build.model(
        [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)],
        [build.value("x", "BOOL", ())],
        [build.value("y", "FP32", (1,))],
    )

    refuse(onnx_runtime, saved(model), "external data of tensor 'w'")


def test_model_file_linked_from_outside_is_refused(onnx_runtime, build, saved, tmp_path):
    source = saved(build.identity(("FP32", (-1,))))
    source.path.rename(tmp_path / "elsewhere.onnx")
    source.path.symlink_to(tmp_path / "elsewhere.onnx")

    refuse(onnx_runtime, source, "outside the model repository")


def test_folder_instead_of_a_file_is_refused(onnx_runtime, tmp_path):
    refuse(onnx_runtime, ModelSource("m", "1", tmp_path, tmp_path), "is not a file")


def test_truncated_file_is_refused_or_loads_whole(onnx_runtime, build, saved):
    content = build.identity(("FP32", (-1, 4)), ("INT64", (-1,))).SerializeToString()
    refused = 0
    for length in range(len(content)):
        source = saved(content[:length])
        said = reason(onnx_runtime.inspect, source)
        refused += bool(said)
        assert str(source.root) not in said
    assert refused > 0.8 * len(content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), noise=st.binary(min_size=1, max_size=6))
def test_mutated_file_loads_or_is_refused_but_never_raises_otherwise(onnx_runtime, build, saved, position, noise):
    content = bytearray(build.identity(("FP32", (-1, 4)), ("BYTES", (-1,))).SerializeToString())
    at = int(position * len(content))
    content[at : at + len(noise)] = noise
    source = saved(bytes(content))

    for ask in (onnx_runtime.inspect, onnx_runtime.load):
        said = reason(ask, source)
        assert str(source.root) not in said
        assert len(said) < MAX_MESSAGE_CHARS + 100


def test_checker_errors_become_load_failures(onnx_runtime, build, saved):
    model = build.model(
        [helper.make_node("Conv", ["x", "missing"], ["y"])],
        [build.value("x", "FP32", (1, 1, 4, 4))],
        [build.value("y", "FP32", (1, 1, 4, 4))],
    )

    refuse(onnx_runtime, saved(model), r"model\.onnx: .*missing")


def test_unknown_operator_is_a_load_failure(onnx_runtime, build, saved):
    model = build.model(
        [helper.make_node("Frobnicate", ["x"], ["y"])],
        [build.value("x", "FP32", (1,))],
        [build.value("y", "FP32", (1,))],
    )

    refuse(onnx_runtime, saved(model), "Frobnicate")


def test_future_ir_version_is_a_load_failure(onnx_runtime, build, saved):
    model = build.identity(("FP32", (1,)))
    model.ir_version = 999

    refuse(onnx_runtime, saved(model), r"(?i)ir.version")


ORT = "/onnxruntime_src/onnxruntime/core/"


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        (
            (
                "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code.\n"
                f"Status Message: {ORT}a.cc:12 void f(const std::vector<int>&) it broke (badly)"
            ),
            "Non-zero status code. Status Message: it broke (badly)",
        ),
        (
            (
                f"[ONNXRuntimeError] : 1 : FAIL : Load model from model.onnx failed:{ORT}graph/model.cc:181 "
                "onnxruntime::Model::Model(onnx::ModelProto&&, const logging::Logger&) Unsupported model IR version: 99"
            ),
            "Unsupported model IR version: 99",
        ),
        (
            f"{ORT}ort_value.h:97 const T& OrtValue::Get() const [with T = onnxruntime::TensorSeq] it is none",
            "it is none",
        ),
        (
            "tensorprotoutils.cc:1609 Validate Initializer 'w': count (128) is off",
            "Initializer 'w': count (128) is off",
        ),
        ("in node '/encoder/layers.0/MatMul' (4)", "in node '/encoder/layers.0/MatMul' (4)"),
    ],
)
def test_clean_keeps_the_message_and_drops_where_it_was_made(foreign, shown):
    assert clean(RuntimeError(foreign)) == shown


def test_clean_is_bounded_and_never_empty():
    assert len(clean(RuntimeError("x" * 10_000))) == MAX_MESSAGE_CHARS + 3
    assert clean(RuntimeError("")) == "RuntimeError"
    assert "UTF-8" in clean(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))


def test_models_saved_by_onnx_itself_load(onnx_runtime, build, tmp_path):
    model = build.identity(("FP32", (-1,)))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True)

    onnx_runtime.load(ModelSource("m", "1", tmp_path / "model.onnx", tmp_path), LoadOptions())
