"""`ftwizard find-rate`: a short sweep over learning rates on a recipe's own model and rows."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from engine.text import clean_line, short_number
from tui.verbs.output import EXIT_LEFT, print_json
from tui.widgets.rate_chart import Row, advice_lines, sweep_rows

if TYPE_CHECKING:
    from engine.planning.plan import Plan
    from engine.planning.rate_curve import RateAdvice, RatePoint

CHART_HEIGHT = 14


def find_rate(reference: str, changes: Sequence[str], *, as_json: bool) -> int:
    """Sweep over learning rates and print the curve and a suggestion; ctrl+c ends it and changes nothing.

    Args:
        reference: A recipe file, or the name of a preset.
        changes: `--set` arguments.
        as_json: Print the curve and the suggestion as JSON.
    """
    from engine.helper import InspectionHelper
    from engine.planning.rate_curve import SWEEP_STEPS, advise
    from engine.planning.rate_search import RateSearch
    from engine.runs.home import home_folders
    from tui.preparation import prepare, read_reference

    layered = read_reference(reference, changes)
    helper = InspectionHelper()
    try:
        plan = prepare(layered, helper, reference=reference).plan
    finally:
        helper.close()
    search = RateSearch(plan, home_folders().cache)
    if not as_json:
        typer.echo(f"Sweeping over {SWEEP_STEPS} learning rates in a process of its own; ctrl+c ends it.", err=True)
    points: list[RatePoint] = []
    try:
        for point in search.points():
            points.append(point)
            _show_progress(len(points), SWEEP_STEPS, quiet=as_json)
    except KeyboardInterrupt:
        search.cancel()
        typer.echo("\nLeft. Nothing was changed.", err=True)
        return EXIT_LEFT
    advice = advise(points)
    if as_json:
        print_json(_document(plan, points, advice))
    else:
        _print(plan, points, advice, reference)
    return 0


def _show_progress(done: int, total: int, *, quiet: bool) -> None:
    if not quiet and sys.stderr.isatty():
        typer.echo(f"\rstep {done} of at most {total} ", err=True, nl=False)


def _document(plan: "Plan", points: "list[RatePoint]", advice: "RateAdvice") -> dict[str, object]:
    from engine.planning.training_choices import usual_rates

    low, high = usual_rates(plan)
    return {
        "suggested": advice.rate,
        "reason": advice.reason,
        "planned": plan.recipe.training.learning_rate,
        "usual": {"low": low, "high": high},
        "steepest": advice.steepest,
        "lowest": advice.lowest,
        "breaks_at": advice.breaks_at,
        "points": [asdict(point) for point in points],
        "smoothed": [asdict(point) for point in advice.smoothed],
    }


def _print(plan: "Plan", points: "list[RatePoint]", advice: "RateAdvice", reference: str) -> None:
    from engine.planning.rate_curve import sweep_rates
    from engine.planning.training_choices import usual_rates

    planned = plan.recipe.training.learning_rate or 0.0
    rates = sweep_rates(planned)
    width = min(100, shutil.get_terminal_size().columns)
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    typer.echo()
    for row in sweep_rows(points, advice, (rates[0], rates[-1]), width, CHART_HEIGHT, ascii_only=ascii_only):
        typer.echo(_text(row))
    typer.echo()
    for line in advice_lines(advice, planned, usual_rates(plan)):
        typer.echo(line)
    if advice.rate is not None:
        command = f"ftwizard run {clean_line(reference)} --set training.learning_rate={short_number(advice.rate)}"
        typer.echo(f"Take it: {command}")


def _text(row: Row) -> str:
    return "".join(text for text, _ in row).rstrip()
