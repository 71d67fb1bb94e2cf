"""model.toml: strict, and every refusal names the key."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.models.config import ModelConfigError
from gateway.models.model_toml import ModelToml, parse_model_toml
from gateway.models.pbtxt import MAX_CONFIG_BYTES


def test_parse_all_keys_are_read():
    toml = parse_model_toml(
        "m",
        b"""
        runtime = "onnx"
        device = "cuda:1"
        custom_ops = ["onnxruntime-extensions"]
        batch_dependent_rows = true
        default_timeout_ms = 250
        instances = 3
        warm_up = false
        [padding]
        axis = 1
        buckets = [16, 32]
        mask = "attention_mask"
        [client.input]
        kind = "image"
        size = [224, 224]
        [options]
        graph = "all"
        """,
    )
    assert (toml.runtime, toml.device, toml.instances, toml.warm_up) == ("onnx", "cuda:1", 3, False)
    assert toml.padding is not None
    assert toml.padding.buckets == [16, 32]
    assert toml.client.input == {"kind": "image", "size": [224, 224]}
    assert toml.options == {"graph": "all"}


def test_parse_empty_file_is_all_defaults():
    assert parse_model_toml("m", b"") == ModelToml()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"speed = 1", ["unknown key 'speed'"]),
        (b"[padding]\naxis=1\nbuckets=[1]\nmask='m'\nmode=1", ["unknown key 'padding.mode'"]),
        (b"[client]\noutput = {}", ["unknown key 'client.output'"]),
        (b"instances = 'two'", ["key 'instances'", "`int`", "`str`"]),
        (b"instances = -1", ["key 'instances'", ">= 0"]),
        (b"device = 'tpu'", ["key 'device'"]),
        (b"default_timeout_ms = 99999999999", ["key 'default_timeout_ms'"]),
        (b"[padding]\naxis=0\nbuckets=[1]\nmask='m'", ["key 'padding.axis'"]),
        (b"[padding]\naxis=1\nbuckets=[4,2]\nmask='m'", ["key 'padding.buckets'", "increasing"]),
        (b"[padding]\naxis=1\nbuckets=[]\nmask='m'", ["key 'padding.buckets'"]),
        (b"[padding]\naxis=1\nbuckets=[1]", ["padding", "`mask`"]),
        (b"[options]\nthreads = 3", ["key 'options", "`str`"]),
        (b"a = \n", ["line 1"]),
        (b"\n\xff", ["line 2", "UTF-8"]),
        (b"a = " + b"[" * 5000, ["model.toml"]),
        (b"# " + b"x" * MAX_CONFIG_BYTES, [f"at most {MAX_CONFIG_BYTES}"]),
    ],
)
def test_parse_faulty_file_names_model_and_key(text, words):
    with pytest.raises(ModelConfigError) as raised:
        parse_model_toml("m", text)
    message = str(raised.value)
    assert message.startswith("model 'm': model.toml")
    assert all(word in message for word in words), message


def refused(model, data):
    """How the refusal begins, "" where the file is fine."""
    try:
        parse_model_toml(model, data)
    except ModelConfigError as error:
        return str(error)[: len("model 'm': model.toml")] if str(error).isprintable() else repr(error)
    return ""


_PARTS = st.sampled_from(
    [
        *[
            "runtime",
            "padding",
            "axis",
            "buckets",
            "client",
            "input",
            "options",
            "instances",
            "=",
            "[",
            "]",
            "{",
            "}",
            ".",
            ",",
            "#",
            "\\",
            "é",
            "1",
            "-1",
            "1e999",
            "nan",
            "true",
        ],
        *["'a'", '"b"', "\n", "1979-05-27", "9" * 30],
    ]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=200), st.lists(_PARTS, max_size=40).map(lambda parts: "".join(parts).encode())))
def test_parse_any_bytes_gives_table_or_clear_error(data):
    assert refused("m", data) in ("", "model 'm': model.toml")


_LEAVES = st.one_of(st.integers(), st.booleans(), st.floats(), st.text(max_size=5))
_LISTS = st.lists(_LEAVES, max_size=3)
_VALUES = st.one_of(_LEAVES, _LISTS, st.dictionaries(st.sampled_from("abc"), _LISTS | _LEAVES, max_size=3))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ModelToml.__struct_fields__), _VALUES)
def test_parse_any_value_of_a_known_key_gives_table_or_clear_error(key, value):
    def written(value):
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dict):
            return "{" + ", ".join(f'"{name}" = {written(inner)}' for name, inner in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(written, value)) + "]"
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"' if isinstance(value, str) else repr(value)

    assert refused("m", f"{key} = {written(value)}".encode()) in ("", "model 'm': model.toml")
