"""Curves: fixed memory, exact extremes and sums, and the same result however the points arrive."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runs.curves import Curve

FINITE = st.floats(-1e6, 1e6)


def curve_of(values, max_buckets=1024):
    curve = Curve(max_buckets)
    for x, value in enumerate(values):
        curve.add(x, value)
    return curve


@given(st.lists(FINITE, min_size=1, max_size=300), st.sampled_from([2, 4, 16]))
def test_nothing_is_lost_in_merging(values, max_buckets):
    points = curve_of(values, max_buckets).points()
    assert len(points) <= max_buckets
    assert sum(point.num_points for point in points) == len(values)
    assert math.isclose(sum(point.total for point in points), math.fsum(values), rel_tol=1e-9, abs_tol=1e-3)
    assert min(point.lowest for point in points) == min(values)
    assert max(point.highest for point in points) == max(values)
    assert (points[0].x_first, points[-1].x_last) == (0, len(values) - 1)
    assert all(left.x_last < right.x_first for left, right in zip(points, points[1:], strict=False))


@given(
    st.lists(FINITE | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=400),
    st.lists(st.integers(1, 60), min_size=1, max_size=10),
    st.sampled_from([2, 4, 8]),
)
def test_many_points_at_once_are_the_same_as_one_by_one(values, sizes, max_buckets):
    one_by_one = curve_of(values, max_buckets)
    at_once = Curve(max_buckets)
    start = 0
    while start < len(values):
        size = sizes[start % len(sizes)]
        piece = values[start : start + size]
        at_once.extend(list(range(start, start + len(piece))), piece)
        start += size
    expected, found = one_by_one.points(), at_once.points()
    assert [p._replace(total=0) for p in found] == [p._replace(total=0) for p in expected]
    assert [p.total for p in found] == pytest.approx([p.total for p in expected], rel=1e-9, abs=1e-6)
    assert (at_once.num_points, at_once.num_not_finite) == (one_by_one.num_points, one_by_one.num_not_finite)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_counted_and_kept_out(value):
    curve = curve_of([1.0, value, 2.0])
    assert (curve.num_points, curve.num_not_finite, curve.bounds()) == (2, 1, (1.0, 2.0))


def test_a_single_spike_stays_visible_in_a_million_points():
    curve = Curve()
    xs = list(range(1_000_000))
    values = [1.0] * 1_000_000
    values[777_777] = 50.0
    curve.extend(xs, values)
    assert len(curve) <= 1024
    spike = max(curve.points(), key=lambda point: point.highest)
    assert spike.highest == 50.0
    assert spike.x_first <= 777_777 <= spike.x_last


def test_going_back_to_a_checkpoint_forgets_the_steps_after_it():
    curve = curve_of(range(100))
    curve.cut(59)
    assert (len(curve), curve.last, curve.num_points) == (60, (59, 59.0), 60)
    curve.cut(59)
    assert len(curve) == 60
    curve.cut(-1)
    assert (len(curve), curve.last, curve.num_points, curve.bounds()) == (0, None, 0, None)


def test_a_curve_survives_json():
    curve = curve_of([math.sin(x) for x in range(5000)] + [math.nan])
    again = Curve.from_json(json.loads(json.dumps(curve.to_json())))
    assert again.points() == curve.points()
    curve.add(6000, 3.0)
    again.add(6000, 3.0)
    assert again.to_json() == curve.to_json()


@pytest.mark.parametrize("damage", [{"buckets": [[1, 2, 3]]}, {"buckets": 7}, {"max_buckets": 3}, {"last": [1]}])
def test_a_damaged_record_is_refused(damage):
    record = {**curve_of([1.0, 2.0]).to_json(), **damage}
    with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
        Curve.from_json(record)


def test_smoothing_starts_at_the_first_value_and_stays_between_the_extremes():
    curve = curve_of([10.0] + [0.0] * 200)
    smooth = curve.smoothed(0.1)
    assert smooth[0] == (0.0, 10.0)
    assert all(0.0 <= value <= 10.0 for _, value in smooth)
    assert all(left >= right for (_, left), (_, right) in zip(smooth, smooth[1:], strict=False))
    assert smooth[-1][1] < 0.01
    assert curve_of([3.0] * 50).smoothed() == [(float(x), pytest.approx(3.0)) for x in range(50)]


@pytest.mark.parametrize("max_buckets", [0, 1, 7])
def test_an_odd_number_of_buckets_is_refused(max_buckets):
    with pytest.raises(ValueError, match="max_buckets"):
        Curve(max_buckets)
