"""What all commands share: the typer application, failures, settings, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway import __version__

if TYPE_CHECKING:
    from gateway.config import Loaded

app = typer.Typer(
    name="gateway",
    help="Serve models over the Open Inference Protocol: HTTP and gRPC, dynamic batching, interchangeable runtimes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file. Default: ./gateway.toml where there is one.")
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Any other setting; see `gateway config show`.")
]
Repository = Annotated[Path | None, typer.Option("--model-repository", help="Folder of models, Triton's layout.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MACHINE_WIDTH = 400
"""Columns where the output is no terminal: nothing is wrapped that somebody might grep."""

_state = {"debug": False}


class Failure(Exception):
    """The command failed; the text tells the user why. `exit_code` is 1, or 2 where the usage is wrong."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def debugging() -> bool:
    """Tell whether the user asked for tracebacks."""
    return _state["debug"]


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    _state["debug"] = debug


def settings(
    file: Path | None = None, flags: Mapping[str, object] | None = None, assignments: Sequence[str] | None = None
) -> Loaded:
    """Load the settings; a configuration that cannot be used is a usage error that names every problem."""
    from gateway.config import ConfigError, load

    try:
        return load(file, flags, assignments or ())
    except ConfigError as error:
        raise Failure("\n  ".join(["the configuration cannot be used", *error.problems]), exit_code=2) from None


def print_json(value: Any) -> None:
    """Print a value as JSON for machines: indented, one document."""
    print(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; cells are plain text."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = MACHINE_WIDTH
    console.print(table)
