"""Line charts as inline SVG: real axes, round ticks, colours from the page's theme; no script, no library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.evaluation.markup import escape_html

Point = tuple[float, float]

WIDTH, HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 16, 40
_MAX_DRAWN = 600
"""Points drawn per line; more than one per pixel is not seen and makes the file heavy."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        name: Words for the legend.
        style: CSS class that carries its colour: `raw`, `train`, `held-out` or `rate`.
        points: `(x, y)` in order of x; values that are not finite leave a gap.
        dots: Mark each point; for few points.
        band: `(x, low, high)` drawn behind the line.
    """

    name: str
    style: str
    points: Sequence[Point]
    dots: bool = False
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def line_chart(title: str, lines: Sequence[Line], *, x_name: str, y_name: str, height: int = HEIGHT) -> str:
    """Return a chart as one `<svg>` element; an empty string when no line has a point.

    Args:
        title: What the chart shows, for people who do not see it.
        lines: Drawn in order, the last one on top.
        height: In pixels of a view box that is 760 wide.
    """
    finite = [point for line in lines for point in line.points if math.isfinite(point[1])]
    if not finite:
        return ""
    x_ticks = round_ticks(min(x for x, _ in finite), max(x for x, _ in finite), 8, whole=True)
    lows = [y for _, y in finite] + [low for line in lines for _, low, _ in line.band]
    highs = [y for _, y in finite] + [high for line in lines for _, _, high in line.band]
    y_ticks = round_ticks(min(lows), max(highs), 5)
    x_scale = Scale(min(x for x, _ in finite), max(x for x, _ in finite), _LEFT, WIDTH - _RIGHT)
    y_scale = Scale(min(y_ticks[0], *lows), max(y_ticks[-1], *highs), height - _BOTTOM, _TOP)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape_html(title)}">',
        *(_y_tick(tick, y_scale, y_ticks) for tick in y_ticks),
        *(_x_tick(tick, x_scale, height) for tick in x_ticks if x_scale.low <= tick <= x_scale.high),
        f'<text class="axis" x="{(WIDTH + _LEFT - _RIGHT) / 2:.0f}" y="{height - 4}" text-anchor="middle">'
        f"{escape_html(x_name)}</text>",
        f'<text class="axis" transform="translate(12 {(height - _BOTTOM + _TOP) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape_html(y_name)}</text>',
        *(_band(line, x_scale, y_scale) for line in lines if line.band),
        *(_line(line, x_scale, y_scale) for line in lines),
        "</svg>",
    ]
    return "\n".join(parts)


def legend(lines: Sequence[Line]) -> str:
    """Return the legend of a chart as HTML: a swatch and a name for each line."""
    items = (
        f'<span class="key {line.style}"><i class="{"dot" if line.dots else "stroke"}"></i>'
        f"{escape_html(line.name)}</span>"
        for line in lines
        if line.points
    )
    return f'<p class="legend">{"".join(items)}</p>'


def round_ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Return about `count` round numbers that span `low` to `high`: multiples of 1, 2 or 5 times a power of ten.

    Args:
        whole: Only whole numbers.
    """
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """Return a tick with as many decimals as its neighbours need, or a power of ten for very small steps."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(tick) or 1.0
    if step < 1e-3:
        mantissa, _, exponent = f"{tick:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if tick else "0"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick:,.{decimals}f}"


def _y_tick(tick: float, scale: Scale, ticks: Sequence[float]) -> str:
    y = scale(tick)
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick_text(tick, ticks)}</text>'
    )


def _x_tick(tick: float, scale: Scale, height: int) -> str:
    x = scale(tick)
    return f'<text class="tick" x="{x:.1f}" y="{height - _BOTTOM + 18}" text-anchor="middle">{tick:,.0f}</text>'


def _line(line: Line, x_scale: Scale, y_scale: Scale) -> str:
    points = thinned(line.points)
    commands: list[str] = []
    pen_down = False
    for x, y in points:
        if not math.isfinite(y):
            pen_down = False
            continue
        commands.append(f"{'L' if pen_down else 'M'}{x_scale(x):.1f} {y_scale(y):.1f}")
        pen_down = True
    path = f'<path class="line {line.style}" d="{" ".join(commands)}"/>'
    if not line.dots:
        return path
    dots = (
        f'<circle class="dot {line.style}" cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="3.5">'
        f"<title>{escape_html(line.name)}: {y:.4g} at step {x:,.0f}</title></circle>"
        for x, y in points
        if math.isfinite(y)
    )
    return path + "".join(dots)


def _band(line: Line, x_scale: Scale, y_scale: Scale) -> str:
    stride = max(1, math.ceil(len(line.band) / _MAX_DRAWN))
    groups = [line.band[start : start + stride] for start in range(0, len(line.band), stride)]
    merged = [(group[0][0], min(low for _, low, _ in group), max(high for _, _, high in group)) for group in groups]
    upper = [f"{x_scale(x):.1f} {y_scale(high):.1f}" for x, _, high in merged]
    lower = [f"{x_scale(x):.1f} {y_scale(low):.1f}" for x, low, _ in reversed(merged)]
    return f'<path class="band {line.style}" d="M{" L".join(upper + lower)} Z"/>'


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most 600 points: means of neighbours, the first and the last point kept as they are."""
    if len(points) <= _MAX_DRAWN:
        return list(points)
    stride = math.ceil(len(points) / (_MAX_DRAWN - 2))
    groups = [points[start : start + stride] for start in range(1, len(points) - 1, stride)]
    means = [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
    return [points[0], *means, points[-1]]
