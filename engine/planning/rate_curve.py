"""What a sweep over learning rates says: smoothed, with the rate that suits and the one where training breaks. Light.

A sweep takes one step at each rate, from far below the usual one to far above. Losses are told as changes on the very
rows of a step against the untouched model on the same rows, so that hard and easy batches do not show as ups and downs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SWEEP_STEPS = 80
DECADES_BELOW, DECADES_ABOVE = 2.0, 2.0
HIGHEST_RATE = 0.9
_EDGE = 2
_WINDOW = 4
"""Neighbours on each side whose mean is taken, a fifth of a decade together with 20 steps to a decade."""
ENOUGH_FALL = 0.01
"""Share of the first loss that has to be gone before a curve says anything."""
NOISE_FACTOR = 2.5
"""A fall has to be so many times the spread of single steps: a flat curve of noise shows one of 1.6 times."""
BROKEN_SHARE = 0.3
"""Share of the deepest fall that is lost again where training counts as broken."""
BELOW_LOWEST, BELOW_BREAK = 4.0, 8.0
_ROUND = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One step of a sweep.

    Attributes:
        rate: Its learning rate.
        loss: Loss on its rows before the step: the mean of the untouched model, and what this sweep has changed.
    """

    rate: float
    loss: float


@dataclass(frozen=True, slots=True)
class RateAdvice:
    """What a sweep recommends.

    Attributes:
        rate: The learning rate to take, a round number; None where the sweep says nothing.
        reason: Why, one sentence.
        steepest: Rate at which the loss fell fastest.
        lowest: Rate at which the loss was lowest.
        breaks_at: Rate from which on the loss rose again; None when it never did.
        smoothed: The smoothed curve.
    """

    rate: float | None
    reason: str
    steepest: float | None = None
    lowest: float | None = None
    breaks_at: float | None = None
    smoothed: list[RatePoint] = field(default_factory=list)


def sweep_rates(usual: float, steps: int = SWEEP_STEPS) -> list[float]:
    """Return the rates of a sweep: evenly spaced in their logarithm, two decades on both sides of the usual one."""
    low, high = usual * 10**-DECADES_BELOW, min(HIGHEST_RATE, usual * 10**DECADES_ABOVE)
    ratio = (high / low) ** (1 / max(1, steps - 1))
    return [low * ratio**step for step in range(steps)]


def advise(points: Sequence[RatePoint]) -> RateAdvice:
    """Return what a sweep recommends.

    The rate is a quarter of the one at which the loss is lowest, and at most an eighth of the one at which training
    breaks: a sweep takes a single step at each rate, and holds out where a whole run would not. The usual tenth of the
    lowest point was found too careful here: on the starter model and its commands the loss is lowest at 1.1e-2, and
    5e-3 trains better than 5e-4 in every run.

    Args:
        points: In the order of their rates.
    """
    finite = [point for point in points if math.isfinite(point.loss)]
    if len(finite) < 3 * _WINDOW:
        return RateAdvice(None, "The sweep was too short to say anything.")
    smooth = _smoothed(finite)
    first = sum(point.loss for point in smooth[:_WINDOW]) / _WINDOW
    # At the ends there are too few neighbours to smooth.
    low = min(range(_EDGE, len(smooth) - _EDGE), key=lambda place: smooth[place].loss)
    fall = first - smooth[low].loss
    scatter = _scatter(finite[: max(low, len(finite) // 3)])
    if fall < max(ENOUGH_FALL * abs(first), NOISE_FACTOR * scatter):
        reason = "The loss fell at no rate by more than its scatter: this sweep cannot tell a good one."
        return RateAdvice(None, reason, smoothed=smooth)
    steepest = smooth[_steepest(smooth, low)].rate
    lowest = smooth[low].rate
    broken = next((point.rate for point in smooth[low:] if point.loss > smooth[low].loss + BROKEN_SHARE * fall), None)
    wanted = min(lowest / BELOW_LOWEST, math.inf if broken is None else broken / BELOW_BREAK)
    return RateAdvice(round_rate(wanted), _reason(steepest, lowest, broken), steepest, lowest, broken, smooth)


def _reason(steepest: float, lowest: float, broken: float | None) -> str:
    end = f", and rises again from {rate_words(broken)}" if broken is not None else ""
    return (
        f"The loss falls fastest at {rate_words(steepest)} and is lowest at {rate_words(lowest)}{end}; a rate that "
        "holds for a whole run lies well below the lowest point."
    )


def _smoothed(points: Sequence[RatePoint]) -> list[RatePoint]:
    """Return the mean of each point and its neighbours, without the highest and the lowest of them: one odd batch."""
    smooth = []
    for place, point in enumerate(points):
        # As many on both sides, also near the ends: a lopsided mean would bend the curve there.
        reach = min(_WINDOW, place, len(points) - 1 - place)
        around = sorted(near.loss for near in points[place - reach : place + reach + 1])
        kept = around[1:-1] if len(around) > 4 else around
        smooth.append(RatePoint(point.rate, sum(kept) / len(kept)))
    return smooth


def _scatter(points: Sequence[RatePoint]) -> float:
    """Return the spread of single points around the curve, from neighbours, robust against odd ones and slopes."""
    steps = sorted(abs(after.loss - before.loss) for before, after in zip(points, points[1:], strict=False))
    # The median distance of two neighbours is 0.95 times the spread of each.
    return steps[len(steps) // 2] / 0.95


def _steepest(smooth: Sequence[RatePoint], low: int) -> int:
    """Return where the smoothed curve falls fastest over the logarithm of the rate, before its lowest point."""
    best, place = math.inf, low
    for middle in range(1, low):
        before, after = max(0, middle - _WINDOW), min(low, middle + _WINDOW)
        span = math.log(smooth[after].rate / smooth[before].rate)
        slope = (smooth[after].loss - smooth[before].loss) / span
        if slope < best:
            best, place = slope, middle
    return place


def round_rate(rate: float) -> float:
    """Return the nearest of 1, 1.5, 2, 3, 5 and 7 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rate))
    near = min(_ROUND, key=lambda digit: abs(math.log(rate / (digit * power))))
    return float(f"{near * power:.2g}")


def rate_words(rate: float) -> str:
    """Return a rate with two digits, such as `1.8e-4`."""
    mantissa, _, exponent = f"{rate:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
