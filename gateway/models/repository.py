"""The model repository on disk: `<root>/<model>/<version>/`, with config.pbtxt and model.toml beside the versions.

Looks at names, links and configuration; never opens a model file. Whatever is wrong with one folder is that
folder's `problem`; the others are unaffected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.models.config import CONFIG_PBTXT, MODEL_TOML, NOTHING, ModelConfigError, Proto
from gateway.models.files import lies_inside, read_inside
from gateway.models.model_toml import ModelToml, parse_model_toml
from gateway.models.pbtxt import MAX_CONFIG_BYTES, parse_pbtxt
from gateway.models.texts import plain
from gateway.models.version_policy import missing_versions, select_versions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")  # as Triton: no sign, no leading zero; fits its int64

NAME_RULE = "a letter or digit, then up to 127 letters, digits or _ . - and no '..'"


def valid_name(name: str) -> bool:
    """Tell whether `name` may name a model. The same rule for folders and for requests."""
    return _NAME.fullmatch(name) is not None and ".." not in name


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model's folder as it is on disk.

    `versions` maps each version (decimal text) to what is wrong with its folder, "" where nothing is.
    `selected` are those of the version policy (missing `specific` ones included, with their problem).
    `problem` is set where the model cannot be served at all; `exists` is False where there is no such folder.
    """

    name: str
    path: Path
    written: Proto = field(default_factory=Proto)
    toml: ModelToml = field(default_factory=ModelToml)
    versions: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    selected: tuple[str, ...] = ()
    problem: str = ""
    exists: bool = True

    def problem_of(self, version: str) -> str:
        """Say why `version` cannot be loaded; "" where the folder is fine."""
        if self.problem:
            return self.problem
        problem = self.versions.get(version, f"there is no version folder {version}")
        return f"model '{self.name}': {problem}" if problem else ""


class ModelRepository:
    """Reads one root folder. Blocking: call it in a thread. Holds no state but the root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def scan(self) -> dict[str, ModelEntry]:
        """Read every model's folder, by name. Hidden folders and plain files are not models.

        Raises ModelConfigError where the root itself is no readable folder.
        """
        try:
            names = sorted(path.name for path in self.root.iterdir() if _looks_like_model(path))
        except OSError as error:
            raise ModelConfigError(f"model repository '{self.root}' cannot be read: {error.strerror}") from None
        return {entry.name: entry for entry in map(self.read, names)}

    def read(self, name: str) -> ModelEntry:
        """Read one model's folder. Never raises: what is wrong is the entry's `problem`."""
        if not valid_name(name):
            shown = plain(name, 128).replace("/", "?")
            problem = f"model '{shown}': the folder's name is no model name ({NAME_RULE})"
            return ModelEntry(shown, self.root / shown, problem=problem, exists=False)
        path = self.root / name
        if not path.is_dir():
            problem = f"model '{name}': there is no such folder in the model repository"
            return ModelEntry(name, path, problem=problem, exists=False)
        try:
            return self._read(name, path)
        except ModelConfigError as error:
            return ModelEntry(name, path, versions=self._versions_or_none(path), problem=str(error))
        except OSError as error:
            return ModelEntry(name, path, problem=f"model '{name}': cannot be read ({error.strerror})")

    def _read(self, name: str, path: Path) -> ModelEntry:
        if not lies_inside(path, self.root):
            raise ModelConfigError(f"model '{name}': its folder links to outside the model repository")
        written = parse_pbtxt(name, self._config_file(name, path, CONFIG_PBTXT))
        toml = parse_model_toml(name, self._config_file(name, path, MODEL_TOML))
        versions = self._versions(path)
        missing = missing_versions(written.version_policy, versions)
        versions |= {version: f"there is no version folder {version}" for version in missing}
        if not versions:
            raise ModelConfigError(f"model '{name}': has no version folder (1, 2, ...)")
        selected = select_versions(written.version_policy, versions)
        return ModelEntry(name, path, written, toml, versions, selected)

    def _versions(self, path: Path) -> dict[str, str]:
        """Map version folders to their problem. Other folders are ignored, as Triton does."""
        found = {}
        for folder in path.iterdir():
            if _VERSION.fullmatch(folder.name) and (folder.is_dir() or folder.is_symlink()):
                inside = lies_inside(folder, self.root)
                found[folder.name] = "" if inside else f"version folder {folder.name} links to outside the repository"
        return dict(sorted(found.items(), key=lambda item: int(item[0])))

    def _versions_or_none(self, path: Path) -> dict[str, str]:
        try:
            return self._versions(path) if lies_inside(path, self.root) else {}
        except OSError:
            return {}

    def _config_file(self, model: str, folder: Path, name: str) -> bytes:
        if not (folder / name).exists() and not (folder / name).is_symlink():
            return b""
        # Kubernetes mounts files as links to a hidden folder beside the models, so the root is the bound.
        if not lies_inside(folder / name, self.root):
            raise ModelConfigError(f"model '{model}': {name} links to outside the model repository")
        return read_inside((folder / name).resolve().parent, (folder / name).resolve().name, name, MAX_CONFIG_BYTES)


def _looks_like_model(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or path.is_symlink())
