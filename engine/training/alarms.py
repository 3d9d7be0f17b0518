"""Alarms of one run: the detectors together, their words, and their state as a checkpoint keeps it. Pure.

A loss that has fallen and then stays level is no alarm: by its curve alone, that is how the end of learning looks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from engine.training.alarm_detectors import Baseline, Change, Divergence, Plateau, Point, Spike
from engine.training.alarm_statistics import Line, Mean

Kind = Literal["spike", "divergence", "plateau"]
Watched = Literal["loss", "reward"]

MAX_EPISODES = 5
"""Times that a kind of alarm is raised in a run; a curve that jumps for ever would fill the log."""
STATE_VERSION = 1
_SMOOTH_SHARE, _LEAST_SMOOTH, _MOST_SMOOTH = 1 / 20, 8.0, 50.0
_LOWER_RATE = 3


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at, or the end of it.

    Attributes:
        kind: What is wrong.
        step: Step at which it was seen.
        over: It has ended.
        text: The same with numbers, and what to do.
    """

    kind: Kind
    step: int
    over: bool
    text: str


class AlarmWatch:
    """Follows the curve of one run.

    Args:
        total_steps: Steps of the whole run; what is long depends on it.
        watched: What the curve is; a reward is looked at with its sign turned.
    """

    def __init__(self, total_steps: int, watched: Watched = "loss") -> None:
        self._watched: Watched = watched
        self._baseline = Baseline(squares=Mean(max(12.0, min(50.0, total_steps / 6))))
        self._spike = Spike()
        self._divergence = Divergence(Mean(max(_LEAST_SMOOTH, min(_MOST_SMOOTH, _SMOOTH_SHARE * total_steps))))
        self._plateau = Plateau(total_steps)
        self._episodes: dict[str, int] = {}

    @property
    def watched(self) -> Watched:
        """What the curve is, which is also its name in the trainer's log."""
        return self._watched

    def look(self, step: int, value: float, grad_norm: float | None, learning_rate: float | None) -> list[Alarm]:
        """Take in a finished step and return what began or ended with it; a value that is no number is passed over.

        Args:
            step: Optimizer step, counted from 1.
            value: Its loss, or its mean reward.
            grad_norm: Length of its gradient before clipping.
            learning_rate: Its rate.
        """
        if not math.isfinite(value):
            return []
        point = Point(step, -value if self._watched == "reward" else value, grad_norm, learning_rate)
        before = self._baseline
        spike = self._spike.look(point, before, self._divergence.learned)
        divergence = self._divergence.look(point, before)
        plateau = self._plateau.look(point, before)
        alarms = [
            self._alarm("spike", spike, point),
            self._alarm("divergence", divergence, point),
            self._alarm("plateau", plateau, point),
        ]
        if not self._spike.since:
            before.add(point)
        return [alarm for alarm in alarms if alarm is not None]

    def take_held_out(self, losses: Sequence[float]) -> None:
        """Take in the held-out losses so far: that of the untouched model first, then at least the newest two."""
        if self._watched == "loss" and all(map(math.isfinite, losses)):
            self._plateau.held_out = [*losses[:1], *losses[1:][-2:]]

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain values, for a checkpoint."""
        return {
            "version": STATE_VERSION,
            "watched": self._watched,
            "episodes": dict(self._episodes),
            "baseline": asdict(self._baseline),
            "spike": asdict(self._spike),
            "divergence": asdict(self._divergence),
            "plateau": asdict(self._plateau),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `to_json` returned; the state of another version is left, and the watch begins anew."""
        if state.get("version") != STATE_VERSION or state.get("watched") != self._watched:
            return
        parts = {
            name: {key: _revived(value) for key, value in state[name].items()}
            for name in ("baseline", "spike", "divergence", "plateau")
        }
        total_steps = self._plateau.total_steps
        self._baseline, self._spike = Baseline(**parts["baseline"]), Spike(**parts["spike"])
        self._divergence = Divergence(**parts["divergence"])
        self._plateau = Plateau(**{**parts["plateau"], "total_steps": total_steps})
        self._episodes = dict(state["episodes"])

    def _alarm(self, kind: Kind, change: Change, point: Point) -> Alarm | None:
        if change is None:
            return None
        over = change == "over"
        if not over:
            self._episodes[kind] = self._episodes.get(kind, 0) + 1
        if self._episodes[kind] > MAX_EPISODES:
            return None
        words = {"spike": self._spike_words, "divergence": self._divergence_words, "plateau": self._plateau_words}
        last = " Later ones are not told." if not over and self._episodes[kind] == MAX_EPISODES else ""
        return Alarm(kind, point.step, over, words[kind](point, over) + last)

    def _spike_words(self, point: Point, over: bool) -> str:
        spike = self._spike
        if over:
            return f"The {self._watched} is back at {self._shown(point.value)} at step {point.step}, after its jump."
        jumped = "dropped" if self._watched == "reward" else "jumped"
        still = f" and is still there at step {point.step}" if spike.steps > 1 else ""
        return (
            f"The {self._watched} {jumped} from {self._shown(spike.level)} to {self._shown(spike.highest)} at step "
            f"{spike.since}{still}{self._gradient(point)}. If it does not come back, either {self._causes()}."
        )

    def _divergence_words(self, point: Point, over: bool) -> str:
        divergence = self._divergence
        now = self._shown(divergence.smooth.value)
        reward = self._watched == "reward"
        if over:
            return f"The {self._watched} has come {'up' if reward else 'down'} again: {now} at step {point.step}."
        best = f"{self._shown(divergence.best)} at its best around step {divergence.best_step}"
        if divergence.start <= divergence.best:
            best = f"{self._shown(divergence.start)} in the first steps"
        return (
            f"The {self._watched} is {'falling' if reward else 'rising'}: {now} at step {point.step}, smoothed, "
            f"against {best}{self._gradient(point)}. Either {self._causes()}."
        )

    def _causes(self) -> str:
        """Return what a rise may come from, and what to do about each: rows in an order look like a high rate."""
        rows = "harder prompts" if self._watched == "reward" else "rows sorted by source, length or difficulty"
        return (
            f"the rate is too high (stop the run and start another with {self._calmer()}), or {rows} have come up "
            "(look at the order and the sources of the rows: a lower rate would not help)"
        )

    def _plateau_words(self, point: Point, over: bool) -> str:
        plateau = self._plateau
        reward = self._watched == "reward"
        first, level = self._shown(plateau.first.value), self._shown(self._baseline.level.value)
        if over:
            return f"The {self._watched} {'rises' if reward else 'falls'} now: {level} at step {point.step}."
        held_out = plateau.held_out
        also = f"; on held-out rows {held_out[0]:.4g} before and {held_out[-1]:.4g} now" if len(held_out) > 1 else ""
        rate = "" if point.learning_rate is None else f" (now {point.learning_rate:.2g})"
        fix = (
            "Take easier prompts or more answers to each, so that some earn more than others"
            if reward
            else "See in the X-ray that the right tokens are trained"
        )
        return (
            f"The {self._watched} has not {'risen' if reward else 'fallen'} in {point.step} steps: {first} at first, "
            f"{level} now{also}. {fix}, or raise training.learning_rate{rate}."
        )

    def _shown(self, value: float) -> str:
        # Adding 0 makes 0 of -0.
        return f"{(-value if self._watched == 'reward' else value) + 0.0:.4g}"

    def _gradient(self, point: Point) -> str:
        """Return the gradient norm where it tells something: it has more than doubled."""
        usual = self._baseline.gradient.value
        norm = point.grad_norm
        if norm is None or not math.isfinite(norm) or norm <= 2 * usual:
            return ""
        return f" (gradient norm {norm:.3g}, {usual:.3g} before)"

    def _calmer(self) -> str:
        """Return what makes training calmer, in settings of the recipe."""
        top = self._plateau.top_rate
        rate = f"training.learning_rate {top / _LOWER_RATE:.1e} (was {top:.1e})" if top else "a lower rate"
        return f"{rate} or more training.warmup"


def _revived(value: Any) -> Any:
    """Return a statistic from its values."""
    if isinstance(value, dict):
        return Line(**value) if "xx" in value else Mean(**value)
    return value
