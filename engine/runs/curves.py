"""Curves of any length in fixed memory: at most 1,024 buckets, whose neighbours merge when all are taken."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

MAX_BUCKETS = 1024


class Bucket(NamedTuple):
    """Consecutive points of a curve.

    Attributes:
        x_first: Step of the first point.
        x_last: Step of the last point.
        lowest: Smallest value.
        highest: Largest value.
        total: Sum of the values.
        num_points: Number of points.
    """

    x_first: float
    x_last: float
    lowest: float
    highest: float
    total: float
    num_points: int

    @property
    def x(self) -> float:
        """Middle of the bucket."""
        return (self.x_first + self.x_last) / 2

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return self.total / self.num_points


class Curve:
    """One series of values over steps.

    A bucket holds `points_per_bucket` points, one at first; when all buckets are full, neighbours merge in pairs, so
    that adding stays O(1) and the extremes of every part of the curve stay visible. Values that are not finite are kept
    out and counted.
    """

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        if max_buckets < 2 or max_buckets % 2:
            raise ValueError(f"max_buckets must be even and at least 2, got {max_buckets}")
        self.max_buckets = max_buckets
        self.points_per_bucket = 1
        self.num_points = 0
        self.num_not_finite = 0
        self.last: tuple[float, float] | None = None
        self._buckets: list[list[float]] = []

    def __len__(self) -> int:
        return len(self._buckets)

    def add(self, x: float, value: float) -> None:
        """Add a point; steps do not go back (see `cut`)."""
        if not math.isfinite(value):
            self.num_not_finite += 1
            return
        self.num_points += 1
        self.last = (x, value)
        buckets = self._buckets
        if buckets:
            bucket = buckets[-1]
            if bucket[5] < self.points_per_bucket:
                _extend_bucket(bucket, x, value, value, value, 1)
                return
            if len(buckets) == self.max_buckets:
                self._merge_pairs()
        self._buckets.append([x, x, value, value, value, 1])

    def extend(self, xs: Sequence[float], values: Sequence[float]) -> None:
        """Add many points at once: the same as `add` for each, several times faster on long curves."""
        start = 0
        while start < len(values):
            room = self._room()
            piece = values[start : start + room]
            if room < 8 or len(piece) < 8 or not math.isfinite(sum(piece)):
                self.add(xs[start], values[start])
                start += 1
                continue
            start += len(piece)
            last_x = xs[start - 1]
            self.num_points += len(piece)
            self.last = (last_x, piece[-1])
            self._put_piece(xs[start - len(piece)], last_x, piece)

    def _room(self) -> int:
        """Return how many points fit into the bucket that the next point goes to."""
        if self._buckets and self._buckets[-1][5] < self.points_per_bucket:
            return int(self.points_per_bucket - self._buckets[-1][5])
        return self.points_per_bucket

    def _put_piece(self, x_first: float, x_last: float, piece: Sequence[float]) -> None:
        lowest, highest, total = min(piece), max(piece), sum(piece)
        if self._buckets and self._buckets[-1][5] < self.points_per_bucket:
            _extend_bucket(self._buckets[-1], x_last, lowest, highest, total, len(piece))
            return
        if len(self._buckets) == self.max_buckets:
            self._merge_pairs()
        self._buckets.append([x_first, x_last, lowest, highest, total, len(piece)])

    def _merge_pairs(self) -> None:
        for index in range(0, len(self._buckets), 2):
            left, right = self._buckets[index], self._buckets[index + 1]
            _extend_bucket(left, right[1], right[2], right[3], right[4], right[5])
        self._buckets = self._buckets[::2]
        self.points_per_bucket *= 2

    def cut(self, x: float) -> None:
        """Forget what lies after step `x`: a run that goes back to a checkpoint draws those steps again.

        A bucket that begins at or before `x` stays whole, so up to one bucket of the old points remains.
        """
        keep = bisect_right(self._buckets, x, key=lambda bucket: bucket[0])
        if keep == len(self._buckets):
            return
        self.num_points -= int(sum(bucket[5] for bucket in self._buckets[keep:]))
        del self._buckets[keep:]
        self.last = None
        if self._buckets:
            tail = self.points()[-1]
            self.last = (tail.x_last, tail.mean)

    def points(self) -> list[Bucket]:
        """Return the buckets in order of steps."""
        return [Bucket(b[0], b[1], b[2], b[3], b[4], int(b[5])) for b in self._buckets]

    def bounds(self) -> tuple[float, float] | None:
        """Return the smallest and the largest value; None without points."""
        if not self._buckets:
            return None
        return min(bucket[2] for bucket in self._buckets), max(bucket[3] for bucket in self._buckets)

    def smoothed(self, share: float = 0.05) -> list[tuple[float, float]]:
        """Return `(step, value)` of a running mean that looks back over a share of the curve.

        An exponential mean of the bucket means, corrected for its start (as in Adam, arXiv:1412.6980), so that the
        first values are not pulled towards zero.

        Args:
            share: Part of the buckets that the mean remembers, above 0 and at most 1.
        """
        window = max(1.0, share * len(self._buckets))
        keep = 1 - 1 / window
        mean = weight = 0.0
        smooth: list[tuple[float, float]] = []
        for bucket in self.points():
            mean = keep * mean + (1 - keep) * bucket.mean
            weight = keep * weight + (1 - keep)
            smooth.append((bucket.x, mean / weight))
        return smooth

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return {
            "max_buckets": self.max_buckets,
            "points_per_bucket": self.points_per_bucket,
            "num_points": self.num_points,
            "num_not_finite": self.num_not_finite,
            "last": self.last,
            "buckets": self._buckets,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Curve":
        """Return the curve that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: The record is not one of ours.
        """
        curve = cls(int(record["max_buckets"]))
        curve.points_per_bucket = int(record["points_per_bucket"])
        curve.num_points = int(record["num_points"])
        curve.num_not_finite = int(record["num_not_finite"])
        curve.last = (record["last"][0], record["last"][1]) if record["last"] else None
        curve._buckets = [[*bucket] for bucket in record["buckets"]]
        if any(len(bucket) != len(Bucket._fields) for bucket in curve._buckets):
            raise ValueError("a bucket has the wrong number of values")
        return curve


def _extend_bucket(
    bucket: list[float], x_last: float, lowest: float, highest: float, total: float, count: float
) -> None:
    bucket[1] = x_last
    if lowest < bucket[2]:
        bucket[2] = lowest
    if highest > bucket[3]:
        bucket[3] = highest
    bucket[4] += total
    bucket[5] += count
