"""What a report says of planted changes: better, worse, no evidence, and what is forgotten."""

import json
import random

import pytest

from engine.catalog.metrics import find_metric
from engine.evaluation.kept_rows import rows_of
from engine.evaluation.measurement import Measurement, save_measurement
from engine.evaluation.report import write_report
from engine.evaluation.row_groups import mean_group, token_groups, win_groups
from engine.evaluation.scoring import RowScore
from tests.engine.made_plan import made_plan, made_run, write_story

IDS = [f"rows.jsonl:{number}" for number in range(100)]


def measurement(phase, groups):
    made = Measurement(phase, 75, {}, [], len(IDS), 400, 0, 1.0, rows=groups)
    values = {name: rows.value() for name, rows in rows_of(made.to_json()).items()}
    return Measurement(phase, 75, values, [], len(IDS), 400, 0, 1.0, rows=groups)


def report(tmp_path, before, after):
    run = made_run(tmp_path / "20261120-120000-made-k3f9", made_plan())
    write_story(run)
    for phase, groups in (("before", before), ("after", after)):
        save_measurement(measurement(phase, groups), run.evaluation_folder)
    write_report(run, state="finished")
    return json.loads(run.report_json_file.read_text())


def row(content, name):
    return next(row for row in content["metrics"] if row["name"] == name)


def accuracies(share, seed):
    dice = random.Random(seed)
    return mean_group("accuracy", IDS, [float(dice.random() < share) for _ in IDS])


@pytest.mark.parametrize(
    ("shares", "direction", "verdict"),
    [((0.4, 0.8), "better", "better"), ((0.8, 0.4), "worse", "worse"), ((0.6, 0.64), "unclear", "no evidence")],
)
def test_a_change_is_called_what_the_rows_show(tmp_path, shares, direction, verdict):
    content = report(tmp_path, accuracies(shares[0], 1), accuracies(shares[1], 2))
    told = row(content, "accuracy")
    assert (told["direction"], told["verdict"]) == (direction, verdict)
    low, high = told["after_interval"]
    assert low < told["after"] < high
    assert told["after_interval_text"] == f"{100 * low:.1f} % to {100 * high:.1f} %"
    assert told["after_margin_text"] == f"±{50 * (high - low):.1f}"
    assert told["compared_rows"] == 100
    assert content["headline"]["direction"] == direction
    assert ("luck" in content["headline"]["text"]) == (direction == "unclear")


def test_the_very_same_model_has_changed_nothing(tmp_path):
    content = report(tmp_path, accuracies(0.5, 1), accuracies(0.5, 1))
    assert row(content, "accuracy")["direction"] == "same"
    assert content["headline"]["direction"] == "same"


@pytest.mark.parametrize(("wins", "direction"), [(50, "same"), (56, "unclear"), (80, "better"), (20, "worse")])
def test_a_win_rate_is_held_against_one_half(tmp_path, wins, direction):
    scores = [1.0] * wins + [-1.0] * (100 - wins)
    content = report(tmp_path, [], win_groups(IDS, scores, [0.0] * 100))
    assert row(content, "win_rate")["direction"] == direction


class TestForgetting:
    def general(self, factor, level=3.0):
        dice = random.Random(4)
        scores = [RowScore(20 * (level + dice.uniform(-0.3, 0.3)) * factor, 0, 20) for _ in IDS]
        return token_groups(IDS, scores, {"general_perplexity": "exp_ratio"}, accuracy="")

    def test_what_is_forgotten_is_part_of_the_verdict(self, tmp_path):
        content = report(tmp_path, [*accuracies(0.4, 1), *self.general(1.0)], [*accuracies(0.8, 2), *self.general(1.2)])
        assert content["forgetting"]["direction"] == "worse"
        assert content["headline"]["direction"] == "mixed"
        assert "It forgets what it knew" in content["headline"]["text"]
        assert "82 % more" in content["forgetting"]["text"]

    def test_a_move_within_the_floor_is_none(self, tmp_path):
        content = report(
            tmp_path, [*accuracies(0.4, 1), *self.general(1.0)], [*accuracies(0.8, 2), *self.general(1.02)]
        )
        assert content["forgetting"]["direction"] == "same"
        assert content["headline"]["direction"] == "better"
        assert "forgets" not in content["headline"]["text"]

    def test_a_model_that_knows_nothing_forgets_nothing(self, tmp_path):
        # The made model has a few hundred tokens: e to the 9 is worse than a uniform guess.
        content = report(tmp_path, self.general(1.0, 9.0), self.general(1.3, 9.0))
        assert content["forgetting"]["direction"] == "unknown"
        assert "nothing to forget" in content["forgetting"]["text"]
        assert row(content, "general_perplexity")["verdict"] == ""

    def test_without_general_text_nothing_is_said(self, tmp_path):
        assert report(tmp_path, accuracies(0.4, 1), accuracies(0.8, 2))["forgetting"] is None

    def test_the_floor_is_the_metric_s(self):
        assert find_metric("general_perplexity").tolerance == find_metric("general_masked_perplexity").tolerance > 0
