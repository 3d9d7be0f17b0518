"""A chart with real axes for the curves of a run. Line API: only rows that changed are sent to the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.braille import Bounds, Cell, ChartLine, nice_bounds, plot, x_axis, y_ticks

MOST_RUNS = 6
"""Runs in one picture: more than that cannot be told apart."""
_AXIS_HEIGHT = 2
_SMALLEST_PLOT = (8, 3)


@dataclass(frozen=True, slots=True)
class ChartData:
    """What a chart shows.

    Attributes:
        lines: Curves, the important ones last.
        x_high: Right end of the x axis; the last point when None.
        log_y: Whether the y axis is logarithmic.
    """

    lines: Sequence[ChartLine] = ()
    x_high: float | None = None
    log_y: bool = False


class LossChart(Widget):
    """Draws `ChartData` with axes, a legend on the top row, and one row of x labels.

    Colours come from the component classes, so that themes and NO_COLOR act on them; each line also has a mark
    and a stroke of its own, because colour never carries the meaning alone.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "loss-chart--axis",
        "loss-chart--raw",
        "loss-chart--line",
        "loss-chart--points",
        *(f"loss-chart--run-{number}" for number in range(MOST_RUNS)),
    }
    DEFAULT_CSS = """
    LossChart {
        height: 1fr;
        min-height: 6;
        & > .loss-chart--axis { color: $text-muted; }
        & > .loss-chart--raw { color: $text-disabled; }
        & > .loss-chart--line { color: $primary; }
        & > .loss-chart--points { color: $accent; }
        & > .loss-chart--run-0 { color: $primary; }
        & > .loss-chart--run-1 { color: $accent; }
        & > .loss-chart--run-2 { color: $success; }
        & > .loss-chart--run-3 { color: $error; }
        & > .loss-chart--run-4 { color: $secondary; }
        & > .loss-chart--run-5 { color: $foreground; }
    }
    """

    def __init__(self, *, ascii_only: bool = False, empty: str = "No steps yet.", id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._ascii_only = ascii_only
        self._empty = empty
        self._data = ChartData()
        self._rows: list[list[tuple[str, str]]] = []

    def show(self, data: ChartData) -> None:
        """Show new data and repaint the rows that differ from what is on the screen."""
        self._data = data
        self._lay_out()

    def on_resize(self) -> None:
        """Lay the curves out again for the new size."""
        self._lay_out()

    def notify_style_update(self) -> None:
        """Repaint with the colours of the new theme."""
        super().notify_style_update()
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Ask for twelve rows where nothing else decides."""
        return 12

    def render_line(self, y: int) -> Strip:
        """Return one row as a strip."""
        width = self.size.width
        base = self.rich_style
        if y >= len(self._rows):
            return Strip.blank(width, base)
        segments = [Segment(text, base + self._style(kind)) for text, kind in self._rows[y]]
        return Strip(segments).adjust_cell_length(width, base)

    def _style(self, kind: str) -> Style:
        if not kind:
            return Style()
        return Style.from_color(self.get_component_rich_style(f"loss-chart--{kind}", partial=True).color)

    def _lay_out(self) -> None:
        rows = chart_rows(self._data, self.size.width, self.size.height, ascii_only=self._ascii_only, empty=self._empty)
        before, self._rows = self._rows, rows
        if len(before) != len(rows):
            self.refresh()
            return
        for y, (old, new) in enumerate(zip(before, rows, strict=True)):
            if old != new:
                self.refresh(Region(0, y, self.size.width, 1))


def chart_rows(
    data: ChartData, width: int, height: int, *, ascii_only: bool = False, empty: str = ""
) -> list[list[tuple[str, str]]]:
    """Return a whole chart as rows of `(text, kind)` runs; kinds are `axis`, `raw`, `line`, `points` and empty.

    Args:
        data: Curves and scale.
        width: Columns for everything.
        height: Rows for everything: legend, plot, axis, labels.
        ascii_only: Draw without braille and box characters.
        empty: Sentence shown while there is nothing to draw.
    """
    lines = [line for line in data.lines if line.points]
    plot_height = height - _AXIS_HEIGHT - 1
    if not lines:
        return [[(empty[:width].center(width), "axis")] if y == height // 2 else [] for y in range(height)]
    bounds = nice_bounds(lines, x_high=data.x_high, log_y=data.log_y)
    ticks = y_ticks(bounds, max(plot_height, 1))
    gutter = max(map(len, ticks.values())) + 1
    plot_width = width - gutter - 1
    if plot_width < _SMALLEST_PLOT[0] or plot_height < _SMALLEST_PLOT[1]:
        return [_legend(lines, width, ascii_only)] + [[] for _ in range(height - 1)]
    cells = plot(lines, plot_width, plot_height, bounds, ascii_only=ascii_only)
    return [
        _legend(lines, width, ascii_only),
        *(_plot_row(row, ticks.get(y, ""), gutter, lines, ascii_only) for y, row in enumerate(cells)),
        *_axis_rows(bounds, gutter, plot_width, ascii_only),
    ]


def _legend(lines: Sequence[ChartLine], width: int, ascii_only: bool) -> list[tuple[str, str]]:
    marks = {"raw": ".", "line": "*", "points": "o"} if ascii_only else {"raw": "⠒", "line": "━", "points": "●"}
    runs: list[tuple[str, str]] = []
    left = width
    for line in reversed(lines):
        text = f"  {line.mark or marks[line.style]} {line.name}"
        if line.name and len(text) <= left:
            runs.append((text, line.kind or line.style))
            left -= len(text)
    return [(" " * left, ""), *runs]


def _plot_row(
    row: Sequence[Cell], label: str, gutter: int, lines: Sequence[ChartLine], ascii_only: bool
) -> list[tuple[str, str]]:
    edge = "|" if ascii_only else ("┤" if label else "│")
    runs: list[tuple[str, str]] = [(f"{label:>{gutter}}{edge}", "axis")]
    text, kind = "", ""
    for cell in row:
        cell_kind = "" if cell.line is None else lines[cell.line].kind or lines[cell.line].style
        if cell_kind != kind and text:
            runs.append((text, kind))
            text = ""
        kind = cell_kind
        text += cell.character
    return [*runs, (text, kind)]


def _axis_rows(bounds: Bounds, gutter: int, plot_width: int, ascii_only: bool) -> list[list[tuple[str, str]]]:
    corner, dash = ("+", "-") if ascii_only else ("└", "─")
    return [
        [(" " * gutter + corner + dash * plot_width, "axis")],
        [(" " * (gutter + 1) + x_axis(bounds, plot_width), "axis")],
    ]
