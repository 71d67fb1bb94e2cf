import json
import shlex

from gateway.cli import banner
from runtimes.base import ModelSignature, TensorSpec


def signature(*inputs):
    return ModelSignature(inputs, (TensorSpec("y", "FP32", (-1, 1)),))


SMALL = signature(TensorSpec("x", "FP32", (-1, 4)))
LARGE = signature(TensorSpec("x", "FP32", (-1, 3, 224, 224)))
TEXT = signature(TensorSpec("s", "BYTES", (-1, 1)), TensorSpec("k", "INT64", (-1, 1), optional=True))


def test_the_shortest_example_is_picked():
    assert banner.pick({"large": LARGE, "small": SMALL}) == "small"
    assert banner.pick({"text": TEXT, "small": SMALL}) == "text"


def test_a_model_too_large_to_paste_is_no_example():
    assert banner.pick({"large": LARGE}) == ""
    assert banner.pick({}) == ""


def test_the_curl_lines_carry_valid_json():
    lines = banner.lines("small", banner.specs(SMALL), "h:1", "h:2")
    v2 = shlex.split(lines["V2 JSON"])
    assert v2[2] == "http://h:1/v2/models/small/infer"
    assert json.loads(v2[-1])["inputs"][0]["shape"] == [1, 4]
    v1 = shlex.split(lines["V1"])
    assert json.loads(v1[-1]) == {"instances": [[0.0, 0.0, 0.0, 0.0]]}


def test_the_grpc_line_is_a_program():
    for found in (SMALL, TEXT, signature(TensorSpec("b", "BF16", (-1, 2)))):
        line = banner.lines("m", banner.specs(found), "h:1", "h:2")["gRPC"]
        python, flag, program = shlex.split(line)
        assert (python, flag) == ("python", "-c")
        compile(program, "line", "exec")


def test_optional_inputs_are_left_out():
    assert [spec["name"] for spec in banner.specs(TEXT)] == ["s"]


def test_the_v1_line_is_left_out_where_there_are_several_inputs():
    two = signature(TensorSpec("a", "FP32", (-1, 1)), TensorSpec("b", "FP32", (-1, 1)))
    assert "V1" not in banner.lines("m", banner.specs(two), "h:1", "h:2")
