"""One model's folder on disk: written beside, swapped in whole, stamped with the digest of what went in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from pathlib import Path
from string import Template

from . import Made, Recipe

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE.parent / "templates"
STAMP = ".built.json"


def input_digest(recipe: Recipe) -> str:
    """Return the SHA-256 over everything the result depends on: recipes, pins, templates, package versions."""
    digest = hashlib.sha256()
    sources = [*HERE.glob("*.py"), HERE.parent / "pins.toml", *(TEMPLATES / recipe.name).iterdir()]
    for path in sorted(sources):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    for package in recipe.packages:
        digest.update(f"{package} {_version(package)}\n".encode())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def is_built(folder: Path, digest: str) -> bool:
    """Tell whether `folder` holds what the digest's inputs give: the stamp agrees, each file has its size."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
        sizes = {name: (folder / name).stat().st_size for name in stamp["sizes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(stamp["digest"] == digest and stamp["sizes"] == sizes)


def write(folder: Path, recipe: Recipe, made: Made, digest: str) -> None:
    """Write the model's folder, with the facts filled into the templates, and swap it in for the old one."""
    texts = {path.name: path.read_text() for path in sorted((TEMPLATES / recipe.name).iterdir())}
    files = {name: Template(text).substitute(made.facts).encode() for name, text in texts.items()} | dict(made.files)
    sums = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files) if name.endswith(".onnx")}
    files["SHA256SUMS"] = "".join(f"{value}  {name}\n" for name, value in sums.items()).encode()
    if "MODEL_CARD.md" in files:
        files["MODEL_CARD.md"] = _card(files, sums)
    sizes = {name: len(content) for name, content in files.items()}
    files[STAMP] = json.dumps({"digest": digest, "sizes": sizes}, indent=1, sort_keys=True).encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        for name, content in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _card(files: dict[str, bytes], sums: dict[str, str]) -> bytes:
    """Append the table of the model's files to its card."""
    rows = [f"| {name} | {len(files[name]):,} | `{value}` |" for name, value in sums.items()]
    table = ["", "## Files", "", "| file | bytes | SHA-256 |", "|---|---|---|", *rows, ""]
    return files["MODEL_CARD.md"] + "\n".join(table).encode()
