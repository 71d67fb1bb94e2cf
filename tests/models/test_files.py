"""Files are read inside the model's folder only; a digest tells a file, a fingerprint tells a change."""

import hashlib
import os

import pytest

from gateway.models.config import ModelConfigError
from gateway.models.files import digest, fingerprint, lies_inside, read_inside


def test_read_inside_gives_the_bytes(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("sub/a")
    assert read_inside(tmp_path, "sub/a", "it", 3) == b"abc"
    assert read_inside(tmp_path, "link", "it", 3) == b"abc"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/hostname", "inside the model's folder"),
        ("../up", "inside the model's folder"),
        ("a\0b", "'a?b' must be"),
        ("absent", "no file 'absent'"),
        ("folder", "no file 'folder'"),
        ("out", "links to outside"),
        ("loop", "no file 'loop'"),
        ("large", "larger than 4 bytes"),
        ("x" * 300, "cannot be read"),
    ],
)
def test_read_inside_refuses_what_is_not_a_small_file_there(tmp_path, name, words):
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (tmp_path / "up").write_text("secret")
    (home / "out").symlink_to(tmp_path / "up")
    (home / "loop").symlink_to(home / "loop")
    (home / "large").write_bytes(b"12345")
    with pytest.raises(ModelConfigError, match=r"^it: ") as raised:
        read_inside(home, name, "it", 4)
    assert words in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


def test_lies_inside_follows_links(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b")
    assert lies_inside(tmp_path / "a", tmp_path)
    assert lies_inside(tmp_path / "a" / "link", tmp_path)
    assert not lies_inside(tmp_path / "a" / "link", tmp_path / "a")
    assert not lies_inside(tmp_path / "absent", tmp_path)


def test_digest_is_sha256_and_size(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "model").write_bytes(content)
    assert digest(tmp_path / "model") == (hashlib.sha256(content).hexdigest(), len(content))
    assert digest(tmp_path) == ("", 0)


def test_fingerprint_changes_with_any_file(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model").write_bytes(b"a")
    before = fingerprint((tmp_path, tmp_path / "1"))
    assert fingerprint((tmp_path, tmp_path / "1")) == before
    (tmp_path / "config.pbtxt").write_bytes(b"")
    assert fingerprint((tmp_path, tmp_path / "1")) != before
