"""Configuration against the model: every disagreement is found before a session exists, and says what is where."""

import pytest

from gateway.models.check import check, check_padding
from gateway.models.complete import complete
from gateway.models.config import ModelConfigError, PaddingConfig
from gateway.models.pbtxt import parse_pbtxt

BOTH = "input { name: 'x' data_type: TYPE_FP32 dims: 4 } output { name: 'y' data_type: TYPE_FP32 dims: 4 }"


@pytest.fixture
def checked(facts):
    def run(text, inputs=("x:FP32:-1,4",), outputs=("y:FP32:-1,4",)):
        model = facts(inputs, outputs)
        check(complete(parse_pbtxt("m", text.encode()), model, "onnxruntime", "model.onnx"), model)

    return run


@pytest.mark.parametrize(
    ("text", "inputs", "outputs"),
    [
        ("", ["x:FP32:-1,4"], ["y:FP32:-1,4"]),
        (f"max_batch_size: 2 {BOTH}", ["x:FP32:-1,4"], ["y:FP32:-1,4"]),
        (f"max_batch_size: 2 {BOTH}", ["x:FP32:-1,-1"], ["y:FP32:-1,-1"]),
        (BOTH, ["x:FP32:4"], ["y:FP32:4"]),
        (f"max_batch_size: 2 {BOTH}", ["x:FP32:-1,4", "o?:FP32:-1,4"], ["y:FP32:-1,4", "unused:FP32:-1,1"]),
        (f"max_batch_size: 2 {BOTH}", ["x:FP32:-1,4"], ["y:FP32:-1"]),  # an output the graph gives no shape for
        ("max_batch_size: 2 output { name: 'y' dims: 1 reshape { shape: [] } }", ["x:FP32:-1,4"], ["y:INT64:-1"]),
        ("input { name: 'x' dims: [2, -1] reshape { shape: [-1, 2, 1] } }", ["x:FP32:-1,2,1"], ["y:FP32:4"]),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: [2, 4] }", ["x:FP32:-1,4"], ["y:FP32:-1,4"]),
    ],
)
def test_check_agreement_passes(checked, text, inputs, outputs):
    checked(text, inputs, outputs)


@pytest.mark.parametrize(
    ("text", "inputs", "outputs", "message"),
    [
        (
            "input { name: 'x' data_type: TYPE_FP32 dims: 4 }",
            ["x:INT64:1,4"],
            ["y:FP32:4"],
            "input 'x': config.pbtxt says TYPE_FP32 [4], the model has INT64 [1,4]",
        ),
        (
            f"max_batch_size: 2 {BOTH}",
            ["x:FP32:-1,3"],
            ["y:FP32:-1,4"],
            "input 'x': config.pbtxt says TYPE_FP32 [4] after the batch dimension, the model has FP32 [-1,3]",
        ),
        (
            f"max_batch_size: 2 {BOTH.replace('dims: 4 } output', 'dims: -1 } output')}",
            ["x:FP32:-1,3"],
            ["y:FP32:-1,4"],
            "input 'x': config.pbtxt says TYPE_FP32 [-1] after the batch dimension, the model has FP32 [-1,3]",
        ),
        (
            "max_batch_size: 2 output { name: 'y' dims: 1 reshape { shape: [] } }",
            ["x:FP32:-1,4"],
            ["y:FP32:-1,4"],
            (
                "output 'y': config.pbtxt says TYPE_FP32 [1] reshape [] after the batch dimension, "
                "the model has FP32 [-1,4]"
            ),
        ),
        (
            "input { name: 'z' }",
            ["x:FP32:-1,4", "w:FP32:-1,4"],
            ["y:FP32:-1,4"],
            "input 'z': not in the model; its inputs are 'x', 'w'",
        ),
        ("output { name: 'z' }", ["x:FP32:4"], ["y:FP32:4"], "output 'z': not in the model; its outputs are 'y'"),
        (
            BOTH,
            ["x:FP32:4", "w:FP32:4"],
            ["y:FP32:4"],
            "input 'w': the model needs it, config.pbtxt does not list it",
        ),
        (
            "input { name: 'x' optional: true }",
            ["x:FP32:4"],
            ["y:FP32:4"],
            "input 'x': config.pbtxt says optional, the model needs it",
        ),
        (
            "input [ { name: 'x' }, { name: 'x' } ]",
            ["x:FP32:4"],
            ["y:FP32:4"],
            "input 'x': listed twice in config.pbtxt",
        ),
        (
            "input { name: 'x' dims: [4, 0] }",
            ["x:FP32:4,0"],
            ["y:FP32:4"],
            "input 'x': config.pbtxt: dims must be -1 or more than 0, got [4,0]",
        ),
        (
            "input { name: 'x' dims: [2, 3] reshape { shape: [5] } }",
            ["x:FP32:5"],
            ["y:FP32:4"],
            "input 'x': config.pbtxt: dims [2,3] and reshape [5] do not hold the same elements",
        ),
        (
            "max_batch_size: 8",
            ["x:FP32:1,4"],
            ["y:FP32:-1,4"],
            (
                "config.pbtxt says max_batch_size 8, but input 'x' of the model has no variable first dimension: "
                "[1,4]; use max_batch_size: 0"
            ),
        ),
        (
            "max_batch_size: -1",
            ["x:FP32:-1,4"],
            ["y:FP32:-1,4"],
            "config.pbtxt: max_batch_size must be 0 or more, got -1",
        ),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: [2, 8] }",
            ["x:FP32:-1,4"],
            ["y:FP32:-1,4"],
            "config.pbtxt: dynamic_batching.preferred_batch_size must be between 1 and max_batch_size (4), got 8",
        ),
    ],
)
def test_check_disagreement_says_both_sides(checked, text, inputs, outputs, message):
    with pytest.raises(ModelConfigError) as raised:
        checked(text, inputs, outputs)
    assert str(raised.value) == f"model 'm': {message}"


def test_check_padding_needs_a_mask_input_with_a_variable_axis(facts):
    signature = facts(["ids:INT64:-1,-1", "mask:INT64:-1,-1", "image:FP32:-1,3"], ["y:FP32:-1,4"]).signature
    check_padding("m", None, signature)
    check_padding("m", PaddingConfig(1, (8, 16), "mask"), signature)
    with pytest.raises(ModelConfigError, match=r"padding\.mask 'attention' is no input; inputs are 'ids', 'mask'"):
        check_padding("m", PaddingConfig(1, (8,), "attention"), signature)
    with pytest.raises(
        ModelConfigError, match=r"padding\.axis 1 is not a variable dimension of input 'image' \[-1,3\]"
    ):
        check_padding("m", PaddingConfig(1, (8,), "image"), signature)
    with pytest.raises(ModelConfigError, match=r"padding\.axis 5"):
        check_padding("m", PaddingConfig(5, (8,), "mask"), signature)
