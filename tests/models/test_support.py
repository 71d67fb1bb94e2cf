"""What config.pbtxt asks for and the gateway cannot do is refused by name."""

import pytest

from gateway.models.config import ModelConfigError
from gateway.models.model_toml import ModelToml
from gateway.models.pbtxt import parse_pbtxt
from gateway.models.support import load_options, model_filename, refuse_unsupported, runtime_of


def config(text):
    return parse_pbtxt("m", text.encode())


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("ensemble_scheduling { step { model_name: 'a' model_version: 1 } }", "ensemble_scheduling"),
        ("sequence_batching { }", "sequence_batching"),
        ("batch_input { kind: BATCH_ELEMENT_COUNT }", "batch_input"),
        ("batch_output { target_name: 'y' }", "batch_output"),
        ("cc_model_filenames { key: '8.0' value: 'a.onnx' }", "cc_model_filenames"),
        ("model_operations { op_library_filename: 'x.so' }", "model_operations"),
        ("model_repository_agents { agents { name: 'checksum' } }", "model_repository_agents"),
        ("runtime: 'model.py'", "runtime"),
        ("model_transaction_policy { decoupled: true }", "model_transaction_policy.decoupled"),
        ("dynamic_batching { priority_levels: 2 }", "dynamic_batching.priority_levels"),
        ("dynamic_batching { default_priority_level: 2 }", "dynamic_batching.default_priority_level"),
        ("dynamic_batching { priority_queue_policy { key: 1 value { } } }", "dynamic_batching.priority_queue_policy"),
        (
            "dynamic_batching { default_queue_policy { timeout_action: DELAY } }",
            "dynamic_batching.default_queue_policy.timeout_action",
        ),
        ("instance_group { kind: KIND_MODEL }", "instance_group.kind"),
        ("instance_group { kind: KIND_GPU gpus: [0, 1] }", "instance_group.gpus"),
        ("instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]", "instance_group"),
        ("instance_group { count: 9999 }", "instance_group.count"),
        ("instance_group { passive: true }", "instance_group.passive"),
        ("instance_group { profile: 'p' }", "instance_group.profile"),
        ("instance_group { host_policy: 'p' }", "instance_group.host_policy"),
        ("instance_group { rate_limiter { priority: 1 } }", "instance_group.rate_limiter"),
        ("input { name: 'x' allow_ragged_batch: true }", "input 'x' allow_ragged_batch"),
        ("output { name: 'y' is_shape_tensor: true }", "output 'y' is_shape_tensor"),
        ("input { name: 'x' is_non_linear_format_io: true }", "input 'x' is_non_linear_format_io"),
    ],
)
def test_refuse_unsupported_field_is_named(text, field):
    with pytest.raises(ModelConfigError, match=r"^model 'm': config\.pbtxt: ") as raised:
        refuse_unsupported(config(text), "onnx")
    assert f"{field} is not supported: " in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "optimization { graph { level: 1 } }",
        "metric_tags { key: 'a' value: 'b' }",
        "parameters { key: 'a' value { string_value: 'b' } }",
        "model_warmup { name: 'w' batch_size: 1 }",
        "response_cache { enable: true }",
        "model_transaction_policy { decoupled: false }",
        "dynamic_batching { priority_levels: 1 default_priority_level: 1 }",
        "instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 kind: KIND_CPU } ]",
        "input { name: 'x' format: FORMAT_NCHW }",
    ],
)
def test_refuse_harmless_field_is_accepted(text):
    refuse_unsupported(config(text), "onnx")


def test_refuse_decoupled_on_echo_is_accepted():
    refuse_unsupported(config("model_transaction_policy { decoupled: true }"), "echo")


@pytest.mark.parametrize(
    ("text", "chosen", "kind"),
    [
        ("", "", "onnx"),
        ("backend: 'onnxruntime'", "", "onnx"),
        ("platform: 'onnxruntime_onnx'", "", "onnx"),
        ("backend: 'echo'", "", "echo"),
        ("backend: 'onnxruntime'", "echo", "echo"),
        ("backend: 'python'", "onnx", "onnx"),
    ],
)
def test_runtime_of_file_and_choice(text, chosen, kind):
    assert runtime_of(config(text), chosen) == kind


@pytest.mark.parametrize("text", ["backend: 'python'", "platform: 'tensorrt_plan'"])
def test_runtime_of_unknown_backend_lists_the_known(text):
    with pytest.raises(ModelConfigError, match=r"'onnxruntime', .*'echo'"):
        runtime_of(config(text), "")


def test_model_filename_default_and_chosen():
    assert model_filename(config(""), ModelToml()) == "model.onnx"
    assert model_filename(config("default_model_filename: 'a.onnx'"), ModelToml()) == "a.onnx"
    assert model_filename(config("backend: 'echo'"), ModelToml()) == "model.json"
    assert model_filename(config(""), ModelToml(runtime="other")) == ""


def test_load_options_device_and_instances():
    two_groups = config("instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 kind: KIND_CPU } ]")
    assert load_options(two_groups, ModelToml()).instances == 3
    assert load_options(two_groups, ModelToml(instances=5)).instances == 5
    assert load_options(config("instance_group { kind: KIND_GPU }"), ModelToml()).device == "cuda"
    assert load_options(config("instance_group { kind: KIND_GPU gpus: 1 }"), ModelToml()).device == "cuda:1"
    assert load_options(config(""), ModelToml(device="cuda:2", options={"a": "b"})).extra == {"a": "b"}
