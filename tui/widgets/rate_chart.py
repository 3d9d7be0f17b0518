"""Learning rates as charts: over the steps of a run, and the curve of a sweep. Pure functions, no widget."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from engine.planning.rate_curve import RateAdvice, RatePoint, rate_words
from engine.planning.schedule import rate_share, warmup_steps
from engine.text import short_number
from tui.widgets.braille import Bounds, ChartLine, Point, nice_bounds, plot, y_ticks

if TYPE_CHECKING:
    from engine.planning.plan import Plan

Row = list[tuple[str, str]]
"""Runs of `(text, kind)`; kinds as in `tui.widgets.loss_chart`."""
_STYLES = {"axis": "$text-muted", "raw": "$text-disabled", "line": "$primary", "points": "$accent", "": ""}
LEAST_WIDTH, LEAST_HEIGHT = 16, 3


def content_of(rows: Sequence[Row]) -> Content:
    """Return rows of a chart as content in the theme's colours."""
    parts: list[tuple[str, str]] = []
    for number, row in enumerate(rows):
        if number:
            parts.append(("\n", ""))
        parts += [(text, _STYLES[kind]) for text, kind in row]
    return Content.assemble(*parts)


def schedule_points(plan: "Plan", count: int) -> list[Point]:
    """Return `(step, learning rate)` of a plan's run, at most `count` of them."""
    training, total = plan.recipe.training, plan.steps.total_steps
    if training.learning_rate is None or total < 1:
        return []
    warmup = warmup_steps(training.warmup, total)
    steps = {round(place * (total - 1) / max(1, count - 1)) for place in range(count)}
    # The peak is drawn also where few steps are.
    steps |= {min(warmup, total - 1)}

    def rate(step: int) -> float:
        share = rate_share(
            step,
            schedule=training.schedule,
            warmup_steps=warmup,
            total_steps=total,
            min_share=training.min_rate,
        )
        return share * (training.learning_rate or 0.0)

    return [(float(step + 1), rate(step)) for step in sorted(steps)]


def schedule_rows(plan: "Plan", width: int, height: int, *, ascii_only: bool = False) -> list[Row]:
    """Return the learning rate over the steps of a run, with the peak, the end and the warm-up in words below.

    Args:
        plan: Its steps and training settings are drawn.
        width: Columns for everything.
        height: Rows for everything; the last one holds the words.
        ascii_only: Draw without braille and box characters.
    """
    peak = short_number(plan.recipe.training.learning_rate or 0.0)
    gutter = len(peak) + 1
    plot_width, plot_height = width - gutter - 1, height - 1
    points = schedule_points(plan, 4 * max(1, plot_width))
    if not points or plot_width < LEAST_WIDTH or plot_height < LEAST_HEIGHT - 1:
        return []
    highest = max(rate for _, rate in points)
    line = ChartLine("learning rate", points, "line")
    bounds = Bounds(1.0, max(2.0, points[-1][0]), 0.0, highest)
    cells = plot([line], plot_width, plot_height, bounds, ascii_only=ascii_only)
    edge = "|" if ascii_only else "│"
    rows: list[Row] = []
    for place, row in enumerate(cells):
        label = short_number(float(f"{highest:.2g}")) if place == 0 else "0" if place == len(cells) - 1 else ""
        drawn = "".join(cell.character for cell in row)
        rows.append([(f"{label:>{gutter}}{edge}", "axis"), (drawn, "line")])
    rows.append([(" " * (gutter + 1) + schedule_words(plan)[:plot_width], "axis")])
    return rows


def schedule_words(plan: "Plan") -> str:
    """Return what the schedule does, such as `warm-up of 4 steps, cosine to 0 at step 120`."""
    training, total = plan.recipe.training, plan.steps.total_steps
    warmup = warmup_steps(training.warmup, total)
    steps = f"{warmup} step{'' if warmup == 1 else 's'}"
    rise = f"warm-up of {steps}, " if warmup else "no warm-up, "
    if training.schedule == "constant":
        return f"{rise}then constant to step {total:,}"
    end = f"{100 * training.min_rate:.3g} %" if training.min_rate else "0"
    return f"{rise}{training.schedule} to {end} at step {total:,}"


def sweep_rows(
    points: Sequence[RatePoint],
    advice: RateAdvice | None,
    rates: tuple[float, float],
    width: int,
    height: int,
    *,
    ascii_only: bool = False,
) -> list[Row]:
    """Return the curve of a sweep over the logarithm of the rate: single steps, the smoothed curve, the advice.

    Args:
        points: Steps taken so far.
        advice: What they recommend; None while the sweep goes on.
        rates: Both ends of the sweep.
        width: Columns for everything.
        height: Rows for everything; the last one holds the rates.
        ascii_only: Draw without braille and box characters.
    """
    lines = _sweep_lines(points, advice)
    low, high = math.log10(rates[0]), math.log10(rates[1])
    fitted = nice_bounds(lines)
    bounds = Bounds(low, high, fitted.y_low, fitted.y_high)
    plot_height = height - 1
    ticks = y_ticks(bounds, max(1, plot_height))
    gutter = max(map(len, ticks.values()), default=1) + 1
    plot_width = width - gutter - 1
    if not points or plot_width < LEAST_WIDTH or plot_height < LEAST_HEIGHT:
        return []
    cells = plot(lines, plot_width, plot_height, bounds, ascii_only=ascii_only)
    rows: list[Row] = []
    for place, row in enumerate(cells):
        label = ticks.get(place, "")
        edge = "|" if ascii_only else ("┤" if label else "│")
        runs: Row = [(f"{label:>{gutter}}{edge}", "axis")]
        for cell in row:
            runs.append((cell.character, "" if cell.line is None else lines[cell.line].style))
        rows.append(runs)
    rows.append([(" " * (gutter + 1) + rate_axis(low, high, plot_width), "axis")])
    return rows


def _sweep_lines(points: Sequence[RatePoint], advice: RateAdvice | None) -> list[ChartLine]:
    raw = [(math.log10(point.rate), point.loss) for point in points]
    lines = [ChartLine("single steps", raw, "raw")]
    if advice is not None and advice.smoothed:
        smooth = [(math.log10(point.rate), point.loss) for point in advice.smoothed]
        lines.append(ChartLine("smoothed", smooth, "line"))
        if advice.rate is not None:
            near = min(advice.smoothed, key=lambda point: abs(math.log(point.rate / (advice.rate or 1.0))))
            lines.append(ChartLine("suggested", [(math.log10(advice.rate), near.loss)], "points"))
    return lines


def rate_axis(low: float, high: float, width: int) -> str:
    """Return the labels under a sweep: powers of ten where they lie."""
    line = [" "] * width
    for power in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1):
        label = f"1e{power}"
        start = min(max(0, round((power - low) / (high - low) * (width - 1)) - len(label) // 2), width - len(label))
        if all(character == " " for character in line[max(0, start - 1) : start + len(label) + 1]):
            line[start : start + len(label)] = label
    return "".join(line)


def advice_lines(advice: RateAdvice, usual: float, spread: tuple[float, float]) -> list[str]:
    """Return what a sweep recommends in words, beside what is usual.

    Args:
        advice: Of the sweep.
        usual: The plan's own rate.
        spread: Both ends of the usual rates of the method.
    """
    told = f"Suggested: {short_number(advice.rate)}." if advice.rate is not None else "No suggestion."
    ends = f"{rate_words(spread[0])} to {rate_words(spread[1])}"
    common = f"The plan has {short_number(usual)}; usual for the method are {ends}."
    return [told, advice.reason, common]
