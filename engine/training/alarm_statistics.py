"""Statistics of a stream in fixed memory."""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Mean:
    """Exponential mean, corrected for its start as in Adam (arXiv:1412.6980).

    Attributes:
        span: Values that it remembers, about as a plain mean of so many.
    """

    span: float
    total: float = 0.0
    weight: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take in a value."""
        share = 2 / (self.span + 1)
        self.total += share * (value - self.total)
        self.weight += share * (1 - self.weight)
        self.squares = (1 - share) ** 2 * self.squares + share**2

    @property
    def value(self) -> float:
        """The mean; 0 without values."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean, in units of the noise of one value."""
        return math.sqrt(self.squares) / self.weight if self.weight else 1.0


@dataclass(slots=True)
class Line:
    """Straight line through all points, by sums that do not lose digits (Welford 1962)."""

    count: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    def add(self, x: float, y: float) -> None:
        """Take in a point."""
        self.count += 1
        before = x - self.mean_x, y - self.mean_y
        self.mean_x += before[0] / self.count
        self.mean_y += before[1] / self.count
        self.xx += before[0] * (x - self.mean_x)
        self.xy += before[0] * (y - self.mean_y)
        self.yy += before[1] * (y - self.mean_y)

    def change(self) -> tuple[float, float]:
        """Return how much the line rises from its first to its last point, and the standard error of that.

        Needs three points at different places.
        """
        slope = self.xy / self.xx
        unexplained = max(0.0, self.yy - slope * self.xy)
        return slope * self.count, math.sqrt(unexplained / (self.count - 2) / self.xx) * self.count
