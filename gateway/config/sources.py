"""Read the configuration file, the environment and the flags into layers, and load them all."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config.decode import ConfigError, Layer, decode
from gateway.config.settings import Settings

PREFIX = "GATEWAY_"
DEFAULT_FILE = Path("gateway.toml")
RESERVED = {"GATEWAY_CONFIG", "GATEWAY_URL", "GATEWAY_ADMIN_URL", "GATEWAY_ADMIN_KEY_FILE"}
"""Variables of the command line itself: where the file is, where a running gateway is."""

# Kubernetes sets variables of this form for a Service called gateway (or gateway-admin, ...):
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$")
_SERVICE_URL = re.compile(r"^(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, the origin of each value by dotted path, and the file that was read (None if there is none)."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


def load(
    file: Path | None = None,
    flags: Mapping[str, object] | None = None,
    assignments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Load the settings; raise ConfigError naming every problem.

    `file` None = `GATEWAY_CONFIG`, else ./gateway.toml where there is one. `flags` maps dotted paths to values,
    None = not given. `assignments` are texts `path=value`. `environment` None = the process's own.
    """
    variables = os.environ if environment is None else environment
    path = _file(file, variables)
    given = {name: (value, "flag") for name, value in (flags or {}).items() if value is not None}
    layers = [
        Layer(_read(path) if path else {}),
        Layer(_environment(variables), textual=True),
        Layer(_assigned(assignments), textual=True),
        Layer(given),
    ]
    settings, origins = decode(Settings, layers)
    return Loaded(settings, origins, path)


def variable(name: str) -> str:
    """Return one of the RESERVED variables, "" where it is not set."""
    return os.environ.get(name, "") if name in RESERVED else ""


def _file(file: Path | None, variables: Mapping[str, str]) -> Path | None:
    if file is None and variables.get("GATEWAY_CONFIG"):
        file = Path(variables["GATEWAY_CONFIG"])
    if file is None:
        return DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    return file


def _read(path: Path) -> dict[str, tuple[object, str]]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"configuration file {path} cannot be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"configuration file {path} is not valid TOML: {error}"]) from None
    return {name: (value, str(path)) for name, value in _flat(table, "")}


def _flat(table: Mapping[str, Any], prefix: str) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _assigned(assignments: Sequence[str]) -> dict[str, tuple[object, str]]:
    found: dict[str, tuple[object, str]] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError([f"--set: expected PATH=VALUE, got {text!r}"])
        found[name.strip()] = (value.strip(), "flag --set")
    return found


def _environment(variables: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    found: dict[str, tuple[object, str]] = {}
    for name, value in sorted(variables.items()):
        if not name.startswith(PREFIX) or name in RESERVED:
            continue
        if _SERVICE_LINK.search(name) or _SERVICE_URL.match(value):
            continue
        found[name[len(PREFIX) :].lower().replace("__", ".")] = (value, f"environment {name}")
    return found
