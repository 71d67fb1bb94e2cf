"""Validation: Triton's words for each fault, and rows that can be trusted for all that passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code
from gateway.core.types import RequestedOutput
from gateway.dataplane.validate import ValidateStage

TWO = ("a:FP32:-1,2", "b:INT64:-1,3")


@pytest.fixture
def check(version, request_for, seen):
    """Validate a request against a version; answers the request, and whether it went on."""

    def run(*inputs, declared=TWO, oversize=None, batch=8, optional=(), **fields):
        servable = version(declared, batch=batch, optional_inputs=frozenset(optional))
        request = request_for(*inputs, **fields)
        ValidateStage(servable, seen.stage, oversize)(request)
        return request

    return run


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_sound_request_goes_on_with_its_rows(check, seen, rows):
    request = check(f"b:INT64:{rows},3", f"a:FP32:{rows},2")
    assert seen.requests == [request]
    assert (request.rows, request.outcome, request.shape_key) == (rows, None, None)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            ["a:FP32:1,2"],
            (
                "expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['a'], but missing required input(s) "
                "['b']. Please provide all required input(s)."
            ),
        ),
        (
            [],
            (
                "expected 2 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing required input(s) "
                "['a', 'b']. Please provide all required input(s)."
            ),
        ),
        ([*("a:FP32:1,2", "b:INT64:1,3"), "c:FP32:1,2"], "unexpected inference input 'c' for model 'm'"),
        (
            ["a:FP32:1,2", "b:INT32:1,3"],
            "inference input 'b' data-type is 'INT32', but model 'm' expects 'INT64'",
        ),
        (
            ["a:FP32:1,5", "b:INT64:1,3"],
            "unexpected shape for input 'a' for model 'm'. Expected [-1,2], got [1,5]. ",
        ),
        (["a:FP32:2", "b:INT64:1,3"], "unexpected shape for input 'a' for model 'm'. Expected [-1,2], got [2]. "),
        (
            ["a:FP32:1,2,1", "b:INT64:1,3"],
            "unexpected shape for input 'a' for model 'm'. Expected [-1,2], got [1,2,1]. ",
        ),
        (["a:FP32:", "b:INT64:1,3"], "unexpected shape for input 'a' for model 'm'. Expected [-1,2], got []. "),
        (["a:FP32:2,2", "b:INT64:1,3"], "input 'b' batch size does not match other inputs for 'm'"),
        (["a:FP32:0,2", "b:INT64:0,3"], "inference request batch-size must be >= 1 for 'm'"),
        (["a:FP32:9,2", "b:INT64:9,3"], "inference request batch-size must be <= 8 for 'm'"),
    ],
)
def test_fault_is_named_in_triton_s_words(check, seen, inputs, message):
    for id_, shown in (("r-7", "r-7"), ("", "<id_unknown>")):
        request = check(*inputs, id=id_)
        assert request.outcome.code is Code.INVALID_ARGUMENT
        assert request.outcome.message == f"[request id: {shown}] {message}"
    assert seen.requests == []


@pytest.mark.parametrize("outputs", [["z"], ["y", "z"], [RequestedOutput("z", classification=2)]])
def test_output_the_model_lacks_is_named(check, seen, outputs):
    request = check("a:FP32:1,2", "b:INT64:1,3", outputs=outputs)
    assert request.outcome.message == "[request id: <id_unknown>] unexpected inference output 'z' for model 'm'"
    assert seen.requests == []


def test_output_the_model_has_is_accepted(check, seen):
    request = check("a:FP32:1,2", "b:INT64:1,3", outputs=["y"])
    assert seen.requests == [request]
    assert request.on_outcome == []


def test_wish_for_classes_is_noted_for_the_answer(check):
    assert len(check("a:FP32:1,2", "b:INT64:1,3", outputs=[RequestedOutput("y", classification=1)]).on_outcome) == 1


def test_more_rows_than_a_batch_go_where_they_are_divided(check, seen):
    divided = []
    request = check("a:FP32:9,2", "b:INT64:9,3", oversize=divided.append)
    assert (divided, seen.requests, request.rows) == ([request], [], 9)
    fits = check("a:FP32:8,2", "b:INT64:8,3", oversize=divided.append)
    assert (divided, seen.requests) == ([request], [fits])


def test_unbatched_model_takes_its_shapes_as_they_are(check, seen):
    request = check("a:FP32:2,2", "b:INT64:5,3", declared=("a:FP32:2,2", "b:INT64:-1,3"), batch=0)
    assert (seen.requests, request.rows) == ([request], 1)


def test_scalar_input_of_an_unbatched_model_is_accepted(check, seen):
    assert seen.requests == [check("s:INT64:", declared=("s:INT64:",), batch=0)]


VARIABLE = ("a:FP32:-1,-1", "b:FP32:-1,2")


def test_only_equal_row_shapes_may_share_a_batch(check):
    def key(*inputs):
        return check(*inputs, declared=VARIABLE).shape_key

    base = key("a:FP32:1,3", "b:FP32:1,2")
    assert base is not None
    assert key("b:FP32:4,2", "a:FP32:4,3") == base  # neither order nor rows matter
    assert key("a:FP32:1,4", "b:FP32:1,2") != base


def test_requests_with_other_optional_inputs_do_not_share_a_batch(check, seen):
    keys = [
        check(*inputs, declared=TWO, optional={"b"}).shape_key
        for inputs in (["a:FP32:1,2"], ["a:FP32:1,2", "b:INT64:1,3"])
    ]
    assert len(seen.requests) == 2
    assert keys[0] != keys[1]


def test_required_inputs_are_missed_beside_optional_ones(check):
    request = check("b:INT64:1,3", declared=TWO, optional={"b"})
    assert "missing required input(s) ['a']" in request.outcome.message


def test_request_without_any_of_its_optional_inputs_is_refused_not_executed(check, seen):
    request = check(declared=("a:FP32:-1,2",), optional={"a"})
    assert request.outcome.code is Code.INVALID_ARGUMENT
    assert seen.requests == []


texts = st.builds(
    lambda name, kind, dims: f"{name}:{kind}:{','.join(map(str, dims))}",
    st.sampled_from("abc"),
    st.sampled_from(["FP32", "INT64"]),
    st.lists(st.integers(0, 4), max_size=3),
)
declared = st.sampled_from(
    [TWO, VARIABLE, ("a:FP32:-1,2",), ("a:FP32:-1,-1", "b:INT64:-1,-1,2"), ("a:FP32:-1", "b:FP32:-1")]
)


@given(
    declared, st.lists(texts, max_size=3), st.integers(0, 3), st.booleans(), st.sets(st.sampled_from("ab"), max_size=1)
)
def test_whatever_passes_has_consistent_rows(version, request_for, declared, inputs, batch, divide, optional):
    servable = version(declared, batch=batch, optional_inputs=frozenset(optional))
    specs = {spec.name: spec for spec in servable.signature.inputs}
    passed, divided = [], []
    request = request_for(*inputs)
    ValidateStage(servable, passed.append, divided.append if divide and batch else None)(request)
    assert len(passed) + len(divided) + (request.outcome is not None) == 1  # exactly one thing happens
    if request.outcome is not None:
        assert request.outcome.code is Code.INVALID_ARGUMENT
        return
    assert set(specs) - optional <= set(request.inputs) <= set(specs)
    for name, tensor in request.inputs.items():
        wanted = specs[name].shape
        assert tensor.datatype == specs[name].datatype
        assert len(tensor.array.shape) == len(wanted)
        assert all(want in (-1, got) for want, got in zip(wanted, tensor.array.shape, strict=True))
        if batch:
            assert tensor.array.shape[0] == request.rows
    assert request.rows >= 1
    if passed and batch:
        assert request.rows <= batch
    if divided:
        assert request.rows > batch
