"""Class labels from a file of the model's folder or from the ONNX metadata."""

import pytest

from gateway.models.config import ModelConfigError
from gateway.models.labels import find_labels
from gateway.models.pbtxt import parse_pbtxt


@pytest.fixture
def labels_of(tmp_path, facts):
    def run(text, metadata=None, outputs=("y:FP32:-1,3",)):
        return find_labels(
            tmp_path, parse_pbtxt("m", text.encode()), facts(["x:FP32:-1"], outputs, metadata=metadata or {})
        )

    return run


def named(file):
    return f'output {{ name: "y" label_filename: "{file}" }}'


def test_labels_file_has_one_label_a_line(labels_of, tmp_path):
    (tmp_path / "labels.txt").write_bytes("cat\r\ndög\n\nfish, big\n".encode())
    assert labels_of(named("labels.txt")) == {"y": ("cat", "dög", "", "fish, big")}


def test_labels_file_wins_over_metadata(labels_of, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb")
    assert labels_of(named("labels.txt"), {"labels": "c,d"}) == {"y": ("a", "b")}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("absent.txt", "no file 'absent.txt'"),
        ("../secret.txt", "inside the model's folder"),
        ("/etc/hostname", "inside the model's folder"),
        ("link.txt", "links to outside"),
        ("binary.txt", "not valid UTF-8"),
    ],
)
def test_labels_file_outside_absent_or_binary_is_refused(labels_of, tmp_path, file, words):
    (tmp_path.parent / "secret.txt").write_text("secret")
    (tmp_path / "link.txt").symlink_to(tmp_path.parent / "secret.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelConfigError) as raised:
        labels_of(named(file))
    message = str(raised.value)
    assert message.startswith("model 'm': config.pbtxt: label_filename of output 'y'")
    assert words in message
    assert "secret" not in message.replace("../secret.txt", "")
    assert str(tmp_path) not in message


@pytest.mark.parametrize(
    ("metadata", "outputs", "expected"),
    [
        ({"character": "0,90,180,270"}, ["y:FP32:-1,4"], {"y": ("0", "90", "180", "270")}),
        ({"labels": "a\nb, c\n"}, ["y:FP32:-1,2"], {"y": ("a", "b, c")}),
        ({"classes": "a,b"}, ["label:INT64:-1", "p:FP32:-1,2"], {"p": ("a", "b")}),
        ({"classes": "a,b"}, ["p:FP32:-1,-1", "q:FP32:-1,-1"], {"p": ("a", "b")}),
        ({"author": "a,b"}, ["y:FP32:-1,2"], {}),
        ({"labels": ""}, ["y:FP32:-1,2"], {}),
        ({"labels": "a,b"}, [], {}),
    ],
)
def test_labels_in_metadata_go_to_the_output_they_fit(labels_of, metadata, outputs, expected):
    assert labels_of("", metadata, outputs) == expected
