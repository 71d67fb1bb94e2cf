"""Histograms in Prometheus' text form. Their lines are the same in text 0.0.4 and in OpenMetrics 1.0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.utils import floatToGoString

from gateway.telemetry.collector import HistogramFamily

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def write_histograms(families: Iterable[HistogramFamily]) -> bytes:
    """Write families one after the other; both forms let them stand before all others."""
    lines: list[str] = []
    for family in families:
        name = family.name
        lines.append(f"# HELP {name} {family.documentation}\n# TYPE {name} histogram\n")
        for labels, histograms, row in family.series:
            text = _labels(labels)
            buckets = list(histograms.cumulative(row))
            shown = buckets if family.classic else buckets[-1:]
            lines += [f'{name}_bucket{{{text},le="{_number(bound)}"}} {count}\n' for bound, count in shown]
            lines.append(
                f"{name}_count{{{text}}} {buckets[-1][1]}\n{name}_sum{{{text}}} {_number(histograms.total(row))}\n"
            )
    return "".join(lines).encode()


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]
