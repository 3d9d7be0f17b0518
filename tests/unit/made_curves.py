"""Made-up curves of training: clean ones of many kinds, and ways to spoil them; `benchmarks/alarm_rates.py` too."""

import math
import random
from collections.abc import Callable, Iterator

LENGTHS = (20, 60, 300, 1500)
NOISES = (0.01, 0.03, 0.1, 0.3)
SCHEDULES = ("cosine", "linear", "constant")


def exponential(rng: random.Random, n: int) -> list[float]:
    fall, floor, span = rng.uniform(0.5, 9), rng.choice((0.01, 0.1, 0.5, 1.2, 2.0)), n * rng.choice((0.01, 0.1, 0.3, 1))
    return [fall * math.exp(-t / max(1, span)) + floor for t in range(n)]


def power_law(rng: random.Random, n: int) -> list[float]:
    fall, floor, span = rng.uniform(0.5, 9), rng.choice((0.1, 0.5, 2.0)), n * rng.choice((0.003, 0.02, 0.1))
    power = rng.uniform(0.2, 1)
    return [fall * (1 + t / max(1, span)) ** -power + floor for t in range(n)]


def straight(rng: random.Random, n: int) -> list[float]:
    level, share = rng.choice((0.5, 1.2, 3.0)), rng.uniform(0.05, 0.5)
    return [level * (1 - share * t / n) for t in range(n)]


def little_to_learn(rng: random.Random, n: int) -> list[float]:
    level, share, span = rng.choice((0.5, 1.2, 3.0)), rng.uniform(0.04, 0.15), max(5, n * rng.choice((0.02, 0.1, 0.3)))
    return [level * (1 - share * (1 - math.exp(-t / span))) for t in range(n)]


def long_warm_up(rng: random.Random, n: int) -> list[float]:
    fall, floor, warm, span = (
        rng.uniform(0.5, 9),
        rng.choice((0.1, 1.2)),
        rng.uniform(0.03, 0.2),
        rng.uniform(0.02, 0.2),
    )
    return [fall * math.exp(-max(0, t - warm * n) / (span * n)) + floor for t in range(n)]


def epochs(rng: random.Random, n: int) -> list[float]:
    """Fall at the start of each epoch, and rise a little within it."""
    fall, floor, per_epoch = rng.uniform(0.5, 9), rng.choice((0.5, 1.2)), n // rng.randint(2, 5) + 1
    return [
        (fall * math.exp(-t / (0.05 * n)) + floor) * 0.75 ** (t // per_epoch) * (1 + 0.06 * (t % per_epoch) / per_epoch)
        for t in range(n)
    ]


def preference(rng: random.Random, n: int) -> list[float]:
    span = n * rng.uniform(0.1, 0.5)
    return [0.693 - 0.5 * (1 - math.exp(-t / span)) for t in range(n)]


def late_start(rng: random.Random, n: int) -> list[float]:
    fall, floor = rng.uniform(0.5, 9), rng.choice((0.1, 1.2))
    return [floor + fall * (1 - 1 / (1 + math.exp(-(t - 0.3 * n) / (0.05 * n)))) for t in range(n)]


def mislabelled(rng: random.Random, n: int, share: float = 0.02) -> list[float]:
    """Return the loss of an easy task of two classes, in batches of 8 rows, of which a share has the wrong class."""
    span, floor = max(5, n * rng.choice((0.02, 0.05, 0.1))), rng.choice((0.0005, 0.002, 0.01))
    values = []
    for t in range(n):
        right = (0.693 * math.exp(-t / span) + floor) * rng.lognormvariate(0, 0.3)
        wrong = -math.log(1 - math.exp(-right))
        values.append(sum(wrong if rng.random() < share else right for _ in range(8)) / 8)
    return values


def few_mislabelled(rng: random.Random, n: int) -> list[float]:
    """Return the same with 0.2 % wrong rows: the first of them may come late."""
    return mislabelled(rng, n, 0.002)


def hard_batches(rng: random.Random, n: int) -> list[float]:
    """Return a fall in which one batch of ten is from a harder source."""
    times, values = rng.choice((1.5, 2, 3)), noisy(exponential(rng, n), gauss(rng, n), 0.03)
    return [value * (times if rng.random() < 0.1 else 1) for value in values]


def sorted_sources(rng: random.Random, n: int) -> list[float]:
    """Return a fall with rows in blocks of 40 steps, from an easy and a hard source by turns: a rise that is real."""
    times, values = rng.choice((1.5, 2, 3)), noisy(exponential(rng, n), gauss(rng, n), 0.03)
    return [value * (times if t // 40 % 2 else 1) for t, value in enumerate(values)]


def reward(rng: random.Random, n: int) -> list[float]:
    middle = n * rng.uniform(0.2, 0.6)
    return [0.1 + 0.7 / (1 + math.exp(-(t - middle) / (0.08 * n))) for t in range(n)]


LOSSES: tuple[Callable[[random.Random, int], list[float]], ...] = (
    exponential, power_law, straight, little_to_learn, long_warm_up, epochs, preference, late_start,
)  # fmt: skip

UNEVEN_ROWS: tuple[Callable[[random.Random, int], list[float]], ...] = (mislabelled, few_mislabelled, hard_batches)
UNEVEN_LENGTHS = (100, 400, 1500)


def gauss(rng: random.Random, n: int) -> list[float]:
    return [rng.gauss(0, 1) for _ in range(n)]


def heavy_tails(rng: random.Random, n: int) -> list[float]:
    """Return Student's t with 3 degrees of freedom, of variance 1."""
    return [rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2)) for _ in range(n)]


def skewed(rng: random.Random, n: int) -> list[float]:
    """Return log-normal noise, as of micro-batches with a few hard rows: mean 0, variance 1."""
    mean, deviation = math.exp(0.18), math.sqrt((math.exp(0.36) - 1) * math.exp(0.36))
    return [(rng.lognormvariate(0, 0.6) - mean) / deviation for _ in range(n)]


def lasting(rng: random.Random, n: int) -> list[float]:
    """Return noise whose neighbours are correlated by a half."""
    return _correlated(rng, n, 0.5)


def slow(rng: random.Random, n: int) -> list[float]:
    """Return noise whose neighbours are correlated by 0.8."""
    return _correlated(rng, n, 0.8)


def _correlated(rng: random.Random, n: int, share: float) -> list[float]:
    values, last = [], 0.0
    for _ in range(n):
        last = share * last + math.sqrt(1 - share**2) * rng.gauss(0, 1)
        values.append(last)
    return values


def outliers(rng: random.Random, n: int) -> list[float]:
    """Return little noise, and one step of 33 far above it."""
    return [0.3 * rng.gauss(0, 1) + (rng.expovariate(0.2) if rng.random() < 0.03 else 0.0) for _ in range(n)]


USUAL = (gauss, heavy_tails, skewed, lasting)
HARSH = (slow, outliers)


def noisy(shape: list[float], noise: list[float], level: float) -> list[float]:
    """Return a loss with noise in proportion to it."""
    return [abs(value * (1 + level * odd)) for value, odd in zip(shape, noise, strict=True)]


def rates(rng: random.Random, n: int) -> list[float]:
    """Return a learning rate for each step: warm-up and one of the schedules."""
    warm, kind = max(1, int(rng.choice((0.0, 0.03, 0.1)) * n)), rng.choice(SCHEDULES)
    return [1e-4 * min(1.0, (t + 1) / warm) * _decay(kind, max(0, t - warm) / max(1, n - warm)) for t in range(n)]


def _decay(kind: str, share: float) -> float:
    return {"cosine": 0.5 * (1 + math.cos(math.pi * share)), "linear": 1 - share, "constant": 1.0}[kind]


def clean_losses(
    seed: int, *, lengths: tuple[int, ...] = LENGTHS, noises: tuple[Callable, ...] = USUAL
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield name, loss and learning rate of one curve of each shape, length, kind and level of noise."""
    rng = random.Random(seed)
    for n in lengths:
        for shape in LOSSES:
            for noise in noises:
                for level in NOISES:
                    name = f"{shape.__name__}, {n} steps, {noise.__name__} {level}"
                    yield name, noisy(shape(rng, n), noise(rng, n), level), rates(rng, n)


def clean_rewards(
    seed: int, *, lengths: tuple[int, ...] = LENGTHS, noises: tuple[Callable, ...] = USUAL
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield the same of rewards between 0 and 1, whose noise is as large at every level."""
    rng = random.Random(seed)
    for n in lengths:
        for noise in noises:
            for level in (0.03, 0.1, 0.2):
                values = [
                    min(1.0, max(0.0, value + level * odd))
                    for value, odd in zip(reward(rng, n), noise(rng, n), strict=True)
                ]
                yield f"reward, {n} steps, {noise.__name__} {level}", values, rates(rng, n)


def with_spike(values: list[float], at: int, times: float, steps: int) -> list[float]:
    """Return the curve with some steps multiplied."""
    return [value * times if at <= t < at + steps else value for t, value in enumerate(values)]


def with_rise(values: list[float], at: int, to: float, over: int) -> list[float]:
    """Return the curve multiplied by a factor that grows to `to` over so many steps and stays there."""
    return [value * (1 + (to - 1) * min(1.0, max(0.0, (t - at) / over))) for t, value in enumerate(values)]
