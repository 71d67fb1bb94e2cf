"""Auto-completion by Triton's rules."""

import pytest

from gateway.core.oip import model_config_pb2
from gateway.models.complete import complete, public_signature
from gateway.models.pbtxt import parse_pbtxt
from runtimes.base import TensorSpec

INPUT = "input { name: 'x' data_type: TYPE_FP32 dims: 4 } "
OUTPUT = "output { name: 'y' data_type: TYPE_FP32 dims: 4 } "


@pytest.fixture
def completed(facts):
    def make(text="", inputs=("x:FP32:-1,4",), outputs=("y:FP32:-1,4",)):
        return complete(parse_pbtxt("m", text.encode()), facts(inputs, outputs), "onnxruntime", "model.onnx")

    return make


def test_complete_absent_file_takes_everything_from_the_model(completed):
    config = completed("", ["x:FP32:-1,3,-1", "s:BYTES:-1,1"], ["y:INT64:-1,2"])
    assert config.max_batch_size == 4
    assert config.HasField("dynamic_batching")
    assert [(t.name, list(t.dims)) for t in config.input] == [("x", [3, -1]), ("s", [1])]
    assert model_config_pb2.DataType.Name(config.input[1].data_type) == "TYPE_STRING"
    assert (config.platform, config.backend) == ("onnxruntime_onnx", "onnxruntime")
    assert config.default_model_filename == "model.onnx"
    assert config.version_policy.latest.num_versions == 1


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["x:FP32:1,4"], ["y:FP32:-1,4"]),
        (["x:FP32:-1,4"], ["y:FP32:1,4"]),
        (["x:FP32:-1,4", "k:INT64:"], ["y:FP32:-1,4"]),
    ],
)
def test_complete_model_with_a_fixed_first_dimension_does_not_batch(completed, inputs, outputs):
    config = completed("", inputs, outputs)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [int(d) for d in inputs[0].split(":")[2].split(",")]


def test_complete_full_file_without_scheduler_does_not_merge(completed):
    config = completed(f"max_batch_size: 8 {INPUT} {OUTPUT}")
    assert config.max_batch_size == 8
    assert not config.HasField("dynamic_batching")


def test_complete_full_file_without_batch_size_stays_unbatched(completed):
    assert completed(f"{INPUT.replace('4', '[-1, 4]')} {OUTPUT.replace('4', '[-1, 4]')}").max_batch_size == 0


@pytest.mark.parametrize(
    ("text", "size", "merged"),
    [
        ("max_batch_size: 8", 8, True),
        ("max_batch_size: 1", 1, False),
        (f"max_batch_size: 8 {INPUT}", 8, True),
        ("max_batch_size: 8 sequence_batching { }", 8, False),
    ],
)
def test_complete_partial_file_gets_the_batcher(completed, text, size, merged):
    config = completed(text)
    assert config.max_batch_size == size
    assert config.HasField("dynamic_batching") == merged
    assert [list(t.dims) for t in (*config.input, *config.output)] == [[4], [4]]


def test_complete_entry_without_type_and_dims_is_filled(completed):
    config = completed("max_batch_size: 2 input { name: 'x' } output { name: 'y' data_type: TYPE_FP32 }")
    assert config.input[0].data_type == config.output[0].data_type
    assert [list(config.input[0].dims), list(config.output[0].dims)] == [[4], [4]]
    assert not config.HasField("dynamic_batching")


def test_complete_one_value_per_row_is_reshaped_as_in_triton(completed, facts):
    config = completed("", ["x:FP32:-1,4"], ["label:INT64:-1"])
    assert list(config.output[0].dims) == [1]
    assert config.output[0].HasField("reshape")
    signature = public_signature(config, facts(["x:FP32:-1,4"], ["label:INT64:-1"]).signature)
    assert signature.outputs == (TensorSpec("label", "INT64", (-1, 1)),)


def test_complete_optional_input_is_said(completed):
    assert [t.optional for t in completed("", ["x:FP32:-1,4", "o?:FP32:-1,2"]).input] == [False, True]


def test_public_signature_follows_the_file_in_the_models_order(facts):
    config = complete(
        parse_pbtxt(
            "m",
            b"max_batch_size: 2 input [ { name: 'b' dims: 7 }, { name: 'a' dims: 4 } ] output { name: 'y' dims: 4 }",
        ),
        model := facts(["a:FP32:-1,4", "b:INT64:-1,-1"], ["y:FP32:-1,4", "extra:FP32:-1,9"]),
        "onnxruntime",
        "model.onnx",
    )
    signature = public_signature(config, model.signature)
    assert [(spec.name, spec.shape) for spec in signature.inputs] == [("a", (-1, 4)), ("b", (-1, 7))]
    assert [spec.name for spec in signature.outputs] == ["y"]
