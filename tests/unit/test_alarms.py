"""Alarms on the curve of a run: silent on clean curves, made up and real, and raised where a fault was planted."""

import csv
import json
import math
import random
from pathlib import Path

import pytest

from engine.training.alarms import MAX_EPISODES, AlarmWatch
from tests.unit import made_curves as made

CURVES = Path(__file__).parent / "curves"


def watched(values, *, rates=None, norms=None, what="loss", total_steps=None, held_out=None):
    """Return the alarms of a curve; `held_out` is `{step: losses so far}`."""
    watch, alarms = AlarmWatch(total_steps or len(values), what), []
    for step, value in enumerate(values, 1):
        rate = 1e-4 if rates is None else rates[step - 1]
        alarms += watch.look(step, value, None if norms is None else norms[step - 1], rate)
        if held_out and step in held_out:
            watch.take_held_out(held_out[step])
    return alarms


def kinds(alarms):
    return [f"{alarm.kind}{' over' if alarm.over else ''}" for alarm in alarms]


def falling(n=300, *, noise=0.03, seed=1, floor=1.0, fall=2.0, span=20):
    rng = random.Random(seed)
    return [(floor + fall * math.exp(-t / span)) * (1 + rng.gauss(0, noise)) for t in range(n)]


def recorded(name):
    with (CURVES / f"{name}.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [row["value"] for row in rows], [row["grad_norm"] for row in rows], [row["learning_rate"] for row in rows]


# --- silence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [11, 12])
def test_clean_losses_raise_no_alarm(seed):
    curves = list(made.clean_losses(seed, lengths=(20, 60, 300)))
    assert len(curves) == 3 * 8 * 4 * 4
    assert [name for name, values, rates in curves if watched(values, rates=rates)] == []


def test_clean_rewards_raise_no_alarm():
    curves = [curve for seed in range(5) for curve in made.clean_rewards(seed, lengths=(20, 60, 300))]
    assert [name for name, values, rates in curves if watched(values, rates=rates, what="reward")] == []


@pytest.mark.parametrize(
    "name", ["chat-quickstart", "chat-one-row", "shakespeare", "shakespeare-one-row", "shakespeare-20-steps", "hh-dpo"]
)
def test_losses_of_real_runs_raise_no_alarm(name):
    values, norms, rates = recorded(name)
    assert watched(values, norms=norms, rates=rates) == []


def test_the_reward_of_a_real_run_raises_no_alarm():
    values, norms, rates = recorded("stories-grpo")
    assert watched(values, norms=norms, rates=rates, what="reward") == []


def test_single_odd_steps_raise_no_alarm():
    values = falling()
    for at in (90, 150, 151, 220):
        values[at] *= 3
    assert watched(values) == []


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
@pytest.mark.parametrize("height", [0.1, 0.73, 5.0])
def test_wrong_rows_in_a_loss_near_0_raise_no_alarm(height, scale):
    values = falling(400, floor=0.002, fall=0.69)
    values[200] = values[300] = height
    assert watched([scale * value for value in values]) == []


def test_hard_rows_that_stand_together_raise_no_alarm_below_a_share_of_what_was_learned():
    nearly_0 = falling(400, floor=0.002, fall=0.69)
    assert watched(made.with_rise(nearly_0, 200, 20, 1)[:210] + nearly_0[210:]) == []
    higher = nearly_0[:200] + [0.3] * 10 + nearly_0[210:]
    assert kinds(watched(higher)) == ["spike", "spike over"]


@pytest.mark.parametrize(("steps", "told"), [(5, []), (6, ["spike", "spike over"])])
def test_a_jump_as_high_as_hard_batches_before_it_is_told_after_six_steps(steps, told):
    values = falling()
    for at in range(60, 180, 15):
        values[at] *= 2
    assert kinds(watched(made.with_spike(values, 200, 2, steps))) == told


@pytest.mark.parametrize("shape", made.UNEVEN_ROWS)
def test_rows_that_are_not_alike_raise_no_alarm(shape):
    curves = [shape(random.Random(f"{shape.__name__} {n} {seed}"), n) for n in (100, 400) for seed in range(20)]
    assert [alarm.text for values in curves for alarm in watched(values)] == []


def test_a_loss_that_has_fallen_and_then_stays_level_raises_no_alarm():
    assert watched(falling(2000, noise=0.005, span=5)) == []


def test_standing_still_while_the_rate_warms_up_or_has_run_out_raises_no_alarm():
    still = [2.3 + random.Random(3).gauss(0, 1e-4)] * 100
    assert watched(still, rates=[1e-6 * (t + 1) for t in range(100)], total_steps=400) == []
    assert watched(still, rates=[1e-4] * 20 + [1e-6] * 80) == []


# --- planted faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "times"), [(100, 2.0), (100, 4.0), (250, 4.0)])
def test_a_planted_spike_is_raised_once_and_its_end_is_told(at, times):
    alarms = watched(made.with_spike(falling(), at, times, 8))
    assert kinds(alarms) == ["spike", "spike over"]
    assert (alarms[0].step, alarms[1].step) == (at + 4, at + 8 + 3)


def test_a_spike_says_from_what_to_what_and_what_to_do():
    values = made.with_spike(falling(noise=0.001), 100, 4, 8)
    raised, over = watched(values, rates=[3e-4] * 300, norms=[0.8] * 100 + [14.0] * 8 + [0.8] * 192)
    assert raised.text.startswith("The loss jumped from 1.022 to 4.06")
    assert "at step 101 and is still there at step 104 (gradient norm 14, 0.8 before)." in raised.text
    assert "training.learning_rate 1.0e-04 (was 3.0e-04)" in raised.text
    assert over.text == f"The loss is back at {values[110]:.4g} at step 111, after its jump."


def test_one_enormous_step_is_raised_at_once():
    alarms = watched(made.with_spike(falling(), 150, 15, 1))
    assert kinds(alarms) == ["spike", "spike over"]
    assert alarms[0].step == 151


@pytest.mark.parametrize("to", [1.5, 3.0])
def test_a_planted_rise_is_raised(to):
    alarms = watched(made.with_rise(falling(noise=0.02), 120, to, 80))
    assert "divergence" in kinds(alarms)
    first = next(alarm for alarm in alarms if alarm.kind == "divergence")
    assert 120 < first.step < 230
    assert first.text.startswith("The loss is rising: 1.")
    assert "start another with training.learning_rate" in first.text


def test_a_rise_from_sorted_rows_names_their_order_beside_the_rate():
    values = [value * (2 if t >= 150 else 1) for t, value in enumerate(falling(noise=0.02))]
    alarms = watched(values)
    assert kinds(alarms) == ["spike", "divergence"]
    for alarm in alarms:
        assert "either the rate is too high (stop the run" in alarm.text.replace("Either", "either")
        assert "or rows sorted by source, length or difficulty have come up (look at the order" in alarm.text


def test_a_rise_that_ends_is_over_and_may_come_again():
    values = made.with_rise(falling(900, noise=0.02), 120, 2, 60)
    values = [value / (2 if 250 <= t < 600 else 1) for t, value in enumerate(values)]
    found = [kind for kind in kinds(watched(values)) if kind.startswith("divergence")]
    assert found == ["divergence", "divergence over", "divergence"]


def test_real_runs_at_absurd_rates_are_raised():
    values, norms, rates = recorded("shakespeare-rate-0.9")
    assert kinds(watched(values, norms=norms, rates=rates))[0] == "divergence"
    values, norms, rates = recorded("shakespeare-rising-rate")
    alarms = watched(values, norms=norms, rates=rates)
    assert "divergence" in kinds(alarms)
    # The loss is lowest, smoothed, a little before.
    assert 40 < alarms[0].step < 120


@pytest.mark.parametrize("total_steps", [20, 40, 60])
def test_a_short_run_that_explodes_at_once_is_raised_within_twenty_steps(total_steps):
    values, norms, rates = recorded("shakespeare-explodes")
    alarms = watched(values[:20], norms=norms, rates=rates, total_steps=total_steps)
    assert kinds(alarms) == ["divergence"]
    assert " in the first steps" in alarms[0].text


def test_no_learning_is_raised():
    rng = random.Random(5)
    alarms = watched([2.3 * (1 + rng.gauss(0, 0.02)) for _ in range(300)])
    assert kinds(alarms) == ["plateau"]
    assert 75 <= alarms[0].step <= 300
    assert f"has not fallen in {alarms[0].step} steps: 2.281 at first, 2.308 now." in alarms[0].text
    values, norms, rates = recorded("shakespeare-rate-1e-9")
    assert kinds(watched(values, norms=norms, rates=rates)) == ["plateau"]


def test_learning_that_begins_late_ends_the_alarm_for_good():
    rng = random.Random(6)
    values = [2.3 * (1 + rng.gauss(0, 0.01)) for _ in range(200)]
    values += [2.3 * math.exp(-t / 100) * (1 + rng.gauss(0, 0.01)) for t in range(400)]
    assert kinds(watched(values)) == ["plateau", "plateau over"]


def test_held_out_rows_tell_of_no_learning_where_batches_are_too_noisy():
    rng = random.Random(7)
    values = [2.3 * (1 + rng.gauss(0, 0.15)) for _ in range(200)]
    assert watched(values) == []
    alarms = watched(values, held_out={0: [2.31], 25: [2.31, 2.309], 50: [2.31, 2.309, 2.311]})
    assert kinds(alarms) == ["plateau"]
    assert "; on held-out rows 2.31 before and 2.311 now" in alarms[0].text
    assert watched(values, held_out={25: [2.31, 2.28], 50: [2.31, 2.28, 2.26]}) == []
    assert watched(values, held_out={25: [2.31, 2.309]}) == [], "one measurement may be chance"


def test_rewards_are_watched_the_other_way_round():
    rng = random.Random(8)
    rising = [0.2 + 0.6 * min(1.0, t / 100) + rng.gauss(0, 0.03) for t in range(300)]
    assert watched(rising, what="reward") == []
    fallen = [value if t < 180 else 0.1 + rng.gauss(0, 0.03) for t, value in enumerate(rising)]
    alarms = watched(fallen, what="reward")
    assert kinds(alarms) == ["spike", "divergence"]
    assert alarms[0].text.startswith("The reward dropped from 0.7")
    assert alarms[1].text.startswith("The reward is falling: ")
    never = watched([0.0] * 100, what="reward")
    assert kinds(never) == ["plateau"]
    assert "The reward has not risen in 50 steps: 0 at first, 0 now. Take easier prompts" in never[0].text


# --- the watch itself -----------------------------------------------------------------------------------------------


def test_values_that_are_no_numbers_are_passed_over():
    values = falling()
    spoiled = [*values[:100], math.nan, math.inf, *values[100:]]
    assert watched(spoiled, norms=[math.inf] * len(spoiled)) == []


def test_a_curve_that_jumps_for_ever_does_not_fill_the_log():
    values = falling(3000)
    for at in range(200, 3000, 200):
        values = made.with_spike(values, at, 5, 8)
    alarms = [alarm for alarm in watched(values) if alarm.kind == "spike"]
    assert len([alarm for alarm in alarms if not alarm.over]) == MAX_EPISODES
    assert alarms[-2].text.endswith("Later ones are not told.")
    assert alarms[-1].over


@pytest.mark.parametrize("stop", [1, 5, 50, 102, 106, 140, 260])
def test_a_resumed_watch_goes_on_as_the_straight_one(stop):
    values = made.with_rise(made.with_spike(falling(noise=0.02), 100, 4, 8), 180, 2, 60)
    straight, first, second = AlarmWatch(300), AlarmWatch(300), AlarmWatch(300)
    expected = [straight.look(step, value, 1.0, 1e-4) for step, value in enumerate(values, 1)]
    found = [first.look(step, value, 1.0, 1e-4) for step, value in enumerate(values[:stop], 1)]
    second.restore(json.loads(json.dumps(first.to_json())))
    found += [second.look(step, value, 1.0, 1e-4) for step, value in enumerate(values[stop:], stop + 1)]
    assert found == expected
    assert second.to_json() == straight.to_json()
    assert kinds(alarm for alarms in expected for alarm in alarms) == ["spike", "spike over", "divergence"]


def test_the_state_has_the_same_size_at_any_length():
    watch = AlarmWatch(5000)
    sizes = []
    for step, value in enumerate(falling(5000), 1):
        watch.look(step, value, 1.0, 1e-4)
        watch.take_held_out([2.0, *[1.5] * step][:9])
        if step in (50, 5000):
            sizes.append(len(json.dumps(watch.to_json())))
    assert sizes[1] < 1.2 * sizes[0] < 4000


def test_a_watch_that_did_not_see_the_start_says_nothing_of_no_learning():
    watch = AlarmWatch(400)
    watch.restore({})
    late = [watch.look(step, 1.2, 1.0, 1e-4) for step in range(200, 400)]
    assert [alarm for alarms in late for alarm in alarms] == []
    watch = AlarmWatch(400)
    watch.restore({"version": 0, "watched": "loss"})
    assert watch.to_json() == AlarmWatch(400).to_json()
