import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Settings, document, example, load
from gateway.config.decode import leaves

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy/gateway.example.toml"


def flat(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def uncommented():
    """The example with its settings switched on, as somebody who edits it would do."""
    lines = []
    for line in example().splitlines():
        body = line.removeprefix("# ")
        is_setting = line.startswith("# ") and body.partition(" = ")[0].isidentifier() and " = " in body
        lines.append(body if is_setting else line)
    return "\n".join(lines)


def test_the_document_names_every_setting_and_is_json():
    shown = document(Settings())
    assert set(flat(shown)) == {path for path, _ in leaves(Settings)}
    assert json.loads(json.dumps(shown)) == shown


def test_secrets_are_redacted_and_files_of_secrets_are_not():
    @dataclass(frozen=True)
    class Store:
        password: str = "hunter2"
        password_file: str = "somewhere"
        api_key: str = ""

    assert document(Store()) == {"password": "***", "password_file": "somewhere", "api_key": ""}


def test_the_example_in_the_tree_is_current():
    assert EXAMPLE.read_text() == example()


def test_the_example_as_it_is_changes_nothing(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(example())
    assert load(path, environment={}).settings == Settings()


def test_the_example_switched_on_names_every_setting_with_its_default(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(uncommented())
    assert set(flat(tomllib.loads(uncommented()))) == {path for path, _ in leaves(Settings)}
    assert load(path, environment={}).settings == Settings()
