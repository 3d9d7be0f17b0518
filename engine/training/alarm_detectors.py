"""What is odd about a curve: a jump, a rise that does not end, no learning at all. Pure, in fixed memory.

Each detector takes in one step after another and says when an episode begins or ends. What is watched goes down when
things go well: the loss, or the reward with its sign turned. The limits below were chosen on made-up curves and on
those of small real runs; how often they are right is in docs/training.md.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from engine.training.alarm_statistics import Line, Mean

Change = Literal["begun", "over"] | None

MIN_STEPS = 10
"""Steps before any alarm: the noise has to be known first."""
_LEVEL_SPAN, _NOISE_SPAN = 15, 50
_MOST_LIKENESS = 0.9
_FEW_STEPS, _STEPS_TO_KNOW = 4, 100

SPIKE_NOISES, SPIKE_RISE, SPIKE_OF_FALL = 6.0, 0.25, 0.15
"""A jump is so many times the noise, this share of the level, and this share of what had been learned before: near a
loss of 0 the first two go to nothing."""
SPIKE_STEPS, KNOWN_STEPS, KNOWN_TIMES = 4, 6, 2.0
"""Steps in a row that a jump lasts before it is told: a single one is a batch of hard rows. The second where it is at
most so many times what came and went before: hard batches stand together by chance."""
LONE_NOISES, LONE_TIMES, LONE_OF_FALL, MIN_LONE_STEPS = 40.0, 5.0, 0.5, 50
"""A single step is told where it is so many times the noise, so many times the level and the largest excess so far,
and this share of what had been learned."""
LONE_LEAST_LEVEL = 0.1
"""Share of what had been learned below which no single step is told: one row with a wrong label, of which the model
is sure, lifts a loss near 0 above the first one, and does no harm unless the loss stays up."""
CALM_STEPS = 3

RISE_ERRORS, RISE_OF_BEST, RISE_OF_FALL = 6.0, 0.25, 0.15
"""A rise is so many standard errors, this share of the best level, and this share of what had been learned before."""

FLAT_ERRORS, FLAT_SHARE, FLAT_HELD_OUT = 2.5, 0.04, 0.005
"""Nothing is learned while, errors counted in, the curve is on its way to fall by less than this share in the whole
run; or while the held-out loss has changed by less than the last share."""
MIN_FLAT_STEPS, MIN_FULL_STEPS, LONG_RUN_STEPS = 50, 30, 2000
"""Steps before standing still is told, and those of them after the warm-up; a longer run is not waited for longer."""
_LEAST_RATE = 0.3
"""Part of the highest learning rate below which standing still is no wonder."""


@dataclass(frozen=True, slots=True)
class Point:
    """One step.

    Attributes:
        step: Optimizer step that was finished.
        value: Loss of the step, or its reward with the sign turned.
        grad_norm: Length of the gradient before it was clipped; None where it is not known.
        learning_rate: Rate of the step; None where it is not known.
    """

    step: int
    value: float
    grad_norm: float | None = None
    learning_rate: float | None = None


@dataclass(slots=True)
class Baseline:
    """What a curve is like: level, noise, and how much a step resembles the one before it."""

    count: int = 0
    last: float = 0.0
    last_change: float = 0.0
    level: Mean = field(default_factory=lambda: Mean(_LEVEL_SPAN))
    drift: Mean = field(default_factory=lambda: Mean(_LEVEL_SPAN))
    squares: Mean = field(default_factory=lambda: Mean(_NOISE_SPAN))
    products: float = 0.0
    scaled_squares: float = 0.0
    gradient: Mean = field(default_factory=lambda: Mean(_NOISE_SPAN))

    def add(self, point: Point) -> None:
        """Take in a step."""
        if self.count:
            self._add_change(point.value - self.last)
        self.level.add(point.value)
        if point.grad_norm is not None and math.isfinite(point.grad_norm):
            self.gradient.add(point.grad_norm)
        self.count += 1
        self.last = point.value

    def _add_change(self, change: float) -> None:
        # Less the drift: a steep fall at the start would pass for noise.
        odd = change - self.drift.value
        self.drift.add(change)
        self.squares.add(odd**2)
        if self.count > 2 and self.squares.value:
            self.products += odd * self.last_change / self.squares.value
            self.scaled_squares += odd**2 / self.squares.value
        self.last_change = odd

    @property
    def likeness(self) -> float:
        """Correlation of neighbouring steps, from 0 to 0.9.

        The changes of a curve whose steps are correlated by r are correlated by (r - 1) / 2.
        """
        if not self.scaled_squares:
            return 0.0
        # A few steps of a rise look like noise that lasts.
        most = min(_MOST_LIKENESS, self.count / _STEPS_TO_KNOW)
        return min(most, max(0.0, 1 + 2 * self.products / self.scaled_squares))

    @property
    def noise(self) -> float:
        """Standard deviation of a step around the level; more after a few steps, which do not show it well."""
        return math.sqrt(self.squares.value / 2 / (1 - self.likeness)) * (1 + _FEW_STEPS / max(1, self.count))

    @property
    def slow_noise(self) -> float:
        """Standard deviation of a mean of n steps, times the root of n: larger where steps resemble each other."""
        return self.noise * self.slowness

    @property
    def slowness(self) -> float:
        """How much larger the error of a mean is than that of one of steps that do not resemble each other."""
        return math.sqrt((1 + self.likeness) / (1 - self.likeness))


@dataclass(slots=True)
class Spike:
    """A jump above the level before it.

    Attributes:
        since: First step of the jump under way; 0 without one.
        steps: Its steps in a row.
        told: It is an episode.
        level: The curve before it.
        noise: The noise before it.
        highest: Largest value in it.
        calm: Steps in a row back at the level.
        largest: Largest excess so far that was no episode.
        learned: What had been learned before it.
    """

    since: int = 0
    steps: int = 0
    told: bool = False
    level: float = 0.0
    noise: float = 0.0
    highest: float = 0.0
    calm: int = 0
    largest: float = 0.0
    learned: float = 0.0

    def look(self, point: Point, before: Baseline, learned: float) -> Change:
        """Take in a step; the baseline holds neither it nor the steps of a jump under way.

        Args:
            point: The step.
            before: The curve before it.
            learned: How far the smoothed curve had fallen; 0 where it had not.
        """
        if before.count < MIN_STEPS:
            return None
        if not self.since:
            excess = point.value - before.level.value
            if excess <= _jump(before.level.value, before.noise, learned):
                self.largest = max(self.largest, excess)
                return None
            self.since, self.steps, self.told, self.calm = point.step, 0, False, 0
            self.level, self.noise, self.highest = before.level.value, before.noise, point.value
            self.learned = learned
        self.highest = max(self.highest, point.value)
        excess = point.value - self.level
        back = excess <= _jump(self.level, self.noise, self.learned) / 2
        return self._end(back) if self.told else self._begin(back, excess, before)

    def _begin(self, back: bool, excess: float, before: Baseline) -> Change:
        if back:
            self._forget()
            return None
        self.steps += 1
        known = self.highest - self.level <= KNOWN_TIMES * self.largest
        self.told = self.steps >= (KNOWN_STEPS if known else SPIKE_STEPS) or (
            before.count >= MIN_LONE_STEPS and self._is_enormous(excess)
        )
        return "begun" if self.told else None

    def _is_enormous(self, excess: float) -> bool:
        """Return whether a single step is told."""
        level = abs(self.level)
        least = max(LONE_NOISES * self.noise, LONE_TIMES * max(self.largest, level), LONE_OF_FALL * self.learned)
        return level >= LONE_LEAST_LEVEL * self.learned and excess > least

    def _end(self, back: bool) -> Change:
        self.steps += 1
        self.calm = self.calm + 1 if back else 0
        if self.calm < CALM_STEPS:
            return None
        self._forget()
        return "over"

    def _forget(self) -> None:
        self.largest = max(self.largest, self.highest - self.level)
        self.since = 0


def _jump(level: float, noise: float, learned: float) -> float:
    return max(SPIKE_NOISES * noise, SPIKE_RISE * abs(level), SPIKE_OF_FALL * learned)


@dataclass(slots=True)
class Divergence:
    """A smoothed curve far above its best.

    Attributes:
        smooth: The smoothed curve.
        best: Its lowest value.
        best_error: Standard error of that, in units of the noise.
        best_step: Where that was; 0 before the first.
        start: Mean of the first steps.
        high: Steps above half the limit, less those below.
        told: An episode is under way.
    """

    smooth: Mean
    best: float = 0.0
    best_error: float = 1.0
    best_step: int = 0
    start: float = 0.0
    high: float = 0.0
    told: bool = False

    @property
    def learned(self) -> float:
        """How far the smoothed curve had fallen at its best; 0 where it had not."""
        return max(0.0, self.start - self.best) if self.best_step else 0.0

    def look(self, point: Point, before: Baseline) -> Change:
        """Take in a step; the baseline does not hold it."""
        self.smooth.add(point.value)
        now = self.smooth.value
        if before.count < 3:
            self.start = now
            return None
        if not self.best_step or now < self.best:
            self.best, self.best_error, self.best_step = now, self.smooth.error, point.step
        if before.count < MIN_STEPS:
            return None
        least = self._least(before)
        self.high = max(0.0, self.high + (1 if point.value - self.best > least / 2 else -1))
        if not self.told and now - self.best > least and self.high >= self.smooth.span:
            self.told = True
            return "begun"
        if self.told and now - self.best < least / 2:
            self.told, self.high = False, 0.0
            return "over"
        return None

    def _least(self, before: Baseline) -> float:
        errors = before.slow_noise * math.hypot(self.best_error, self.smooth.error)
        return max(RISE_ERRORS * errors, RISE_OF_BEST * abs(self.best), RISE_OF_FALL * (self.start - self.best))


@dataclass(slots=True)
class Plateau:
    """A curve that has not fallen since the first step.

    Attributes:
        total_steps: Steps of the whole run.
        first: Mean of the first steps.
        line: Straight line through all steps.
        first_step: Step that the line begins with; 0 before.
        rate: Learning rate of the newest step.
        top_rate: Highest so far.
        full_steps: Steps after the warm-up.
        held_out: Held-out loss of the untouched model, and the newest two since.
        told: An episode is under way.
        fell: The curve has fallen, so that there is nothing more to watch.
    """

    total_steps: int
    first: Mean = field(default_factory=lambda: Mean(1e9))
    line: Line = field(default_factory=Line)
    first_step: int = 0
    rate: float = 0.0
    top_rate: float = 0.0
    full_steps: int = 0
    held_out: list[float] = field(default_factory=list)
    told: bool = False
    fell: bool = False

    def look(self, point: Point, before: Baseline) -> Change:
        """Take in a step; the baseline does not hold it."""
        self.first_step = self.first_step or point.step
        if self.line.count < MIN_STEPS:
            self.first.add(point.value)
        self.line.add(point.step, point.value)
        self._follow(point.learning_rate)
        if self.told and self._falls(before):
            self.told, self.fell = False, True
            return "over"
        if (
            not self.told
            and not self.fell
            and self._can_tell()
            and (self._is_flat(before) or self._held_out_is_flat(before))
        ):
            self.told = True
            return "begun"
        return None

    def _follow(self, rate: float | None) -> None:
        if rate is None:
            return
        self.full_steps += rate <= self.rate
        self.rate, self.top_rate = rate, max(self.top_rate, rate)

    def _can_tell(self) -> bool:
        """Return whether enough of the run has been seen, from its first step on, at a rate that does something."""
        enough = max(MIN_FLAT_STEPS, min(self.total_steps, LONG_RUN_STEPS) / 4)
        return (
            self.first_step == 1
            and self.line.count >= enough
            and self.full_steps >= max(MIN_FULL_STEPS, enough / 2)
            and self.rate >= _LEAST_RATE * self.top_rate
        )

    def _is_flat(self, before: Baseline) -> bool:
        part = min(1.0, self.line.count / min(self.total_steps, LONG_RUN_STEPS))
        least = FLAT_SHARE * part * abs(self.line.mean_y)
        change, error = self.line.change()
        # A line sees little of a fall in the first few steps.
        fallen = self.first.value - self.line.mean_y
        error *= before.slowness
        return abs(change) + FLAT_ERRORS * error <= least and fallen + before.slow_noise * self.first.error <= least / 2

    def _held_out_is_flat(self, before: Baseline) -> bool:
        """Return whether two measurements of held-out rows, which have no noise of batches, say it earlier."""
        if len(self.held_out) < 3:
            return False
        untouched, *newest = self.held_out
        fallen = self.first.value - before.level.value
        return (
            all(abs(loss - untouched) <= FLAT_HELD_OUT * abs(untouched) for loss in newest)
            and fallen <= FLAT_SHARE * abs(self.line.mean_y) + before.noise * self.first.error
        )

    def _falls(self, before: Baseline) -> bool:
        change, error = self.line.change()
        fallen = self.first.value - before.level.value
        return change + FLAT_ERRORS * error < 0 and fallen > FLAT_SHARE * abs(self.line.mean_y)
