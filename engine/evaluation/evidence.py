"""How sure a measured number is, and whether a change is more than luck: resampling of the rows it was measured on.

Two questions are asked of the same rows, each by its standard answer. How far would the number move with other rows
of the same kind? A bootstrap of the rows (Efron 1979; for translation and summaries Koehn 2004). Could the models be
equal, and the change come from which of them happened to answer which row? Approximate randomization of the pairs
(Noreen 1989; Riezler and Maxwell 2005, who find that the bootstrap alone calls too many models different). A change is
called better or worse only where both say so.

Shapes: B samples, R rows, P parts, N entries.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["ratio", "exp_ratio", "f1", "bleu", "chrf", "macro_f1"]
Verdict = Literal["better", "worse", "no evidence", "unknown"]

NUM_SAMPLES = 2000
"""Samples of the rows: the ends of a 95 % interval then rest on fifty of them each."""
CONFIDENCE = 0.95
_NORMAL_95 = 1.959964
"""Standard errors on either side of the middle that hold 95 % of a normal distribution."""
SEED = 20_01
"""Of every resampling: the same rows give the same interval."""

MAX_CELLS = 4_000_000
"""Weights held at once, 32 MB: thousands of rows must not cost a training machine gigabytes."""

Numbers = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Numbers]
"""Called as `draw(dice, samples, rows)`, returns weights of shape [B, R]."""


@dataclass(frozen=True, slots=True)
class RowNumbers:
    """What each row adds to a number.

    Attributes:
        kind: How sums over rows become the number; `macro_f1` reads `parts` as `[row, label, right, given, expected]`.
        ids: Name of each row, none twice.
        parts: Numbers of shape [R, P]; [N, 5] for `macro_f1`.
    """

    kind: Kind
    ids: tuple[str, ...]
    parts: Numbers

    def values(self, weights_BR: Numbers) -> Numbers:
        """Return the number once for each way of weighing the rows, of shape [B]; NaN where nothing is divided by."""
        if self.kind == "macro_f1":
            return _macro_f1(self.parts, weights_BR)
        sums_BP = weights_BR @ self.parts
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return _FORMULAS[self.kind](sums_BP)

    def value(self) -> float:
        """Return the number itself."""
        return float(self.values(np.ones((1, len(self.ids))))[0])

    def of(self, ids: Sequence[str]) -> "RowNumbers":
        """Return the same for some of its rows, in the given order."""
        place = {name: number for number, name in enumerate(self.ids)}
        chosen = [place[name] for name in ids]
        if self.kind != "macro_f1":
            return RowNumbers(self.kind, tuple(ids), self.parts[chosen])
        new = {old: number for number, old in enumerate(chosen)}
        kept = [[new[int(row)], *rest] for row, *rest in self.parts.tolist() if int(row) in new]
        return RowNumbers(self.kind, tuple(ids), np.asarray(kept, dtype=np.float64).reshape(-1, 5))


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number lies with 95 % confidence; None where too few rows say nothing."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rows say of a change.

    Attributes:
        verdict: Better or worse beyond luck; `unknown` where it cannot be said, as with one row.
        difference: After less before, on the rows that both have.
        interval: Of the difference.
        p_value: How often two equal models would differ as much.
        num_rows: Rows that both have.
    """

    verdict: Verdict
    difference: float
    interval: Interval | None
    p_value: float | None
    num_rows: int


def interval_of(numbers: RowNumbers) -> Interval | None:
    """Return where a number lies with 95 % confidence; None for fewer than two rows.

    A bootstrap over rows, and for a share of rows that are right or wrong the interval of Wilson (1927): where all rows
    are alike a bootstrap draws the same each time, and would be sure of 100 % after three answers.
    """
    if len(numbers.ids) < 2:
        return None
    if _counts_rows(numbers):
        return _wilson(float(numbers.parts[:, 0].sum()), len(numbers.ids))
    return _percentiles(_sampled(numbers.values, _draws, len(numbers.ids)))


def _counts_rows(numbers: RowNumbers) -> bool:
    """Return whether a number is the share of rows that are right, each wholly or not at all."""
    return numbers.kind == "ratio" and bool(
        np.isin(numbers.parts[:, 0], (0.0, 1.0)).all() and (numbers.parts[:, 1] == 1.0).all()
    )


def _wilson(num_right: float, num_rows: int) -> Interval:
    """Return the interval of Wilson's score test."""
    share, spread = num_right / num_rows, _NORMAL_95**2 / num_rows
    middle = (share + spread / 2) / (1 + spread)
    half = _NORMAL_95 / (1 + spread) * math.sqrt(share * (1 - share) / num_rows + spread / (4 * num_rows))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def compare(before: RowNumbers, after: RowNumbers, better: Literal["lower", "higher", "neither"]) -> Evidence:
    """Return what the rows that two measurements share say of the change between them.

    Args:
        before: Of the one model.
        after: Of the other, the same number of the same kind.
        better: Direction of improvement; `neither` gives no verdict.
    """
    known = set(after.ids)
    shared = [name for name in before.ids if name in known]
    if len(shared) < 2:
        return Evidence("unknown", math.nan, None, None, len(shared))
    left, right = before.of(shared), after.of(shared)
    difference = right.value() - left.value()
    interval = _percentiles(
        _sampled(lambda weights_BR: right.values(weights_BR) - left.values(weights_BR), _draws, len(shared))
    )
    p_value = _randomized(left, right, difference)
    return Evidence(_verdict(difference, interval, p_value, better), difference, interval, p_value, len(shared))


def _verdict(
    difference: float, interval: Interval | None, p_value: float | None, better: Literal["lower", "higher", "neither"]
) -> Verdict:
    if interval is None or p_value is None or better == "neither":
        return "unknown"
    if p_value >= 1 - CONFIDENCE or interval.low <= 0 <= interval.high:
        return "no evidence"
    return "better" if (difference > 0) == (better == "higher") else "worse"


def _sampled(values: Callable[[Numbers], Numbers], draw: Draw, num_rows: int) -> Numbers:
    """Return a number for each of the samples, of shape [B]; as many samples at once as fit into little memory."""
    dice = np.random.default_rng(SEED)
    at_once = max(1, min(NUM_SAMPLES, MAX_CELLS // num_rows))
    sizes = [min(at_once, NUM_SAMPLES - start) for start in range(0, NUM_SAMPLES, at_once)]
    return np.concatenate([values(draw(dice, size, num_rows)) for size in sizes])


def _draws(dice: np.random.Generator, num_samples: int, num_rows: int) -> Numbers:
    """Return how often each row is in each sample, of shape [B, R]: rows drawn with replacement."""
    return dice.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=num_samples).astype(np.float64)


def _coins(dice: np.random.Generator, num_samples: int, num_rows: int) -> Numbers:
    """Return 0 or 1 for each row of each sample, of shape [B, R]."""
    return dice.integers(0, 2, size=(num_samples, num_rows)).astype(np.float64)


def _percentiles(values_B: Numbers) -> Interval | None:
    finite = values_B[np.isfinite(values_B)]
    if len(finite) < len(values_B) / 2:
        return None
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(finite, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _randomized(left: RowNumbers, right: RowNumbers, difference: float) -> float | None:
    """Return how often a difference as large appears when each row's two answers are dealt to the models by a coin."""
    if not math.isfinite(difference):
        return None
    both = _joined(left, right)

    def dealt(coins_BR: Numbers) -> Numbers:
        return both.values(np.hstack([1 - coins_BR, coins_BR])) - both.values(np.hstack([coins_BR, 1 - coins_BR]))

    dealt_B = _sampled(dealt, _coins, len(left.ids))
    # A hair of room: sums in another order differ in their last bit.
    as_large = np.abs(dealt_B) >= abs(difference) * (1 - 1e-9)
    return float((1 + np.count_nonzero(as_large)) / (1 + NUM_SAMPLES))


def _joined(left: RowNumbers, right: RowNumbers) -> RowNumbers:
    """Return the rows of both models as one list, those of the left one first."""
    ids = (*(f"left {name}" for name in left.ids), *(f"right {name}" for name in right.ids))
    later = right.parts
    if left.kind == "macro_f1":
        later = later + np.asarray([len(left.ids), 0, 0, 0, 0], dtype=np.float64)
    return RowNumbers(left.kind, ids, np.vstack([left.parts, later]))


def _ratio(sums_BP: Numbers) -> Numbers:
    ratio: Numbers = sums_BP[:, 0] / sums_BP[:, 1]
    return ratio


def _exp_ratio(sums_BP: Numbers) -> Numbers:
    value: Numbers = np.exp(_ratio(sums_BP))
    return value


def _f1(sums_BP: Numbers) -> Numbers:
    """Parts: right, given, expected."""
    value: Numbers = 2 * sums_BP[:, 0] / (sums_BP[:, 1] + sums_BP[:, 2])
    return value


def _bleu(sums_BP: Numbers) -> Numbers:
    """Parts: as sacreBLEU counts them."""
    from engine.evaluation.metrics.bleu import bleu_of_counts

    return np.asarray([bleu_of_counts(sums) for sums in sums_BP])


def _chrf(sums_BP: Numbers) -> Numbers:
    from engine.evaluation.metrics.chrf import chrf_of_counts

    return np.asarray([chrf_of_counts(sums) for sums in sums_BP])


def _macro_f1(parts_N5: Numbers, weights_BR: Numbers) -> Numbers:
    """Return the plain mean of the F1 of every label that a sample has; parts: row, label, right, given, expected."""
    rows, labels = parts_N5[:, 0].astype(np.int64), parts_N5[:, 1].astype(np.int64)
    num_labels = int(labels.max(initial=-1)) + 1
    values = np.full(len(weights_BR), np.nan)
    for at, weights_R in enumerate(weights_BR):
        shares_N = weights_R[rows]
        right, given, expected = (
            np.bincount(labels, shares_N * parts_N5[:, place], minlength=num_labels) for place in (2, 3, 4)
        )
        there = given + expected > 0
        if there.any():
            values[at] = np.mean(2 * right[there] / (given + expected)[there])
    return values


_FORMULAS: dict[Kind, Callable[[Numbers], Numbers]] = {
    "ratio": _ratio,
    "exp_ratio": _exp_ratio,
    "f1": _f1,
    "bleu": _bleu,
    "chrf": _chrf,
}
