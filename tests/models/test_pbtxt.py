"""config.pbtxt: what parses, and how clearly the rest is refused."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.models.config import ModelConfigError
from gateway.models.pbtxt import MAX_CONFIG_BYTES, parse_pbtxt


def test_parse_full_triton_file_gives_its_fields():
    config = parse_pbtxt(
        "m",
        b"""
        # a comment
        name: "m"
        platform: "onnxruntime_onnx"
        max_batch_size: 8
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]
        output { name: "y", data_type: TYPE_STRING, dims: 1, label_filename: "labels.txt" }
        version_policy: { specific: { versions: [1, 3] } }
        dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100 }
        """,
    )
    assert config.max_batch_size == 8
    assert list(config.input[0].dims) == [3, -1]
    assert config.output[0].label_filename == "labels.txt"
    assert list(config.version_policy.specific.versions) == [1, 3]
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]


def test_parse_empty_file_takes_the_folders_name():
    assert parse_pbtxt("m", b"").name == "m"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"max_batch_size: 1\n dynamic_batch {}", ["line 2, column 2", '"dynamic_batch"']),
        (b'input [ { nam: "x" } ]', ["line 1", '"ModelInput"', '"nam"']),
        (b'max_batch_size: "x"', ["line 1", "integer"]),
        (b"max_batch_size: 99999999999", ["line 1", "out of range"]),
        (b"input { data_type: TYPE_FLOAT }", ["line 1", "TYPE_FLOAT"]),
        (b"input { dims: [1, 2", ["line 1"]),
        (b'name: "other"', ["'other'", "'m'"]),
        (b'name: "m"\nname: "m"', ["line 2", '"name"']),
        (b"\n\n\xff", ["line 3", "UTF-8"]),
        (b"{" * 3000, ["line 1"]),
        (b"# " + b"x" * MAX_CONFIG_BYTES, [f"at most {MAX_CONFIG_BYTES}"]),
    ],
)
def test_parse_faulty_file_names_model_line_and_field(text, words):
    with pytest.raises(ModelConfigError) as raised:
        parse_pbtxt("m", text)
    message = str(raised.value)
    assert message.startswith("model 'm': config.pbtxt")
    assert all(word in message for word in words), message
    assert len(message) < 500
    assert message.isprintable()


def refused(model, data):
    """How the refusal begins, "" where the file is fine."""
    try:
        parse_pbtxt(model, data)
    except ModelConfigError as error:
        return str(error)[: len("model 'm': config.pbtxt")] if str(error).isprintable() else repr(error)
    return ""


_FIELDS = st.sampled_from(
    [
        *[
            "name",
            "input",
            "output",
            "dims",
            "max_batch_size",
            "version_policy",
            "latest",
            "dynamic_batching",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "'",
            "#",
            "1",
            "-1",
            "nan",
        ],
        *['"m"', "TYPE_FP32", "\n", "\\x", "[a.b/c]", "0x", "\u2028", "true"],
    ]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=200), st.lists(_FIELDS, max_size=40).map(lambda parts: " ".join(parts).encode())))
def test_parse_any_bytes_gives_config_or_clear_error(data):
    assert refused("m", data) in ("", "model 'm': config.pbtxt")
