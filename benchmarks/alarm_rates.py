"""How often the alarms on a curve fire when they should, and when they should not: on made-up curves.

Clean curves: every shape, length, kind and level of noise of `tests/unit/made_curves.py`. Uneven rows: wrong
classes in an easy task, batches of a harder source, rows sorted by source. Planted faults: on exponential falls to a
floor of 0.5 to 2, in the last half of the run. `--repeats` draws each combination so many times.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.training.alarms import AlarmWatch, Watched  # noqa: E402
from tests.unit import made_curves as made  # noqa: E402


def raised(
    values: list[float], rates: list[float] | None = None, watched: Watched = "loss", since: int = 0
) -> set[str]:
    """Return the kinds of alarms that begin on a curve, from a step on."""
    watch, kinds = AlarmWatch(len(values), watched), set()
    for step, value in enumerate(values, 1):
        for alarm in watch.look(step, value, None, rates[step - 1] if rates else 1e-4):
            if not alarm.over and step > since:
                kinds.add(alarm.kind)
    return kinds


def false_alarms(curves: Iterable[tuple[str, list[float], list[float]]], watched: Watched, title: str) -> None:
    """Print how many clean curves raise an alarm."""
    count, wrong = 0, Counter[str]()
    for _, values, rates in curves:
        count += 1
        wrong.update(raised(values, rates, watched))
    told = ", ".join(f"{kind} {number}" for kind, number in wrong.items()) or "none"
    print(f"{title}: {count} curves, alarms: {told}", flush=True)


def uneven_rows(repeats: int) -> None:
    """Print how many curves of rows that are not alike raise an alarm, by kind; of sorted rows, a rise is real."""
    for shape in (*made.UNEVEN_ROWS, made.sorted_sources):
        told = []
        for n in made.UNEVEN_LENGTHS:
            wrong = Counter[str]()
            for seed in range(repeats):
                wrong.update(raised(shape(random.Random(f"{shape.__name__} {n} {seed}"), n)))
            kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(wrong.items())) or "none"
            told.append(f"{n} steps: {kinds}")
        print(f"{shape.__name__}, {repeats} curves of each length, alarms: {'; '.join(told)}", flush=True)


def faults() -> dict[str, tuple[str, Callable[[list[float], random.Random], tuple[list[float], int]]]]:
    """Return `{name: (kind, spoil)}`; spoil returns the curve and the step before the fault."""

    def spike(times: float, steps: int) -> Callable[[list[float], random.Random], tuple[list[float], int]]:
        def spoil(values: list[float], rng: random.Random) -> tuple[list[float], int]:
            at = int(len(values) * rng.uniform(0.55, 0.75))
            return made.with_spike(values, at, times, steps), at

        return spoil

    def rise(to: float, share: float) -> Callable[[list[float], random.Random], tuple[list[float], int]]:
        def spoil(values: list[float], rng: random.Random) -> tuple[list[float], int]:
            at = len(values) // 2
            return made.with_rise(values, at, to, max(2, int(share * len(values)))), at

        return spoil

    def flat(values: list[float], rng: random.Random) -> tuple[list[float], int]:
        return values, 0

    return {
        "spike, twice the loss for 6 steps": ("spike", spike(2, 6)),
        "spike, 4 times for 6 steps": ("spike", spike(4, 6)),
        "spike, 10 times for 1 step": ("spike", spike(10, 1)),
        "rise to 1.5 times": ("divergence", rise(1.5, 0.2)),
        "rise to twice": ("divergence", rise(2, 0.2)),
        "rise to 4 times": ("divergence", rise(4, 0.2)),
        "no learning": ("plateau", flat),
    }


def detections(repeats: int) -> None:
    """Print the share of planted faults that are found, by length and noise."""
    for name, (kind, spoil) in faults().items():
        print(f"\n{name}\n  steps  " + "".join(f"noise {level:<8.0%}" for level in made.NOISES))
        for n in made.LENGTHS:
            cells = []
            for level in made.NOISES:
                rng, found = random.Random(f"{name} {n} {level}"), 0
                for _ in range(repeats):
                    shape = [2.3] * n if kind == "plateau" else falling(rng, n)
                    values, at = spoil(made.noisy(shape, rng.choice(made.USUAL)(rng, n), level), rng)
                    kinds = raised(values, since=at)
                    # A rise that begins at once is a jump as well.
                    found += kind in kinds or (kind == "divergence" and "spike" in kinds)
                cells.append(f"{found / repeats:<14.0%}")
            print(f"  {n:>5}  " + "".join(cells), flush=True)


def falling(rng: random.Random, n: int) -> list[float]:
    """Return an exponential fall to a floor that is far from 0."""
    fall, floor, span = rng.uniform(0.5, 3), rng.choice((0.5, 1.2, 2.0)), n * rng.choice((0.03, 0.1, 0.2))
    return [fall * 2.718281828 ** (-t / max(1, span)) + floor for t in range(n)]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    for title, noises in (("usual noise", made.USUAL), ("harsh noise", made.HARSH)):
        losses = (curve for seed in range(repeats) for curve in made.clean_losses(seed, noises=noises))
        false_alarms(losses, "loss", f"clean losses, {title}")
        rewards = (curve for seed in range(repeats) for curve in made.clean_rewards(seed, noises=noises))
        false_alarms(rewards, "reward", f"clean rewards, {title}")
    uneven_rows(20 * repeats)
    detections(4 * repeats)


if __name__ == "__main__":
    main()
