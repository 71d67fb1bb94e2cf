"""Show settings: the effective document, redacted, and the commented example file made from the types."""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from gateway.config.decode import FILLED
from gateway.config.settings import Settings

REDACTED = "***"
_SECRET = re.compile(r"(^|_)(password|secret|token|key|pepper)$")
"""Fields of such names are never shown; a `..._file` names where the secret is and is shown."""


def document(settings: Any, filled: Collection[str] = ()) -> dict[str, Any]:
    """Return the effective settings as JSON-ready nested dictionaries, secrets redacted, without `filled` fields."""
    shown: dict[str, Any] = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        if is_dataclass(value):
            shown[item.name] = document(value, item.metadata.get(FILLED, ()))
        elif item.name in filled:
            continue
        elif _SECRET.search(item.name) and value:
            shown[item.name] = REDACTED
        else:
            shown[item.name] = _plain(value)
    return shown


def example() -> str:
    """Return a commented gateway.toml that names every setting with its default."""
    lines = [
        "# Every setting with its default. Written by `gateway config example`.",
        "# Flag > environment (GATEWAY_HTTP_PORT, GATEWAY_RUNTIME__INTRA_OP_THREADS) > this file > default.",
        "",
    ]
    lines += _example_section(Settings(), "", ())
    return "\n".join(lines).rstrip() + "\n"


def _example_section(settings: Any, prefix: str, filled: Collection[str]) -> Iterator[str]:
    comments = _comments(type(settings))
    nested: list[tuple[str, Any, Collection[str]]] = []
    for item in fields(settings):
        value = getattr(settings, item.name)
        if is_dataclass(value):
            nested.append((item.name, value, item.metadata.get(FILLED, ())))
            continue
        if item.name in filled:
            continue
        above, behind = comments.get(item.name, ([], ""))
        yield from (f"# {line}" for line in above)
        yield f"# {item.name} = {_toml(value)}{f'  # {behind}' if behind else ''}"
    for name, value, taken in nested:
        yield ""
        yield from (f"# {line}" for line in _docstring(type(value)))
        yield f"[{prefix}{name}]"
        yield from _example_section(value, f"{prefix}{name}.", taken)


def _docstring(settings: type) -> list[str]:
    paragraphs = inspect.cleandoc(settings.__doc__ or "").split("\n\n")
    return [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, 110)]


def _comments(settings: type) -> dict[str, tuple[list[str], str]]:
    """Find each field's comments: the lines right above it, and what stands behind it."""
    source = textwrap.dedent(inspect.getsource(settings))
    comments = {
        token.start[0]: (token.string.lstrip("# ").rstrip(), token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, tuple[list[str], str]] = {}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - inspect.getsource of a class
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above: list[str] = []
            line = node.lineno - 1
            while line in comments and comments[line][1]:
                above.insert(0, comments[line][0])
                line -= 1
            found[node.target.id] = (above, comments.get(node.lineno, ("", False))[0])
    return found


def _plain(value: object) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _toml(value: object) -> str:
    """Write a default as TOML: what JSON and TOML have in common."""
    return json.dumps(_plain(value))
