"""What came out of a run, as the command line prints it: before and after, one sample, where the model lies."""

import json
from pathlib import Path
from typing import Any

import typer

from engine.catalog.metrics import METRICS, Metric
from engine.runs.directory import RunDirectory
from engine.text import clean, clean_line
from tui.verbs.output import print_table

_SAMPLE_CHARS = 600


def read_report(run: RunDirectory) -> dict[str, Any] | None:
    """Return `report.json` of a run; None when the run has not come that far or the file is damaged."""
    try:
        report = json.loads(run.report_json_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def verdict(metric: Metric, before: float | None, after: float | None) -> str:
    """Return `better`, `worse`, `same`, or nothing where a value is missing."""
    if before is None or after is None or before != before or after != after:
        return ""
    if before == after:
        return "same"
    return "better" if metric.improved(before, after) else "worse"


def metric_rows(report: dict[str, Any]) -> list[tuple[Metric, float | None, float | None]]:
    """Return the measured metrics in the catalogue's order with their values before and after."""
    before, after = report.get("before") or {}, report.get("after") or {}
    return [
        (metric, _value(before.get(metric.name)), _value(after.get(metric.name)))
        for metric in METRICS
        if metric.name in before or metric.name in after
    ]


def _value(stored: Any) -> float | None:
    """Return a number of a report; infinities are stored as words because JSON has none."""
    if isinstance(stored, str):
        try:
            return float(stored)
        except ValueError:
            return None
    return float(stored) if isinstance(stored, int | float) and not isinstance(stored, bool) else None


def print_summary(run: RunDirectory) -> None:
    """Print the result of a finished run."""
    report = read_report(run)
    if report is None:
        typer.echo(f"There is no report for {clean_line(run.folder_name)} yet.")
        return
    typer.echo()
    rows = [
        (metric.title, metric.format(before), metric.format(after), verdict(metric, before, after))
        for metric, before, after in metric_rows(report)
    ]
    if rows:
        print_table(("Held-out rows", "before", "after", ""), rows, right=(1, 2))
    _print_sample(report)
    _print_places(run, report)


def best_sample(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return the sample that shows the change best: one that became right, else one that changed, else the first."""
    samples = [sample for sample in report.get("samples") or () if isinstance(sample, dict)]
    became_right = (s for s in samples if _same(s, "after", "expected") and not _same(s, "before", "expected"))
    changed = (s for s in samples if not _same(s, "before", "after"))
    return next(became_right, None) or next(changed, None) or (samples[0] if samples else None)


def _same(sample: dict[str, Any], one: str, other: str) -> bool:
    return str(sample.get(one) or "").strip() == str(sample.get(other) or "").strip()


def _print_sample(report: dict[str, Any]) -> None:
    sample = best_sample(report)
    if sample is None:
        return
    typer.echo()
    for label in ("prompt", "expected", "before", "after"):
        text = clean(sample.get(label) or "", max_chars=_SAMPLE_CHARS)
        if not text and label == "expected":
            continue
        first, *others = text.splitlines() or ["(nothing)"]
        typer.echo(typer.style(f"{label:<10}", dim=True) + first)
        for line in others:
            typer.echo(" " * 10 + line)


def _print_places(run: RunDirectory, report: dict[str, Any]) -> None:
    typer.echo()
    model = report.get("model") or {}
    for kind in ("merged", "adapter"):
        if model.get(kind):
            typer.echo(typer.style(f"{kind:<10}", dim=True) + clean(_absolute(run, str(model[kind]))))
    typer.echo(typer.style(f"{'report':<10}", dim=True) + clean(run.report_html_file))
    typer.echo(typer.style(f"{'talk to it':<10}", dim=True) + f" ftwizard chat {clean_line(run.folder_name)}")


def _absolute(run: RunDirectory, place: str) -> str:
    path = Path(place)
    return str(path if path.is_absolute() else run.path / path)
