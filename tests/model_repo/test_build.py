"""The build script: what it makes, skips and leaves alone."""

import hashlib
import json
import subprocess
import sys

import pytest

TRAINED = ("tabular_cancer", "digits")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_building_again_gives_the_same_bytes(build, repository, tmp_path):
    done = build("--only", *TRAINED, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in TRAINED:
        assert contents(tmp_path / name) == contents(repository / name)


def test_what_is_built_stays_as_it_is(build, repository):
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*.onnx")}
    done = build()
    lines = [line for line in done.stdout.splitlines() if "skipped" not in line]
    assert len(before) >= 5  # without any package index
    assert all(line.endswith("up to date") for line in lines)
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*.onnx")} == before


def test_nothing_heavy_is_imported_when_all_is_built(repository):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import build; "
        "build.main(['--only', 'tabular_cancer', 'digits']); "
        "print({'numpy', 'onnx', 'sklearn', 'skl2onnx', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(repository.parent)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_model_that_cannot_be_fetched_is_skipped_and_the_rest_is_built(build, tmp_path):
    arguments = ("--only", "filetype", "digits", "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    done = build(*arguments, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert (done.returncode, done.stderr) == (0, "")
    assert "skipped: magika==0.6.1 cannot be downloaded" in lines["filetype"]
    assert not (tmp_path / "out" / "filetype").exists()
    assert (tmp_path / "out" / "digits" / "2" / "model.onnx").is_file()


def test_a_model_whose_training_packages_are_absent_is_skipped(repository, tmp_path):
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.path.insert(0, sys.argv[1]); import build; "
        "sys.exit(build.main(['--only', 'digits', '--out', sys.argv[2]]))"
    )
    command = [sys.executable, "-c", code, str(repository.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "digits" in done.stdout
    assert "skipped: needs the package that provides 'sklearn" in done.stdout


@pytest.mark.parametrize("damage", ["lost", "cut", "restamped"])
def test_a_damaged_folder_is_built_again(build, tmp_path, damage):
    build("--bench", "--only", "tiny", "--out", tmp_path)
    whole = contents(tmp_path / "tiny")
    model, stamp = tmp_path / "tiny" / "1" / "model.onnx", tmp_path / "tiny" / ".built.json"
    if damage == "lost":
        model.unlink()
    elif damage == "cut":
        model.write_bytes(b"")
    else:
        stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"digest": "older"}))
    done = build("--bench", "--only", "tiny", "--out", tmp_path)
    assert "built in" in done.stdout
    assert contents(tmp_path / "tiny") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", ".lock"}


def test_a_failed_rebuild_leaves_the_earlier_build(build, tmp_path):
    (tmp_path / "filetype").mkdir()
    (tmp_path / "filetype" / "kept").touch()
    done = build("--only", "filetype", "--out", tmp_path, "--cache", tmp_path / "c", PIP_NO_INDEX="1")
    assert done.stdout.strip().endswith("; the earlier build stays")
    assert (tmp_path / "filetype" / "kept").exists()


def test_force_builds_what_is_up_to_date(build, tmp_path):
    build("--bench", "--only", "tiny", "--out", tmp_path)
    assert "built in" in build("--bench", "--only", "tiny", "--out", tmp_path, "--force").stdout


def test_an_unknown_model_is_named(build, tmp_path):
    done = build("--only", "digits", "nonsense", "--out", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown model: nonsense" in done.stderr


def test_every_version_has_its_sum_and_a_row_on_the_card(repository):
    for folder in models(repository):
        sums = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
        card = (folder / "MODEL_CARD.md").read_text()
        assert sums.keys() == {str(path.relative_to(folder)) for path in folder.rglob("*.onnx")}
        for name, value in sums.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == value
            assert value in card
        assert "$" not in card
        assert "Licence" in card


def models(repository):
    return [path for path in repository.iterdir() if path.is_dir()]
