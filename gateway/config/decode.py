"""Layers of raw values -> one nested dataclass, strictly. Pure.

Every problem of all layers is collected, so that one run names them all: the path of the key, what was
expected, what was there, and where it came from.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

FILLED = "filled"
"""Key of a section's field metadata: which of the section's fields are taken from which setting beside it."""

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line each, fit for an operator."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Layer:
    """Raw values of one source: dotted path -> (value, origin). `textual` values are text to be parsed."""

    values: Mapping[str, tuple[object, str]]
    textual: bool = False


class _Mismatch(Exception):
    """The value does not have the type; the text says what was expected."""


def leaves(settings: type, prefix: str = "", filled: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, type) of every setting, in the order they are written down.

    `filled` names fields that cannot be set, because the settings above fill them in.
    """
    hints = get_type_hints(settings)
    for item in fields(settings):
        path = f"{prefix}{item.name}"
        if is_dataclass(hints[item.name]):
            yield from leaves(hints[item.name], f"{path}.", item.metadata.get(FILLED, ()))
        elif item.name not in filled:
            yield path, hints[item.name]


def decode(settings: type, layers: Sequence[Layer]) -> tuple[Any, dict[str, str]]:
    """Build `settings` from layers in rising precedence, and say where each value came from; raise ConfigError."""
    known = dict(leaves(settings))
    values: dict[str, object] = {}
    origins = dict.fromkeys(known, "default")
    problems: list[str] = []
    for layer in layers:
        for path, (raw, origin) in layer.values.items():
            if path not in known:
                problems.append(_unknown(path, known, origin))
                continue
            try:
                values[path] = _convert(raw, known[path], layer.textual)
                origins[path] = origin
            except _Mismatch as error:
                problems.append(f"{path}: expected {error}, got {_shown(raw)} (from {origin})")
    built = _build(settings, values, problems)
    if problems:
        raise ConfigError(problems)
    return built, origins


def _build(settings: type, values: Mapping[str, object], problems: list[str], prefix: str = "") -> Any:
    """Make the dataclass from its leaf values; a ValueError of its own checks becomes a problem."""
    hints = get_type_hints(settings)
    given: dict[str, object] = {}
    for item in fields(settings):
        path = f"{prefix}{item.name}"
        if is_dataclass(hints[item.name]):
            given[item.name] = _build(hints[item.name], values, problems, f"{path}.")
        elif path in values:
            given[item.name] = values[path]
    try:
        return settings(**given)
    except ValueError as error:
        problems.append(f"{prefix}{error}")
        return None


def _unknown(path: str, known: Mapping[str, Any], origin: str) -> str:
    sections = {name.rpartition(".")[0] for name in known} - {""}
    if path in sections:
        return f"{path}: expected a table of settings (from {origin})"
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    if not near:  # the right name in the wrong section
        near = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]][:1]
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown key '{path}' (from {origin}){hint}"


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _convert(raw: object, hint: Any, textual: bool) -> object:
    """Return `raw` as a value of type `hint`; raise _Mismatch."""
    origin = get_origin(hint)
    if origin is Literal:
        return _one_of(raw, get_args(hint))
    if origin is tuple:
        return _sequence(raw, get_args(hint)[0], textual)
    if origin in (Union, types.UnionType):
        inner = next(option for option in get_args(hint) if option is not type(None))
        return None if textual and raw == "" else _convert(raw, inner, textual)
    return _SCALARS[hint](raw, textual)


def _one_of(raw: object, options: tuple[object, ...]) -> object:
    if raw not in options:
        raise _Mismatch(f"one of {', '.join(repr(option) for option in options)}")
    return raw


def _sequence(raw: object, hint: Any, textual: bool) -> tuple[object, ...]:
    if textual and isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    if not isinstance(raw, list | tuple):
        raise _Mismatch("a list")
    return tuple(_convert(part, hint, textual) for part in raw)


def _boolean(raw: object, textual: bool) -> bool:
    if textual and isinstance(raw, str):
        raw = _WORDS.get(raw.lower(), raw)
    if not isinstance(raw, bool):
        raise _Mismatch("true or false")
    return raw


def _whole(raw: object, textual: bool) -> int:
    if textual and isinstance(raw, str):
        try:
            raw = int(raw)
        except ValueError:
            raise _Mismatch("a whole number") from None
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise _Mismatch("a whole number")
    if raw < 0:
        raise _Mismatch("at least 0")
    return raw


def _number(raw: object, textual: bool) -> float:
    if textual and isinstance(raw, str):
        try:
            raw = float(raw)
        except ValueError:
            raise _Mismatch("a number") from None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise _Mismatch("a number")
    if raw < 0:
        raise _Mismatch("at least 0")
    return float(raw)


def _text(raw: object, _textual: bool) -> str:
    if not isinstance(raw, str):
        raise _Mismatch("text")
    return raw


def _path(raw: object, _textual: bool) -> Path:
    if isinstance(raw, Path):
        return raw
    if not isinstance(raw, str) or not raw:
        raise _Mismatch("a path")
    return Path(raw)


_SCALARS = {bool: _boolean, int: _whole, float: _number, str: _text, Path: _path}
"""The types a setting may have, beside Literal, `tuple[T, ...]` and `T | None`. No number here means below 0."""
