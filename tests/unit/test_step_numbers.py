"""What an objective tells of a step besides its loss, as every viewer words it."""

import io
import math

from engine.catalog.step_numbers import STEP_NUMBERS, step_words
from engine.runs.picture import Picture
from tests.unit.runs_support import events_of, step_payload
from tui.monitor.chart import charts_of
from tui.monitor.panels import numbers_line, sample_lines
from tui.progress import PlainProgress

EXTRA = {"reward_accuracy": 0.625, "reward_margin": -0.25}


class Follower:
    """A run whose picture knows no time that is left."""

    def __init__(self) -> None:
        self.picture = Picture()


def told(extra=None):
    picture = Picture()
    payload = step_payload(1) | ({} if extra is None else {"extra": extra})
    (event,) = events_of(("step.logged", payload))
    picture.apply(event)
    return picture, event


def test_names_are_told_apart():
    assert len({number.name for number in STEP_NUMBERS}) == len(STEP_NUMBERS)


def test_numbers_are_worded_and_what_is_no_number_is_left_out():
    odd = {"new_thing": 2.0, "flag": True, "text": "x", "reward_accuracy": math.nan}
    assert step_words(EXTRA) == [("reward acc", "62%"), ("margin", "-0.250")]
    assert step_words(odd) == [("new thing", "2.000"), ("reward acc", "nan%")]
    assert step_words(None) == []


def test_the_monitor_shows_them_beside_the_loss_and_as_charts_of_their_own():
    picture, _ = told(EXTRA)
    assert "reward acc 62%  margin -0.250" in numbers_line(picture).plain
    titles = [chart.title for chart in charts_of(picture)]
    assert titles[:3] == ["loss", "reward acc", "margin"]
    plain, _ = told()
    assert "margin" not in numbers_line(plain).plain
    assert [chart.title for chart in charts_of(plain)] == [title for title in titles if title not in titles[1:3]]


def test_plain_progress_tells_them_with_the_step():
    out = io.StringIO()
    _, event = told(EXTRA)
    PlainProgress(out, clock=lambda: 100.0).event(event, Follower())
    assert "reward acc 62%  margin -0.250" in out.getvalue()


def test_what_is_earned_comes_before_a_loss_that_says_nothing():
    picture, _ = told({"reward": 0.5, "reward_spread": 0.1, "solved": 0.25})
    assert [chart.title for chart in charts_of(picture)][:4] == ["reward", "loss", "spread", "solved"]
    assert charts_of(picture)[0].beside == "eval_reward"
    assert "reward 0.500  spread 0.100  solved 25%" in numbers_line(picture).plain


def test_samples_show_what_they_earned():
    picture = Picture()
    sample = {"prompt": "2 + 2?", "expected": "4", "text": "It is 4", "reward": 1.0}
    plain = {key: value for key, value in sample.items() if key != "reward"}
    for phase, step, one in (("before", 0, plain), ("during", 5, sample)):
        picture.apply(events_of(("samples.generated", {"phase": phase, "step": step, "samples": [one]}))[0])
        picture.seq = 0
    shown = [line.plain for line in sample_lines(picture, 0)]
    assert sum(line.startswith("earned") for line in shown) == 1
    assert any(line.split() == ["earned", "1"] for line in shown)


def test_the_base_model_s_answer_stands_first_and_the_newest_of_the_others_behind_it():
    picture = Picture()
    for phase, step, text in (("before", 0, "of old"), ("during", 5, "early"), ("during", 10, "late")):
        sample = {"prompt": "2 + 2?", "expected": "4", "text": text}
        picture.apply(events_of(("samples.generated", {"phase": phase, "step": step, "samples": [sample]}))[0])
        picture.seq = 0
    shown = [line.plain.split() for line in sample_lines(picture, 0)]
    assert [words[-1] for words in shown[-3:]] == ["old", "late", "early"]
    assert shown[-3][0] == "base"
