"""Read small files of a model's folder without leaving it. A link that points outside is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gateway.models.config import ModelConfigError
from gateway.models.texts import plain

_CHUNK_BYTES = 1 << 20


def lies_inside(path: Path, folder: Path) -> bool:
    """Tell whether `path`, with every link followed, lies in `folder` (itself with every link followed)."""
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return False


def read_inside(folder: Path, name: str, what: str, limit_bytes: int) -> bytes:
    """Read `name` in `folder`. Raises ModelConfigError (starting with `what`) where it is outside, absent or larger."""
    shown = plain(name, 128)
    path = folder / name
    if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ModelConfigError(f"{what}: '{shown}' must be a file name inside the model's folder")
    try:
        if not path.is_file():
            raise ModelConfigError(f"{what}: there is no file '{shown}'")
        if not lies_inside(path, folder):
            raise ModelConfigError(f"{what}: '{shown}' links to outside the model's folder")
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise ModelConfigError(f"{what}: '{shown}' cannot be read ({error.strerror})") from None
    if len(data) > limit_bytes:
        raise ModelConfigError(f"{what}: '{shown}' is larger than {limit_bytes} bytes")
    return data


def digest(path: Path) -> tuple[str, int]:
    """Return SHA-256 (hex) and size in bytes of a file; ("", 0) for a folder. Blocking. Raises OSError."""
    if not path.is_file():
        return "", 0
    sha256, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
            size += len(chunk)
    return sha256.hexdigest(), size


def fingerprint(folders: tuple[Path, ...]) -> tuple[tuple[str, int, int], ...]:
    """List (name, size, modification ns) of the files directly in `folders`: equal means nothing changed."""
    found = []
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                facts = path.stat()
                found.append((f"{folder.name}/{path.name}", facts.st_size, facts.st_mtime_ns))
    return tuple(found)
