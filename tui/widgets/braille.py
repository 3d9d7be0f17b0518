"""Draw curves into text cells: two by four braille dots per cell, or plain characters where braille cannot be shown.

Pure functions of points and sizes; no Textual. The cost depends on the number of points given (at most the 1,024
buckets of a curve), never on the length of the run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Bit of each dot in the Unicode braille block, by row (0 to 3) and column (0, 1) inside the cell.
_DOT_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE_BASE = 0x2800
_MARKS_ON_A_CURVE = 6
_ASCII_MARKS = {"raw": ".", "line": "*", "points": "o"}

LineStyle = Literal["raw", "line", "points"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ChartLine:
    """One curve.

    Attributes:
        name: Shown in the legend.
        points: `(x, y)` with growing x; points with y that is not finite are left out.
        style: `raw` is drawn under the others, `line` over it, `points` marks each point.
        mark: One character that stands on the curve in some places, and for its points; empty for the usual ones.
        kind: Whose colour it has; that of its style when empty.
    """

    name: str
    points: Sequence[Point]
    style: LineStyle
    mark: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What part of the plane is shown; `log_y` draws the logarithm of y."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One character of the plot and the index of the line that colours it; None for an empty cell."""

    character: str
    line: int | None


def plot(
    lines: Sequence[ChartLine], width: int, height: int, bounds: Bounds, *, ascii_only: bool = False
) -> list[list[Cell]]:
    """Return `height` rows of `width` cells.

    Args:
        lines: Curves; later ones colour a cell that they share with earlier ones.
        width: Columns of the plot, axes not included.
        height: Rows of the plot, axes not included.
        bounds: Part of the plane that is shown.
        ascii_only: One character per cell instead of braille dots.
    """
    columns, rows = (width, height) if ascii_only else (2 * width, 4 * height)
    dots: list[list[int]] = [[0] * width for _ in range(height)]
    owners: list[list[int | None]] = [[None] * width for _ in range(height)]
    marks: dict[tuple[int, int], int] = {}
    for index, line in enumerate(lines):
        path = [_dot(point, columns, rows, bounds) for point in line.points if _drawable(point, bounds)]
        for x, y in path if line.style == "points" else _trace(path):
            if not (0 <= x < columns and 0 <= y < rows):
                continue
            row, column = (y, x) if ascii_only else (y // 4, x // 2)
            if owners[row][column] != index:
                # A cell has one colour, so it shows the dots of one line: the last, important one stays crisp.
                owners[row][column], dots[row][column] = index, 0
            dots[row][column] |= 1 if ascii_only else _DOT_BITS[y % 4][x % 2]
        marked = path if line.style == "points" else _marked_places(path, index) if line.mark else ()
        marks.update({_cell(dot, ascii_only): index for dot in marked if 0 <= dot[0] < columns and 0 <= dot[1] < rows})
    return [
        [_character(dots[r][c], owners[r][c], lines, marks.get((r, c)), ascii_only) for c in range(width)]
        for r in range(height)
    ]


def _marked_places(path: Sequence[tuple[int, int]], index: int) -> list[tuple[int, int]]:
    """Return where the mark of a curve stands: each curve begins elsewhere, so that marks do not hide each other."""
    if not path:
        return []
    every = max(1, len(path) // _MARKS_ON_A_CURVE)
    return list(path[min(len(path) - 1, every * (1 + index % 5) // 6) :: every])


def _drawable(point: Point, bounds: Bounds) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1]) and (not bounds.log_y or point[1] > 0)


def _dot(point: Point, columns: int, rows: int, bounds: Bounds) -> tuple[int, int]:
    x = _share(point[0], bounds.x_low, bounds.x_high, log=False)
    y = _share(point[1], bounds.y_low, bounds.y_high, log=bounds.log_y)
    # Values beyond the shown range run along the edge, where a spike belongs, instead of leaving a hole.
    return round(x * (columns - 1)), round((1 - min(max(y, 0.0), 1.0)) * (rows - 1))


def _share(value: float, low: float, high: float, *, log: bool) -> float:
    if log:
        value, low, high = math.log10(value), math.log10(low), math.log10(high)
    return 0.5 if high <= low else (value - low) / (high - low)


def _cell(dot: tuple[int, int], ascii_only: bool) -> tuple[int, int]:
    x, y = dot
    return (y, x) if ascii_only else (y // 4, x // 2)


def _trace(path: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    traced = list(path[:1])
    for start, end in zip(path, path[1:], strict=False):
        traced.extend(_segment(start, end))
    return traced


def _segment(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    (x0, y0), (x1, y1) = start, end
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    return [(round(x0 + (x1 - x0) * i / steps), round(y0 + (y1 - y0) * i / steps)) for i in range(1, steps + 1)]


def _character(bits: int, owner: int | None, lines: Sequence[ChartLine], mark: int | None, ascii_only: bool) -> Cell:
    if mark is not None:
        return Cell(lines[mark].mark or ("o" if ascii_only else "●"), mark)
    if owner is None:
        return Cell(" ", None)
    if ascii_only:
        return Cell(_ASCII_MARKS[lines[owner].style], owner)
    return Cell(chr(_BRAILLE_BASE + bits), owner)


def nice_bounds(lines: Sequence[ChartLine], *, x_high: float | None = None, log_y: bool = False) -> Bounds:
    """Return bounds that hold the curves, with round ends on the y axis so that the scale rests while points come in.

    A single spike does not flatten the rest: the top is the 98th percentile of all values when the largest lies more
    than three times the usual range above it.

    Args:
        lines: Curves that are shown.
        x_high: Right end of the x axis, such as the total number of steps; the last point when None.
        log_y: Whether the y axis is logarithmic.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = sorted(y for line in lines for _, y in line.points if math.isfinite(y) and (not log_y or y > 0))
    x_end = max(x_high or 0.0, max(xs, default=1.0))
    if not ys:
        return Bounds(0.0, x_end, 0.1 if log_y else 0.0, 1.0, log_y)
    low, high = ys[0], ys[-1]
    usual = ys[int(0.98 * (len(ys) - 1))]
    if high - usual > 3 * max(usual - low, 1e-12) and len(ys) >= 20:
        high = usual
    if log_y:
        return Bounds(0.0, x_end, 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high) + 1e-9), True)
    if high == low:
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
    unit = nice_unit((high - low) / 4)
    floor = 0.0 if low >= 0 and low < high * 0.35 else math.floor(low / unit) * unit
    return Bounds(0.0, x_end, floor, math.ceil(high / unit - 1e-9) * unit, False)


def nice_unit(rough: float) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten, the smallest that is at least `rough`."""
    if rough <= 0 or not math.isfinite(rough):
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def tick_label(value: float, unit: float = 0.0) -> str:
    """Return a short label for an axis, such as `1.5`, `0.02`, `250` or `12k`.

    Args:
        value: What the label stands for.
        unit: Distance to the next tick; labels are as precise as it takes to tell them apart. 0 for a single label.
    """
    if value == 0:
        return "0"
    size = abs(value)
    # Two places beyond the unit's first: it may be 2.5 of something.
    places = math.floor(math.log10(size)) - math.floor(math.log10(unit)) + 2 if unit > 0 else 0
    digits = min(max(3, places), 12)
    if size >= 10_000:
        return f"{value / 1000:.{max(4, digits)}g}k"
    if size < 1e-3:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.{max(4, digits) if size >= 1000 else digits}g}"


def y_ticks(bounds: Bounds, rows: int) -> dict[int, str]:
    """Return `{row: label}` for the y axis: round values, at most one label for each two rows."""
    unit = 0.0
    if bounds.log_y:
        first, last = round(math.log10(bounds.y_low)), round(math.log10(bounds.y_high))
        step = max(1, math.ceil((last - first) / max(1, rows // 2)))
        values = [10.0**power for power in range(first, last + 1, step)]
    else:
        unit = nice_unit((bounds.y_high - bounds.y_low) / max(1, rows // 3))
        count = math.floor((bounds.y_high - bounds.y_low) / unit + 1e-9)
        start = math.ceil(bounds.y_low / unit - 1e-9) * unit
        values = [start + i * unit for i in range(count + 1)]
    labels: dict[int, str] = {}
    for value in values:
        share = _share(value, bounds.y_low, bounds.y_high, log=bounds.log_y)
        if -1e-9 <= share <= 1 + 1e-9:
            labels[round((1 - share) * (rows - 1))] = tick_label(round(value, 12), unit)
    return labels


def x_axis(bounds: Bounds, width: int) -> str:
    """Return the line of labels under the plot, exactly `width` characters."""
    line = [" "] * width
    unit = nice_unit((bounds.x_high - bounds.x_low) / max(1, min(6, width // 10)))
    value = bounds.x_low
    while value <= bounds.x_high + unit * 1e-6:
        label = tick_label(value, unit)
        at = round(_share(value, bounds.x_low, bounds.x_high, log=False) * (width - 1))
        start = min(max(0, at - len(label) // 2), width - len(label))
        if all(character == " " for character in line[max(0, start - 1) : start + len(label) + 1]):
            line[start : start + len(label)] = label
        value += unit
    return "".join(line)
