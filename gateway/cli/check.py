"""`gateway check`: would it start, and which models would serve? Reads everything, starts and writes nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.cli import root

if TYPE_CHECKING:
    from gateway.models.config import ModelConfig
    from gateway.models.repository import ModelEntry
    from runtimes.base import ModelFacts, Runtime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would become of one version. `version` is "" where the whole folder is at fault."""

    model: str
    version: str
    ok: bool
    detail: str


@root.app.command("check")
def check(
    config: root.ConfigFile = None,
    model_repository: root.Repository = None,
    assign: root.Assignments = None,
    as_json: root.AsJson = False,
) -> None:
    """Check configuration and model repository without starting. Exit code 1 where something is wrong."""
    from gateway.config import document

    try:
        loaded = root.settings(config, {"model_repository": model_repository}, assign)
    except root.Failure as error:
        raise root.Failure(str(error)) from None
    found = list(verdicts(loaded.settings.model_repository))
    if as_json:
        root.print_json(
            {
                "ok": all(verdict.ok for verdict in found),
                "settings": document(loaded.settings),
                "models": [asdict(verdict) for verdict in found],
            }
        )
    else:
        root.print_json(document(loaded.settings))
        rows = [(v.model, v.version, "ok" if v.ok else "PROBLEM", v.detail) for v in found]
        root.print_table(["MODEL", "VERSION", "VERDICT", "DETAIL"], rows)
    if not all(verdict.ok for verdict in found):
        raise typer.Exit(1)


def verdicts(repository: Path) -> Iterator[Verdict]:
    """Inspect every version that would be served; raise Failure where the repository itself cannot be read."""
    from gateway.models.config import ModelConfigError
    from gateway.models.repository import ModelRepository
    from runtimes import open_runtime

    runtime_for = functools.cache(lambda kind: open_runtime(kind, executor_threads=1))
    try:
        entries = ModelRepository(repository).scan()
    except ModelConfigError as error:
        raise root.Failure(str(error)) from None
    for entry in entries.values():
        if entry.problem:
            yield Verdict(entry.name, "", ok=False, detail=entry.problem)
        for version in () if entry.problem else entry.selected:
            yield _verdict(entry, version, runtime_for)


def _verdict(entry: ModelEntry, version: str, runtime_for: Callable[[str], Runtime]) -> Verdict:
    from gateway.models.config import ModelConfigError
    from gateway.models.opening import inspect_version
    from runtimes.base import LoadFailed

    try:
        inspected = inspect_version(entry, version, runtime_for)
    except (ModelConfigError, LoadFailed) as error:
        return Verdict(entry.name, version, ok=False, detail=str(error))
    except OSError as error:
        return Verdict(entry.name, version, ok=False, detail=f"cannot be read ({error.strerror})")
    return Verdict(entry.name, version, ok=True, detail=_summary(inspected.config, inspected.facts))


def _summary(config: ModelConfig, facts: ModelFacts) -> str:
    """Say how the version would be served."""
    parts = [f"runtime {config.runtime}"]
    if config.max_batch_size:
        merges = "merges requests" if config.dynamic_batching else "does not merge requests"
        parts.append(f"batches of up to {config.max_batch_size}, {merges}")
    else:
        parts.append("no batch dimension")
    if not facts.row_independent:
        parts.append(f"rows of a batch influence each other ({facts.row_dependence})")
    return "; ".join(parts)
