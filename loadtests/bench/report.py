"""The table, the bars beneath it, and the same as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from measure import Row
from scenarios import Bar, Scenario

WIDTHS = "  {:46} {:>8} {:>8} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>6}"
HEAD = "\n".join(
    (
        WIDTHS.format("", "CPU us", "/request", "requests", "/s", "p50", "p95", "p99", "server", "load"),
        WIDTHS.format("", "min", "median", "best", "median", "ms", "ms", "ms", "core %", "core %"),
    )
)


def number(value: float) -> str:
    """Three significant digits, thousands without decimals."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def row_line(row: Row) -> str:
    """One line of the table."""
    cells = [row.best("cpu_us"), row.median("cpu_us"), row.best("rate"), row.median("rate")]
    cells += [row.median(name) for name in ("p50", "p95", "p99")]
    load = f"{row.median('generator_busy') * 100:.0f}" if row.server else "-"
    server = f"{row.median('server_busy') * 100:.0f}"
    return WIDTHS.format(row.title, *map(number, cells), server, load) + remarks(row)


def remarks(row: Row) -> str:
    """What the figures alone do not say."""
    notes = []
    if row.side is not None:
        notes.append(f"Envoy itself {number(row.best('side_us'))} us")
    if row.server and row.median("generator_busy") > 0.97 and row.median("server_busy") < 0.95:
        notes.append("rate bound by the load core")
    if "counted" in row.notes:
        notes.append("counted")
    return f"  ({'; '.join(notes)})" if notes else ""


def judge(bar: Bar, rows: Iterable[Row]) -> dict[str, Any]:
    """The bar's value from the best rounds (it decides) and from the medians; None where a row is missing."""
    known = {row.key: row for row in rows if row.samples}
    try:
        best = bar.value(lambda key, name: known[key].best(name))
        median = bar.value(lambda key, name: known[key].median(name))
    except KeyError as missing:
        return {"bar": bar.title, "limit": bar.limit, "verdict": "not measured", "missing": str(missing.args[0])}
    holds = [value >= bar.limit if bar.at_least else value <= bar.limit for value in (best, median)]
    return {
        "bar": bar.title,
        "limit": bar.limit,
        "best": best,
        "median": median,
        "verdict": "pass" if holds[0] else "MISS",
        "median_verdict": "pass" if holds[1] else "MISS",
    }


def bar_line(bar: Bar, verdict: dict[str, Any]) -> str:
    """One bar in words."""
    asked = f"{'>=' if bar.at_least else '<='} {bar.limit:g}{bar.unit}"
    if "missing" in verdict:
        return f"    {bar.title:46} {asked:>12}   not measured: no row {verdict['missing']}"
    line = f"    {bar.title:46} {asked:>12}   {number(verdict['best'])}{bar.unit}"
    line += f" (medians {number(verdict['median'])}{bar.unit})   {verdict['verdict']}"
    if verdict["median_verdict"] != verdict["verdict"]:
        line += f" (by the medians {verdict['median_verdict']})"
    return line


def scenario_text(scenario: Scenario, rows: list[Row], skipped: dict[str, str]) -> str:
    """The block of one scenario."""
    lines = [f"\n{scenario.title}", HEAD]
    lines += [row_line(row) for row in rows if row.samples]
    lines += [f"  {row.title:46} {' '.join(row.notes)}" for row in rows if not row.samples]
    lines += [f"  {key:46} skipped: {reason}" for key, reason in skipped.items()]
    lines += [bar_line(bar, judge(bar, rows)) for bar in scenario.bars]
    measured = [sample for row in rows for sample in row.samples]
    if measured:
        others = sum(sample.others_busy for sample in measured) / len(measured)
        stolen = sum(sample.stolen for sample in measured) / len(measured)
        lines.append(f"    noise: other processes used {others:.2f} cores on average, {stolen:.2f} cores were stolen")
    return "\n".join(lines)


def as_data(scenario: Scenario, rows: list[Row], skipped: dict[str, str]) -> dict[str, Any]:
    """The same block for --json."""
    return {
        "scenario": scenario.key,
        "title": scenario.title,
        "rows": [
            {"row": row.key, "title": row.title, "unit": row.unit, "notes": row.notes}
            | {"samples": [vars(sample) for sample in row.samples]}
            for row in rows
        ],
        "skipped": skipped,
        "bars": [judge(bar, rows) for bar in scenario.bars],
    }
