"""The command `gateway`. Modules here import only typer and the standard library at their top: `--help` stays quick."""

from __future__ import annotations

import sys

from gateway.cli import bench, check, config, infer, models, serve
from gateway.cli.root import Failure, app, debugging

__all__ = ["bench", "check", "config", "infer", "main", "models", "serve"]


def main() -> None:
    """Run the command line. Exit codes: 0 ok, 1 failure, 2 usage. Nobody sees a traceback unless they ask for it."""
    try:
        app()
    except Failure as error:
        if debugging():
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        if debugging():
            raise
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        print("This should not have happened; `gateway --debug ...` shows where it did.", file=sys.stderr)
        raise SystemExit(1) from None
