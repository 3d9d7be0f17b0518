"""Which curves the monitor's chart shows, and how."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.catalog.step_numbers import step_number
from engine.runs.picture import Picture
from engine.runs.reducer import EXTRA_CURVE
from tui.widgets.braille import ChartLine, LineStyle
from tui.widgets.loss_chart import ChartData

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Chart:
    """One choice of curves.

    Attributes:
        title: Name of the main curve in the legend.
        curve: Name of the main curve in the picture.
        beside: Curve drawn as points over it; empty for none.
        beside_title: Its name in the legend.
        scale: Factor from stored to shown values.
        noisy: Whether a running mean shows more than the curve itself.
        predicted_where: Begin of the place whose predicted peak is drawn beside it; empty for none.
    """

    title: str
    curve: str
    beside: str = ""
    beside_title: str = ""
    scale: float = 1.0
    noisy: bool = True
    predicted_where: str = ""


_REWARD = "reward"
REWARD_CHART = Chart("reward", f"{EXTRA_CURVE}{_REWARD}", "eval_reward", "held-out reward")
CHARTS: tuple[Chart, ...] = (
    Chart("loss", "loss", "eval_loss", "held-out loss"),
    Chart("learning rate", "learning_rate", noisy=False),
    Chart("gradient norm", "grad_norm"),
    Chart("tokens per second", "tokens_per_s"),
    Chart("worker RAM, GiB", "rss_bytes", scale=1 / _GIB, noisy=False, predicted_where="host RAM"),
    Chart("GPU memory, GiB", "gpu_reserved_bytes", scale=1 / _GIB, noisy=False, predicted_where="GPU"),
)


def charts_of(picture: Picture) -> tuple[Chart, ...]:
    """Return the charts of a run: those of every run, after the loss what its objective tells besides."""
    extra = [name.removeprefix(EXTRA_CURVE) for name in picture.curves if name.startswith(EXTRA_CURVE)]
    told = tuple(Chart(step_number(name).title, f"{EXTRA_CURVE}{name}") for name in extra if name != _REWARD)
    # The loss of learning from rewards stays near 0 whatever happens: what is earned says how it goes.
    first = (REWARD_CHART, CHARTS[0]) if _REWARD in extra else (CHARTS[0],)
    return (*first, *told, *CHARTS[1:])


def chart_data(picture: Picture, chart: Chart, *, smooth: bool, log_y: bool) -> ChartData:
    """Return the lines of a chart from a picture.

    Args:
        picture: What is known of the run.
        chart: Which curves.
        smooth: Draw a running mean over the raw curve.
        log_y: Draw the y axis in powers of ten.
    """
    lines: list[ChartLine] = []
    main = picture.curves.get(chart.curve)
    if main is not None and len(main):
        points = [(bucket.x, bucket.mean * chart.scale) for bucket in main.points()]
        show_mean = smooth and chart.noisy and len(points) > 8
        style: LineStyle = "raw" if show_mean else "line"
        lines += _prediction(picture, chart, points)
        lines.append(ChartLine(chart.title, points, style))
        if show_mean:
            mean = [(x, value * chart.scale) for x, value in main.smoothed()]
            lines.append(ChartLine("running mean", mean, "line"))
    beside = picture.curves.get(chart.beside)
    if beside is not None and len(beside):
        lines.append(ChartLine(chart.beside_title, [(b.x, b.mean) for b in beside.points()], "points"))
    return ChartData(lines, x_high=float(picture.total_steps or 0) or None, log_y=log_y)


def _prediction(picture: Picture, chart: Chart, points: Sequence[tuple[float, float]]) -> list[ChartLine]:
    """Return what was expected and the high end of the range as flat lines, where they are of what the chart shows."""
    predicted = picture.predicted
    if not chart.predicted_where or not str(predicted.get("where") or "").startswith(chart.predicted_where):
        return []
    ends = (points[0][0], float(picture.total_steps or points[-1][0]))
    sizes = [("predicted, most", predicted.get("high_bytes")), ("expected", predicted.get("expected_bytes"))]
    return [
        ChartLine(title, [(x, size * chart.scale) for x in ends], "raw")
        for title, size in sizes
        if isinstance(size, int | float)
    ]
