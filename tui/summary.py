"""What came out of a run, as the command line prints it: before and after, one sample, where the model lies."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from engine.runs.directory import RunDirectory
from engine.runs.follow_ups import follow_ups
from engine.text import clean, clean_line
from tui.verbs.output import print_table

_SAMPLE_CHARS = 600
MISTAKES_SHOWN = 5
_LABEL_CHARS = 28
NO_MISTAKES = "No label of a held-out row was wrong."
TEST_ROWS = "test rows (never seen)"
MARGIN_HEAD = "95 %"
"""Head of the column that says how far a number would move with other rows."""
_DIRECTIONS = ("better", "worse", "same", "unclear")
_CHECK_WORDS = {"passed": "passed", "warning": "with a warning", "skipped": "not made", "blocked": "failed"}


def read_report(run: RunDirectory) -> dict[str, Any] | None:
    """Return `report.json` of a run; None when the run has not come that far or the file is damaged."""
    try:
        report = json.loads(run.report_json_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One line of the before/after table as the report judged it; `direction` is empty where nothing can be said.

    Attributes:
        few_shot: Of the base model with examples in its prompt.
        margin: Half of the 95 % interval of `after`, such as `±1.2`; empty where it is not known.
        verdict: `direction` as the report says it in words.
    """

    title: str
    before: str
    few_shot: str
    after: str
    direction: str
    margin: str = ""
    verdict: str = ""


def metric_rows(report: dict[str, Any]) -> list[MetricRow]:
    """Return the measured metrics in the report's order, with its own words and judgement, so that all places agree."""
    return _rows_of(report.get("metrics"))


def last_test(report: dict[str, Any]) -> tuple[int, list[MetricRow]]:
    """Return how many test rows were measured, and their table; 0 and nothing where none were put aside."""
    test = report.get("test")
    if not isinstance(test, dict):
        return 0, []
    num_rows = test.get("num_rows")
    return num_rows if isinstance(num_rows, int) else 0, _rows_of(test.get("metrics"))


def _rows_of(metrics: Any) -> list[MetricRow]:
    rows = (row for row in metrics or () if isinstance(row, dict))
    return [
        MetricRow(
            title=clean_line(row.get("title") or row.get("name") or ""),
            before=clean_line(row.get("before_text") or "n/a"),
            few_shot=clean_line(row.get("few_shot_text") or "n/a"),
            after=clean_line(row.get("after_text") or "n/a"),
            direction=str(row["direction"]) if row.get("direction") in _DIRECTIONS else "",
            margin=clean_line(row.get("after_margin_text") or ""),
            verdict=clean_line(row.get("verdict") or ""),
        )
        for row in rows
    ]


def few_shot_of(report: dict[str, Any]) -> tuple[str, str]:
    """Return the head of the baseline's column and what the report says of it; empty without a baseline."""
    few_shot = report.get("few_shot")
    if not isinstance(few_shot, dict):
        return "", ""
    return f"few-shot ({clean_line(few_shot.get('num_examples', '?'))})", clean_line(few_shot.get("text") or "")


def forgetting_of(report: dict[str, Any]) -> str:
    """Return what the report says of what the model forgets; empty where general text was not measured."""
    forgetting = report.get("forgetting")
    return clean_line(forgetting.get("text") or "") if isinstance(forgetting, dict) else ""


def mistakes_of(report: dict[str, Any]) -> list[tuple[str, str]] | None:
    """Return the labels that were confused most often as `(expected → given, how often)`; None without labels."""
    confusion = report.get("confusion")
    if not isinstance(confusion, dict):
        return None
    return [
        (
            f"{clean_line(mistake.get('expected', '?'), max_chars=_LABEL_CHARS)} → "
            f"{clean_line(mistake.get('given', '?'), max_chars=_LABEL_CHARS)}",
            f"{clean_line(mistake.get('rows', '?'))} of {clean_line(mistake.get('of', '?'))}",
        )
        for mistake in (confusion.get("mistakes") or ())[:MISTAKES_SHOWN]
        if isinstance(mistake, dict)
    ]


def samples_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the samples of a report."""
    return [sample for sample in report.get("samples") or () if isinstance(sample, dict)]


def checks_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checks before the first step of a report."""
    return [check for check in report.get("preflight") or () if isinstance(check, dict)]


def check_counts(counts: Mapping[str, int]) -> str:
    """Return how many checks before the first step went how, from `{status: checks}`; empty without checks."""
    return ", ".join(f"{counts[status]} {words}" for status, words in _CHECK_WORDS.items() if counts.get(status))


def print_summary(run: RunDirectory) -> None:
    """Print the result of a finished run."""
    report = read_report(run)
    if report is None:
        typer.echo(f"There is no report for {clean_line(run.folder_name)} yet.")
        return
    typer.echo()
    prompted, verdict = few_shot_of(report)
    heads = ("Held-out rows", "before", *([prompted] if prompted else []), "after", MARGIN_HEAD, "")
    rows = [
        (row.title, row.before, *([row.few_shot] if prompted else []), row.after, row.margin, row.verdict)
        for row in metric_rows(report)
    ]
    if rows:
        print_table(heads, rows, right=range(1, len(heads) - 2))
    for sentence in filter(None, (verdict, forgetting_of(report))):
        typer.echo(f"\n{sentence}")
    _print_test(report)
    _print_mistakes(report)
    _print_sample(report)
    _print_places(run, report)


def _print_test(report: dict[str, Any]) -> None:
    num_rows, rows = last_test(report)
    if rows:
        typer.echo()
        heads = (f"{num_rows:,} {TEST_ROWS}", "before", "after", MARGIN_HEAD, "")
        cells = [(row.title, row.before, row.after, row.margin, row.verdict) for row in rows]
        print_table(heads, cells, right=range(1, 3))


def _print_mistakes(report: dict[str, Any]) -> None:
    mistakes = mistakes_of(report)
    if mistakes:
        typer.echo()
        print_table(("Confused most: expected → given", "rows"), mistakes, right=(1,))
    elif mistakes is not None:
        typer.echo(f"\n{NO_MISTAKES}")


def best_sample(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return the sample that shows the change best: one that became right, else one that changed, else the first."""
    samples = samples_of(report)
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


def model_places(run: RunDirectory, report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the run left and where: `merged` and `adapter` in the run, `copy` where the person wanted it."""
    model = report.get("model") or {}
    places = [(kind, run.path / str(model[kind])) for kind in ("merged", "adapter") if model.get(kind)]
    if model.get("output"):
        places.append(("copy", Path(str(model["output"]))))
    places.append(("report", run.report_html_file))
    if run.data_report_html_file.exists():
        places.append(("data", run.data_report_html_file))
    return [(kind, clean_line(place)) for kind, place in places]


def _print_places(run: RunDirectory, report: dict[str, Any]) -> None:
    typer.echo()
    places = model_places(run, report)
    for kind, place in places:
        typer.echo(typer.style(f"{kind:<10}", dim=True) + place)
    if any(kind in ("merged", "adapter") for kind, _ in places):
        typer.echo(typer.style(f"{'try it':<10}", dim=True) + f"ftwizard chat {clean_line(run.reference)}")
    _print_next(run)


def _print_next(run: RunDirectory) -> None:
    """Print how to go on, each way with the command that starts it."""
    for number, way in enumerate(follow_ups(run)):
        label = "next" if number == 0 else ""
        typer.echo(typer.style(f"{label:<10}", dim=True) + f"{way.title}. {way.why}")
        typer.echo(" " * 10 + clean_line(shlex.join(way.command("FILE"))))
