"""What can be known of an ONNX file without executing it."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtimes.base import LoadFailed, LoadOptions
from runtimes.onnx_rows import row_dependence

X = ("x", "FP32", (-1, 3, 4, 4))


def image_model(build, node, *initializers, opset=17, outputs=("y",), domains=()):
    return build.model(
        [node],
        [build.value(*X)],
        [build.value(name, "FP32", (-1, 3, 4, 4)) for name in outputs],
        initializers,
        opset=opset,
        domains=domains,
    )


def channels(*names):
    return [numpy_helper.from_array(np.ones(3, np.float32), name) for name in names]


def batch_norm(build, opset=17, outputs=("y",), **attributes):
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], list(outputs), **attributes)
    return image_model(build, node, *channels("s", "b", "m", "v"), opset=opset)


def quantised(build):
    weights = numpy_helper.from_array(np.ones((4, 2), np.uint8), "w")
    zero = numpy_helper.from_array(np.zeros((), np.uint8), "wz")
    return build.model(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            helper.make_node("MatMulInteger", ["q", "w", "zero", "wz"], ["i"]),
            helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["f", "scale"], ["y"]),
        ],
        [build.value("x", "FP32", (-1, 4))],
        [build.value("y", "FP32", (-1, 2))],
        [weights, zero],
    )


def test_lineage_and_platform_are_told(onnx_runtime, build, saved):
    model = build.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [build.value("x", "FP32", ("N", 4))],
        [build.value("y", "FP32", ("N", 4))],
        producer_name="pytorch",
        producer_version="2.4",
        domain="org.example",
        model_version=7,
    )
    helper.set_model_props(model, {"author": "someone", "dataset": "d1"})

    facts = onnx_runtime.inspect(saved(model), LoadOptions())

    assert facts.platform == "onnxruntime_onnx"
    assert facts.signature.inputs[0].shape == (-1, 4)
    assert dict(facts.metadata) == {
        "author": "someone",
        "dataset": "d1",
        "onnx.producer": "pytorch 2.4",
        "onnx.domain": "org.example",
        "onnx.model_version": "7",
        "onnx.ir_version": "9",
        "onnx.opset": "ai.onnx=17",
    }


def test_weights_listed_as_inputs_are_not_inputs(onnx_runtime, build, saved):
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    model = build.model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [build.value("x", "FP32", (-1, 4)), build.value("w", "FP32", (4,))],
        [build.value("y", "FP32", (-1, 4))],
        [weight],
    )

    facts = onnx_runtime.inspect(saved(model), LoadOptions())

    assert [spec.name for spec in facts.signature.inputs] == ["x"]


def shapeless(build, node, *inputs):
    model = build.model([node], [build.value(*spec) for spec in inputs], [build.value("y", "FP32", (1,))])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def test_output_without_a_shape_is_inferred(onnx_runtime, build, saved):
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])

    facts = onnx_runtime.inspect(saved(shapeless(build, node, ("x", "FP32", (-1, 4)))), LoadOptions())

    assert facts.signature.outputs[0].shape == (4, -1)


def test_output_that_cannot_be_inferred_is_one_unknown_dimension(onnx_runtime, build, saved):
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    model = shapeless(build, node, ("x", "FP32", (-1,)), ("shape", "INT64", (-1,)))

    facts = onnx_runtime.inspect(saved(model), LoadOptions())

    assert facts.signature.outputs[0].shape == (-1,)


def test_input_without_a_shape_is_refused(onnx_runtime, build, saved):
    model = build.identity(("FP32", (1,)))
    model.graph.input[0].type.tensor_type.ClearField("shape")

    with pytest.raises(LoadFailed, match="INPUT0' has no shape"):
        onnx_runtime.load(saved(model), LoadOptions())


def test_sequence_output_is_refused_by_name(onnx_runtime, build, saved):
    sequence = helper.make_tensor_sequence_value_info("probabilities", TensorProto.FLOAT, None)
    model = build.model(
        [helper.make_node("SequenceConstruct", ["x"], ["probabilities"])], [build.value("x", "FP32", (1,))], [sequence]
    )

    for ask in (onnx_runtime.inspect, onnx_runtime.load):
        with pytest.raises(LoadFailed, match=r"output 'probabilities' is a sequence, not a tensor.*zipmap"):
            ask(saved(model), LoadOptions())


def test_unsupported_element_type_is_refused_by_name(onnx_runtime, build, saved):
    model = build.model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E4M3FN)],
        [build.value("x", "FP32", (1,))],
        [build.value("y", TensorProto.FLOAT8E4M3FN, (1,))],
        opset=19,
    )

    with pytest.raises(LoadFailed, match="output 'y' has element type FLOAT8E4M3FN"):
        onnx_runtime.inspect(saved(model), LoadOptions())


def test_dynamic_quantisation_makes_rows_dependent(onnx_runtime, build, saved):
    facts = onnx_runtime.inspect(saved(quantised(build)), LoadOptions())

    assert facts.row_independent is False
    assert facts.row_dependence == "DynamicQuantizeLinear, MatMulInteger"


async def test_dynamic_quantisation_really_changes_a_row_by_its_company(onnx_runtime, build, saved, run):
    instance = onnx_runtime.load(saved(quantised(build)), LoadOptions())
    row = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)

    alone = (await run(instance, {"x": row}))["y"][0]
    together = (await run(instance, {"x": np.concatenate([row, row * 1000])}))["y"][0]

    assert not np.array_equal(alone, together)


def test_float_model_is_row_independent(onnx_runtime, build, saved):
    facts = onnx_runtime.inspect(saved(build.identity(("FP32", (-1, 4)))), LoadOptions())

    assert (facts.row_independent, facts.row_dependence) == (True, "")


@pytest.mark.parametrize(
    ("opset", "outputs", "attributes", "dependent"),
    [
        (17, ("y",), {}, False),
        (17, ("y",), {"training_mode": 0}, False),
        (17, ("y", "rm", "rv"), {"training_mode": 1}, True),
        (9, ("y",), {}, False),
        (9, ("y", "m2", "v2", "sm", "sv"), {}, True),
        (6, ("y",), {"is_test": 1}, False),
        (6, ("y",), {}, True),
    ],
)
def test_batch_normalisation_depends_on_rows_in_training_form(build, opset, outputs, attributes, dependent):
    model = batch_norm(build, opset, outputs, **attributes)

    assert row_dependence(model) == ("BatchNormalization" if dependent else "")


@pytest.mark.parametrize(("axes", "dependent"), [(None, True), ([0, 2, 3], True), ([2, 3], False)])
def test_mean_variance_normalisation_depends_on_rows_over_the_batch_axis(build, axes, dependent):
    attributes = {} if axes is None else {"axes": axes}
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], **attributes)

    assert bool(row_dependence(image_model(build, node))) is dependent


@pytest.mark.parametrize(("training", "dependent"), [(True, True), (False, False), (None, False)])
def test_dropout_depends_on_rows_when_it_trains(build, training, dependent):
    names, constants = ["x"], []
    if training is not None:
        names = ["x", "", "t"]
        constants = [numpy_helper.from_array(np.array(training), "t")]

    assert bool(row_dependence(image_model(build, helper.make_node("Dropout", names, ["y"]), *constants))) is dependent


def test_dropout_switched_by_a_tensor_may_train(build):
    node = helper.make_node("Dropout", ["x", "", "switch"], ["y"])

    assert row_dependence(image_model(build, node)) == "Dropout"


def test_random_and_vendor_operators_are_named_with_their_domain(build):
    model = build.model(
        [
            helper.make_node("RandomNormalLike", ["x"], ["r"]),
            helper.make_node("DynamicQuantizeMatMul", ["r", "w", "s", "z"], ["y"], domain="com.microsoft"),
        ],
        [build.value("x", "FP32", (-1, 4))],
        [build.value("y", "FP32", (-1, 4))],
        domains=("com.microsoft",),
    )

    assert row_dependence(model) == "RandomNormalLike, com.microsoft.DynamicQuantizeMatMul"


def test_operators_in_subgraphs_and_functions_are_found(build):
    inner = helper.make_graph(
        [helper.make_node("RandomUniformLike", ["x"], ["r"])], "b", [], [build.value("r", "FP32", (1,))]
    )
    branch = helper.make_graph(
        [helper.make_node("If", ["c"], ["r2"], then_branch=inner, else_branch=inner)],
        "b2",
        [],
        [build.value("r2", "FP32", (1,))],
    )
    model = build.model(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        [build.value("c", "BOOL", ()), build.value("x", "FP32", (1,))],
        [build.value("y", "FP32", (1,))],
    )
    assert row_dependence(model) == "RandomUniformLike"

    function = helper.make_function(
        "own", "F", ["a"], ["b"], [helper.make_node("Bernoulli", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model = build.identity(("FP32", (1,)))
    model.functions.append(function)
    assert row_dependence(model) == "Bernoulli"


def test_operators_in_a_list_of_subgraphs_are_found(build):
    inner = helper.make_graph(
        [helper.make_node("Multinomial", ["x"], ["r"])], "b", [], [build.value("r", "INT64", (1,))]
    )
    model = build.model(
        [helper.make_node("Choose", ["x"], ["y"], domain="own", branches=[inner, inner])],
        [build.value("x", "FP32", (1,))],
        [build.value("y", "FP32", (1,))],
        domains=("own",),
    )

    assert row_dependence(model) == "Multinomial"
