"""`ftwizard eval`: measure any model, or that of a run, on a file; the work is done in a helper process."""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from engine.helper import InspectionHelper
from engine.recipe.places import absolute_places
from engine.recipe.problems import Problem, ProblemError
from engine.runs.disk import disk_problem, write_atomically
from engine.text import clean, clean_line
from tui.verbs.data_progress import progress_bar
from tui.verbs.output import print_json, print_table

_SAMPLE_CHARS = 300
_SAMPLE_LINES = 4
_LABEL_CELLS = 11


@dataclass(frozen=True, slots=True)
class EvalWish:
    """What is asked for; see the options of the verb."""

    data: str
    metrics: str = ""
    objective: str | None = None
    max_rows: int | None = None
    changes: Sequence[str] = ()
    again: bool = False


def evaluate(model: str, wish: EvalWish, *, out: Path | None, as_json: bool) -> int:
    """Measure a model and print what it reached; ctrl+c ends it at once, and nothing half-measured is kept.

    Args:
        model: A run, a folder, a built-in model or a hub id.
        wish: What it is measured on.
        out: New file for all of the measurement.
        as_json: Print it as JSON, without the parts of each row.
    """
    _refuse_existing(out)
    with closing(InspectionHelper()) as helper:
        content = measured(model, wish, helper, quiet=as_json)
    if out is not None:
        _write(out, content)
    if as_json:
        print_json(_in_short(content))
    else:
        _print(content, out)
    return 0


def measured(model: str, wish: EvalWish, helper: InspectionHelper, *, quiet: bool) -> dict[str, Any]:
    """Return the measurement of a model, from the cache where it was made before; progress goes to stderr.

    Raises:
        ProblemError: As a sentence, why it cannot be measured.
        KeyboardInterrupt: ctrl+c.
    """
    terminal = sys.stderr.isatty()
    if not quiet and not terminal:
        typer.echo(f"Measuring {clean_line(model)} ...", err=True)
    with progress_bar(shown=terminal) as tell:
        content: dict[str, Any] = helper.call_blocking(
            "measure_model",
            tell,
            model=model,
            data=data_tree(wish),
            objective=wish.objective,
            metrics=[name.strip() for name in wish.metrics.split(",") if name.strip()],
            max_rows=wish.max_rows,
            again=wish.again,
        )
    return content


def data_tree(wish: EvalWish) -> dict[str, Any]:
    """Return the data section of a recipe, paths absolute.

    Raises:
        ProblemError: A `--set` that says nothing about reading data.
    """
    from engine.recipe.read import set_value

    tree: dict[str, Any] = {}
    for change in wish.changes:
        if not change.startswith("data."):
            message = f"--set {clean_line(change, max_chars=80)} says nothing about how the data is read."
            fix = "Here it takes data.*, such as data.mapping.prompt=question."
            raise ProblemError(Problem("eval.setting_unread", message, fix))
        tree = set_value(tree, change)
    data = {**tree.get("data", {}), "source": wish.data}
    placed: dict[str, Any] = absolute_places({"data": data}, (Path.cwd(),))["data"]
    return placed


def _refuse_existing(out: Path | None) -> None:
    if out is not None and out.exists():
        message = f"{clean_line(out)} exists already."
        raise ProblemError(Problem("eval.out_exists", message, "Name a new file, or remove that one."))


def _write(out: Path, content: dict[str, Any]) -> None:
    try:
        write_atomically(out, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise ProblemError(disk_problem(error, out, "write the measurement")) from error


def _in_short(content: dict[str, Any]) -> dict[str, Any]:
    """Return a measurement without what each row adds and what was written for it, which `--out` has."""
    whole = content["measurement"]
    kept = {name: value for name, value in whole.items() if name not in ("rows", "answers", "remarks")}
    return {**content, "measurement": kept}


def _print(content: dict[str, Any], out: Path | None) -> None:
    data, measurement = content["data"], content["measurement"]
    _say("Model", clean_line(content["model"]["name"]))
    found = data["num_found"]
    drawn = f" of {found:,} rows, drawn with the seed" if found != data["num_measured"] else " rows"
    _say("Data", f"{_sources(data)}: {data['num_measured']:,}{drawn}")
    _say("Objective", f"{content['objective']}: {clean_line(content['why'], max_chars=200)}")
    if content["kept"]:
        _say("Measured", f"{content['measured'][:16].replace('T', ' ')} UTC, as kept; --again measures anew")
    else:
        _say("Measured", f"now, in {measurement['elapsed_s']:.1f} s")
    typer.echo()
    print_metrics(content["metrics"])
    _print_counts(measurement)
    _print_sample(measurement)
    for remark in content["remarks"]:
        typer.echo(f"! {clean_line(remark, max_chars=600)}")
    typer.echo()
    _say("Kept in", clean_line(content["file"]))
    if out is not None:
        _say("Written to", clean_line(out))


def _say(label: str, text: str) -> None:
    typer.echo(typer.style(f"{label:<{_LABEL_CELLS}}", dim=True) + text)


def _sources(data: dict[str, Any]) -> str:
    return ", ".join(clean_line(Path(source).name, max_chars=60) for source in data["source"])


def print_metrics(lines: Sequence[dict[str, Any]]) -> None:
    """Print the numbers of one measurement with their intervals and the direction that is better."""
    better = {"lower": "lower is better", "higher": "higher is better"}
    rows = [(each["title"], each["text"], each["interval_text"], better.get(each["better"], "")) for each in lines]
    print_table(("", "value", "95 % interval", ""), rows, right=(1,))


def _print_counts(measurement: dict[str, Any]) -> None:
    counted = [f"{measurement['num_rows']:,} rows"]
    if measurement["num_tokens"]:
        counted.append(f"{measurement['num_tokens']:,} expected tokens")
    if measurement["num_generated"]:
        counted.append(f"{measurement['num_generated']:,} written answers")
    typer.echo(typer.style(f"Of {', '.join(counted)}.", dim=True))


def _print_sample(measurement: dict[str, Any]) -> None:
    samples = measurement["samples"]
    if not samples:
        return
    typer.echo()
    for label, name in (("prompt", "prompt"), ("expected", "expected"), ("answer", "text")):
        text = clean(samples[0].get(name) or "", max_chars=_SAMPLE_CHARS)
        told = [line for line in text.splitlines() if line.strip()]
        first, *others = told[:_SAMPLE_LINES] or ["(nothing)"]
        _say(label, first)
        for line in others:
            typer.echo(" " * _LABEL_CELLS + line)
