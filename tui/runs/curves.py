"""Several runs in one picture: their curves, and their numbers side by side. Reads run directories; no Textual."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from textual.content import Content

from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory, plain_name
from engine.runs.lineage import parent_name
from engine.runs.picture import Picture, open_picture
from engine.runs.references import base_words
from engine.text import clean_line
from tui.backend import RunRow
from tui.runs.table import number
from tui.summary import MetricRow, metric_rows, read_report
from tui.widgets.braille import ChartLine, Point
from tui.widgets.labels import fit, muted, tail
from tui.widgets.loss_chart import ChartData

LETTERS = "ABCDEF"
RUN_STYLES = ("$primary", "$accent", "$success", "$error", "$secondary", "$foreground")
"""Of the letters, as `LossChart` colours the curves."""
_LABEL = 15
_MOST_COLUMN = 26
_READ_BYTES = 1 << 20
OTHER_ROWS = "! These runs were measured on different held-out rows: their numbers cannot be compared one to one."


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the picture shows of a run.

    Attributes:
        loss: Training loss, smoothed.
        held_out: Loss on held-out rows at each measurement.
        metrics: After training, as its report has them.
        rows_mark: Of its held-out rows; empty when it has none.
    """

    run: RunRow
    loss: Sequence[Point] = ()
    held_out: Sequence[Point] = ()
    metrics: Sequence[MetricRow] = field(default_factory=tuple)
    rows_mark: str = ""


def read_facts(run: RunRow) -> RunFacts:
    """Return the facts of a run; what cannot be read is left out."""
    directory = RunDirectory(run.path)
    try:
        picture, _ = open_picture(directory)
    except (OSError, ProblemError):
        picture = Picture()
    report: dict[str, Any] = read_report(directory) or {}
    return RunFacts(
        run=run,
        loss=picture.curves["loss"].smoothed() if "loss" in picture.curves else (),
        held_out=_points(picture, "eval_loss"),
        metrics=metric_rows(report),
        rows_mark=_rows_mark(directory),
    )


def _points(picture: Picture, name: str) -> list[Point]:
    curve = picture.curves.get(name)
    return [(bucket.x, bucket.mean) for bucket in curve.points()] if curve is not None else []


def _rows_mark(run: RunDirectory) -> str:
    try:
        with run.held_out_file.open("rb") as rows:
            beginning = rows.read(_READ_BYTES)
            return f"{rows.seek(0, 2)}-{zlib.crc32(beginning):08x}"
    except OSError:
        return ""


def curves_data(facts: Sequence[RunFacts], *, log_y: bool) -> ChartData:
    """Return all curves: a line with capital letters for a run's loss, its small letter where it was measured."""
    lines: list[ChartLine] = []
    # The first run is drawn last, over the others, and stands first in the legend, which is read from the end.
    for place in reversed(range(len(facts))):
        one, letter, kind = facts[place], LETTERS[place], f"run-{place}"
        lines.append(ChartLine("held-out", one.held_out, "points", mark=letter.lower(), kind=kind))
        lines.append(ChartLine("loss", one.loss, "line", mark=letter, kind=kind))
    return ChartData(lines, log_y=log_y)


def table_lines(facts: Sequence[RunFacts], width: int) -> list[Content]:
    """Return the numbers of the runs side by side, a column each.

    Args:
        facts: At most six runs.
        width: Columns of the terminal for all.
    """
    size = max(8, min(_MOST_COLUMN, (width - _LABEL) // max(1, len(facts))))
    letters = {one.run.run_id: LETTERS[place] for place, one in enumerate(facts)}
    lines = [_letters(facts, size), _line("run", _names(facts, size), size)]
    lines.append(_line("started from", [_origin(one.run, letters) for one in facts], size))
    lines.append(_line("method", [one.run.method for one in facts], size))
    lines.append(_line("state", [_state(one.run) for one in facts], size))
    lines.append(_line("training loss", [number(one.run.loss) for one in facts], size))
    titles = list(dict.fromkeys(row.title for one in facts for row in one.metrics))
    values = [{row.title: _value(row, size) for row in one.metrics} for one in facts]
    lines += [_line(title, [found.get(title, "") for found in values], size) for title in titles]
    if not titles:
        lines.append(_line("held-out loss", [number(one.run.held_out_loss) for one in facts], size))
    if titles and len({one.rows_mark for one in facts if one.metrics}) > 1:
        lines.append(Content.styled(OTHER_ROWS, "$warning"))
    return lines


def _letters(facts: Sequence[RunFacts], size: int) -> Content:
    parts: list[tuple[str, str]] = [(" " * _LABEL, "")]
    parts += [(f"{LETTERS[place]:<{size}}", f"bold {RUN_STYLES[place]}") for place in range(len(facts))]
    return Content.assemble(*parts)


def _names(facts: Sequence[RunFacts], size: int) -> list[str]:
    """Return what the runs are called; runs of the same name by the end of their ids, which tells them apart."""
    names = [plain_name(one.run.run_id) for one in facts]
    return names if len(set(names)) == len(names) else [tail(one.run.run_id, size - 1) for one in facts]


def _line(label: str, cells: Sequence[str], size: int) -> Content:
    words = "".join(fit(clean_line(cell) or "–", size - 1) + " " for cell in cells)
    return Content.assemble(muted(fit(clean_line(label), _LABEL - 1) + " "), (words, ""))


def _origin(run: RunRow, letters: dict[str, str]) -> str:
    parent = parent_name(run.base)
    if parent in letters:
        return f"run {letters[parent]}"
    return f"← {plain_name(parent)}" if parent else base_words(run.base)


def _state(run: RunRow) -> str:
    return f"{run.state} {run.step}/{run.total_steps}" if run.total_steps else run.state


def _value(row: MetricRow, size: int) -> str:
    with_margin = f"{row.after} {row.margin}".strip()
    return with_margin if len(with_margin) < size else row.after
