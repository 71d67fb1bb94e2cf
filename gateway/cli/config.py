"""`gateway config`: show the effective configuration and where each value came from; print the commented example."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import root

config_app = typer.Typer(help="The configuration: what is in effect, and where it came from.", no_args_is_help=True)
root.app.add_typer(config_app, name="config")


@config_app.command("show")
def show(
    file: root.ConfigFile = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    as_json: root.AsJson = False,
    assign: root.Assignments = None,
) -> None:
    """Print the effective settings, secrets redacted."""
    from gateway.config import document

    loaded = root.settings(file, assignments=assign)
    values = dict(_flat(document(loaded.settings)))
    if as_json and origin:
        root.print_json({path: {"value": value, "origin": loaded.origins[path]} for path, value in values.items()})
    elif as_json:
        root.print_json(document(loaded.settings))
    elif origin:
        root.print_table(["SETTING", "VALUE", "ORIGIN"], [(p, _text(v), loaded.origins[p]) for p, v in values.items()])
    else:
        root.print_table(["SETTING", "VALUE"], [(path, _text(value)) for path, value in values.items()])


@config_app.command("example")
def print_example() -> None:
    """Print a commented gateway.toml with every setting and its default."""
    from gateway.config import example

    print(example(), end="")


def _flat(table: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
