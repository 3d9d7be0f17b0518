"""What a sweep over learning rates recommends on planted curves: noisy ones, odd batches, and where it must not."""

import math
import random
from collections.abc import Callable

import pytest

from engine.planning.rate_curve import RatePoint, advise, rate_words, round_rate, sweep_rates

USUAL = 2e-4
LOWEST, BREAKS = 2e-3, 8e-3


def planted(rate: float, *, fall: float = 3.0, lowest: float = LOWEST) -> float:
    """Return a loss that falls from 5 as rates grow, is lowest at a known rate, and explodes behind it."""
    place = math.log10(rate / lowest)
    learnt = fall / (1 + math.exp(-4 * (place + 1)))
    return 5.0 - learnt + (6.0 * max(0.0, place - 0.3) ** 1.5 if place > 0.3 else 0.0)


def curve(loss: Callable[[float], float], *, noise: float = 0.0, odd: int = 0, seed: int = 1) -> list[RatePoint]:
    generator = random.Random(seed)
    points = [RatePoint(rate, loss(rate) + generator.gauss(0, noise)) for rate in sweep_rates(USUAL)]
    for place in generator.sample(range(len(points)), odd):
        points[place] = RatePoint(points[place].rate, points[place].loss + generator.choice((-4.0, 4.0)))
    return points


def test_a_sweep_goes_two_decades_to_both_sides_of_the_usual_rate() -> None:
    rates = sweep_rates(USUAL)
    assert (rates[0], rates[-1]) == pytest.approx((2e-6, 2e-2))
    ratios = [later / earlier for earlier, later in zip(rates, rates[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    assert max(sweep_rates(0.5)) < 1.0


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("seed", range(6))
def test_the_rate_lies_below_the_lowest_point_whatever_the_noise(noise: float, seed: int) -> None:
    advice = advise(curve(planted, noise=noise, seed=seed))
    assert advice.rate is not None, advice.reason
    assert LOWEST / 16 <= advice.rate <= LOWEST
    assert advice.breaks_at is not None
    assert advice.rate < advice.breaks_at / 5


@pytest.mark.parametrize("seed", range(6))
def test_odd_batches_do_not_move_the_rate_far(seed: int) -> None:
    calm, odd = advise(curve(planted)), advise(curve(planted, noise=0.05, odd=6, seed=seed))
    assert calm.rate is not None
    assert odd.rate is not None
    assert 1 / 4 <= odd.rate / calm.rate <= 4


def test_a_tenfold_problem_gets_a_tenfold_rate() -> None:
    one, other = advise(curve(planted)), advise(curve(lambda rate: planted(rate, lowest=LOWEST / 10)))
    assert one.rate is not None
    assert other.rate is not None
    assert one.rate / other.rate == pytest.approx(10, rel=0.5)


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_curve_that_never_falls_recommends_nothing(noise: float, seed: int) -> None:
    advice = advise(curve(lambda _: 5.0, noise=noise, seed=seed))
    assert advice.rate is None
    assert "cannot tell" in advice.reason


def test_a_curve_that_only_rises_recommends_nothing() -> None:
    assert advise(curve(lambda rate: 5.0 + 100 * rate)).rate is None


def test_a_loss_that_never_rises_again_still_gives_a_rate() -> None:
    advice = advise(curve(lambda rate: planted(rate, lowest=2e-2)))
    assert advice.rate is not None
    assert advice.breaks_at is None
    assert "rises again" not in advice.reason


@pytest.mark.parametrize("points", [[], [RatePoint(1e-4, 5.0)] * 5, [RatePoint(1e-4, math.nan)] * 80])
def test_a_sweep_that_was_cut_off_recommends_nothing(points: list[RatePoint]) -> None:
    assert advise(points).rate is None


def test_steps_without_a_number_are_left_out() -> None:
    points = curve(planted)
    points[-3:] = [RatePoint(point.rate, math.nan) for point in points[-3:]]
    assert advise(points).rate == advise(curve(planted)).rate


@pytest.mark.parametrize(
    ("rate", "rounded"), [(2.6e-4, 3e-4), (1.2e-3, 1e-3), (1.3e-3, 1.5e-3), (8.6e-5, 1e-4), (6e-3, 7e-3), (0.05, 0.05)]
)
def test_a_rate_is_a_round_number(rate: float, rounded: float) -> None:
    assert round_rate(rate) == rounded


def test_rates_in_words() -> None:
    assert [rate_words(rate) for rate in (1.84e-4, 2e-3, 0.5)] == ["1.8e-4", "2e-3", "5e-1"]
