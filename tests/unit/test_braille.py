"""The chart's arithmetic: dots, axes, spikes, and characters where braille cannot be shown."""

import math

import pytest

from tui.widgets.braille import Bounds, ChartLine, nice_bounds, nice_unit, plot, tick_label, x_axis, y_ticks
from tui.widgets.loss_chart import ChartData, chart_rows

UNIT_SQUARE = Bounds(0.0, 1.0, 0.0, 1.0)


def text(cells: list[list]) -> list[str]:
    return ["".join(cell.character for cell in row) for row in cells]


def test_a_diagonal_runs_from_the_lower_left_to_the_upper_right_dot() -> None:
    cells = text(plot([ChartLine("d", [(0, 0), (1, 1)], "line")], 2, 1, UNIT_SQUARE))
    # Four dots wide and four high: one dot per column, rising.
    assert cells == ["⡠⠊"]


def test_an_empty_chart_draws_only_spaces() -> None:
    assert text(plot([], 3, 2, UNIT_SQUARE)) == ["   ", "   "]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_leave_the_other_points_alone(bad: float) -> None:
    with_bad = plot([ChartLine("d", [(0, 0), (0.5, bad), (1, 1)], "line")], 8, 4, UNIT_SQUARE)
    without = plot([ChartLine("d", [(0, 0), (1, 1)], "line")], 8, 4, UNIT_SQUARE)
    assert with_bad == without


def test_a_cell_shared_by_two_lines_shows_the_later_one() -> None:
    low = ChartLine("a", [(0, 0), (1, 0)], "raw")
    over = ChartLine("b", [(0, 0.05), (1, 0.05)], "line")
    row = plot([low, over], 4, 2, UNIT_SQUARE)[1]
    assert {cell.line for cell in row} == {1}


def test_points_are_marked_in_both_character_sets() -> None:
    line = ChartLine("eval", [(0.5, 0.5)], "points")
    assert "●" in "".join(text(plot([line], 9, 5, UNIT_SQUARE)))
    assert "o" in "".join(text(plot([line], 9, 5, UNIT_SQUARE, ascii_only=True)))


def test_ascii_charts_hold_only_ascii() -> None:
    data = ChartData([ChartLine("loss", [(i, 1 / (i + 1)) for i in range(50)], "line")])
    for row in chart_rows(data, 60, 12, ascii_only=True):
        assert "".join(run for run, _ in row).isascii()


def test_one_spike_does_not_flatten_the_rest() -> None:
    points = [(i, 1.0 + 0.01 * (i % 7)) for i in range(200)] + [(200, 500.0)]
    assert nice_bounds([ChartLine("loss", points, "line")]).y_high < 5


def test_a_flat_curve_is_drawn_in_the_middle_not_as_zero() -> None:
    bounds = nice_bounds([ChartLine("loss", [(0, 2.0), (5, 2.0)], "line")])
    assert bounds.y_low < 2.0 < bounds.y_high


def test_the_logarithmic_axis_leaves_out_values_that_have_no_logarithm() -> None:
    line = ChartLine("lr", [(0, 0.0), (1, 1e-4), (2, 1e-3)], "line")
    bounds = nice_bounds([line], log_y=True)
    assert bounds.y_low <= 1e-4
    assert bounds.y_high >= 1e-3
    plot([line], 10, 5, bounds)


@pytest.mark.parametrize(("rough", "unit"), [(0.9, 1.0), (1.1, 2.0), (2.2, 2.5), (3.0, 5.0), (0.07, 0.1), (600, 1000)])
def test_units_are_round(rough: float, unit: float) -> None:
    assert nice_unit(rough) == pytest.approx(unit)


@pytest.mark.parametrize(
    ("value", "label"), [(0, "0"), (1.5, "1.5"), (0.02, "0.02"), (2e-4, "2e-4"), (250, "250"), (12_000, "12k")]
)
def test_labels_are_short(value: float, label: str) -> None:
    assert tick_label(value) == label


def test_labels_of_the_y_axis_name_round_values_inside_the_bounds() -> None:
    assert list(y_ticks(Bounds(0, 10, 0, 4), 9).values()) == ["0", "2", "4"]


def test_the_x_axis_is_exactly_as_wide_as_the_plot_and_ends_within_it() -> None:
    for width in range(12, 80):
        assert len(x_axis(Bounds(0, 317, 0, 1), width)) == width


@pytest.mark.parametrize(("width", "height"), [(0, 0), (1, 1), (5, 3), (20, 6), (80, 24), (200, 60)])
def test_every_size_gives_rows_that_fit(width: int, height: int) -> None:
    data = ChartData([ChartLine("loss", [(i, math.sin(i)) for i in range(300)], "line")])
    rows = chart_rows(data, width, height)
    assert len(rows) <= max(height, 1)
    for row in rows:
        assert sum(len(run) for run, _ in row) <= max(width, 0)


@pytest.mark.parametrize(("low", "high"), [(10.7, 10.83), (0.0, 2e-4), (1234.5, 1240.0), (99_990.0, 100_010.0)])
def test_labels_of_one_axis_differ_from_each_other(low: float, high: float) -> None:
    bounds = nice_bounds([ChartLine("loss", [(0, low), (1, high)], "line")])
    labels = list(y_ticks(bounds, 12).values())
    assert len(labels) >= 3
    assert len(set(labels)) == len(labels)


def test_a_label_says_its_value_and_not_a_rounder_one() -> None:
    bounds = nice_bounds([ChartLine("rate", [(0, 0.0), (1, 2e-4)], "line")])
    assert "1.5e-4" in y_ticks(bounds, 12).values()
