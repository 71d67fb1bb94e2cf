"""Reading the repository folder: what is a model, what is a version, and what is wrong with the rest."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.models.config import ModelConfigError
from gateway.models.repository import ModelRepository, valid_name


@pytest.fixture
def scan(folder):
    return lambda: ModelRepository(folder.root).scan()


def test_scan_finds_models_versions_and_policy(folder, scan):
    folder.echo("a", [1, 2, 10])
    folder.echo("b", [1, 2], pbtxt="version_policy { all {} }")
    entries = scan()
    assert list(entries) == ["a", "b"]
    assert list(entries["a"].versions) == ["1", "2", "10"]
    assert entries["a"].selected == ("10",)
    assert entries["b"].selected == ("1", "2")
    assert entries["b"].problem_of("2") == ""
    assert entries["b"].problem_of("3") == "model 'b': there is no version folder 3"


def test_scan_ignores_files_hidden_folders_and_odd_version_names(folder, scan):
    folder.echo("a", ["1", "01", "0", "-1", "x", "1.5", "warmup", "9" * 19])
    folder.write("README.md", "text")
    folder.write(".git/config", "text")
    folder.write("a/2", "a file, no folder")
    assert list(scan()) == ["a"]
    assert list(scan()["a"].versions) == ["1"]


def test_scan_reads_model_toml_beside_the_config(folder, scan):
    folder.echo("a", toml="default_timeout_ms = 5\n[client.input]\nkind = 'bytes'")
    assert scan()["a"].toml.default_timeout_ms == 5
    assert scan()["a"].toml.client.input == {"kind": "bytes"}


@pytest.mark.parametrize("name", ["a b", "-a", ".a", "a..b", "é", "x" * 129, "", "a/b", "..", "a\n"])
def test_valid_name_refuses(name):
    assert not valid_name(name)


@pytest.mark.parametrize("name", ["a", "9", "A.b-c_d", "x" * 128])
def test_valid_name_accepts(name):
    assert valid_name(name)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=150))
def test_read_any_name_stays_in_the_root(name):
    read = ModelRepository(Path("/nonexistent/root")).read(name)
    assert not read.exists
    assert read.problem
    assert "/nonexistent" not in read.problem
    assert read.problem.isprintable()


def test_scan_bad_folders_are_reported_and_the_others_served(folder, scan):
    folder.echo("good")
    (folder.root / "bad name").mkdir()
    (folder.root / "empty").mkdir()
    folder.echo("typo", pbtxt="max_batch: 1")
    folder.echo("key", toml="speed = 1")
    folder.echo("gap", pbtxt="version_policy { specific { versions: [1, 5] } }")
    entries = scan()
    problems = {name: entry.problem for name, entry in entries.items()}
    assert problems["good"] == problems["gap"] == ""
    assert problems["bad name"].startswith("model 'bad name': the folder's name is no model name (")
    assert problems["empty"] == "model 'empty': has no version folder (1, 2, ...)"
    assert problems["typo"].startswith("model 'typo': config.pbtxt line 1")
    assert list(entries["typo"].versions) == ["1"]
    assert problems["key"] == "model 'key': model.toml: unknown key 'speed'"
    assert entries["gap"].selected == ("1", "5")
    assert entries["gap"].problem_of("5") == "model 'gap': there is no version folder 5"
    assert all(str(folder.root) not in problem for problem in problems.values())


def test_scan_links_out_of_the_root_are_refused(folder, scan, tmp_path):
    outside = tmp_path / "outside"
    (outside / "1").mkdir(parents=True)
    (outside / "config.pbtxt").write_text('name: "secret"')
    (folder.root / "linked").symlink_to(outside)
    folder.echo("version")
    (folder.root / "version" / "2").symlink_to(outside / "1")
    folder.echo("config")
    (folder.root / "config" / "config.pbtxt").unlink()
    (folder.root / "config" / "config.pbtxt").symlink_to(outside / "config.pbtxt")
    (folder.root / "dangling").symlink_to(tmp_path / "nowhere")
    entries = scan()
    assert entries["linked"].problem == "model 'linked': its folder links to outside the model repository"
    assert entries["linked"].versions == {}
    assert "version folder 2 links to outside" in entries["version"].problem_of("2")
    assert entries["version"].problem_of("1") == ""
    assert entries["config"].problem == "model 'config': config.pbtxt links to outside the model repository"
    assert not entries["dangling"].exists


def test_scan_links_inside_the_root_are_followed(folder, scan):
    folder.echo(".data")
    (folder.root / "mounted").symlink_to(".data")
    folder.echo("files")
    (folder.root / "files" / "config.pbtxt").unlink()
    folder.write(".store/config.pbtxt", 'backend: "echo" max_batch_size: 3')
    (folder.root / "files" / "config.pbtxt").symlink_to("../.store/config.pbtxt")
    entries = scan()
    assert entries["mounted"].problem == entries["files"].problem == ""
    assert entries["files"].written.max_batch_size == 3


def test_scan_root_that_is_no_folder_is_an_error(tmp_path):
    with pytest.raises(ModelConfigError, match="cannot be read: No such file"):
        ModelRepository(tmp_path / "absent").scan()


def test_read_config_that_is_a_folder_is_a_problem(folder, scan):
    folder.echo("a", pbtxt="")
    (folder.root / "a" / "config.pbtxt").mkdir()
    assert "config.pbtxt" in scan()["a"].problem
