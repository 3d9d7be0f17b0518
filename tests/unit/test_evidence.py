"""Intervals and verdicts from rows: right on planted differences, silent on equal models, honest about few rows."""

import math
import random

import numpy as np
import pytest
from sklearn.metrics import f1_score

from engine.evaluation import evidence
from engine.evaluation.evidence import RowNumbers, compare, interval_of


def means(values, ids=None):
    names = tuple(ids or (f"r{number}" for number in range(len(values))))
    return RowNumbers("ratio", names, np.asarray([(value, 1.0) for value in values], dtype=float))


def answers(share, num_rows, dice):
    return [float(dice.random() < share) for _ in range(num_rows)]


class TestVerdicts:
    def test_a_planted_gain_is_better_and_a_planted_loss_worse(self):
        dice = random.Random(1)
        weak, strong = answers(0.5, 200, dice), answers(0.7, 200, dice)
        assert compare(means(weak), means(strong), "higher").verdict == "better"
        assert compare(means(strong), means(weak), "higher").verdict == "worse"
        assert compare(means(strong), means(weak), "lower").verdict == "better"

    def test_equal_models_are_called_different_no_oftener_than_chance_allows(self):
        dice = random.Random(2)
        called = 0
        for _ in range(200):
            verdict = compare(means(answers(0.6, 60, dice)), means(answers(0.6, 60, dice)), "higher").verdict
            called += verdict != "no evidence"
        # One in twenty is what a verdict at 95 % allows; 18 of 200 is beyond it once in a hundred such trials.
        assert called <= 18

    def test_the_very_same_answers_are_no_evidence(self):
        numbers = means([0.0, 1.0] * 20)
        found = compare(numbers, numbers, "higher")
        assert (found.verdict, found.difference, found.p_value) == ("no evidence", 0.0, 1.0)

    def test_pairs_find_what_two_crowds_of_rows_hide(self):
        dice = np.random.default_rng(3)
        hard = dice.normal(3.0, 1.0, 40)
        before, after = means(hard), means(hard - 0.05 + dice.normal(0, 0.02, 40))
        assert interval_of(before).low < interval_of(after).high
        assert compare(before, after, "lower").verdict == "better"

    @pytest.mark.parametrize("wins", [1, 5])
    def test_a_few_lucky_answers_of_fifty_are_no_evidence(self, wins):
        # With five the bootstrap alone would call it better; the chance of five heads in a row is one in sixteen.
        found = compare(means([0.0] * 50), means([1.0] * wins + [0.0] * (50 - wins)), "higher")
        assert found.verdict == "no evidence"

    def test_fewer_rows_than_coins_need_are_no_evidence_and_one_row_is_unknown(self):
        assert compare(means([0.0] * 5), means([1.0] * 5), "higher").verdict == "no evidence"
        assert compare(means([0.0] * 8), means([1.0] * 8), "higher").verdict == "better"
        assert compare(means([0.0]), means([1.0]), "higher").verdict == "unknown"
        assert interval_of(means([1.0])) is None

    def test_a_number_that_is_neither_good_nor_bad_gets_no_verdict(self):
        found = compare(means([1.0] * 30), means([2.0] * 30), "neither")
        assert (found.verdict, found.difference) == ("unknown", 1.0)

    def test_numbers_that_are_none_give_no_verdict(self):
        found = compare(means([1.0] * 30), means([math.nan] * 30), "lower")
        assert found.verdict == "unknown"
        assert found.p_value is None
        assert interval_of(means([math.nan] * 30)) is None


class TestSharedRows:
    def test_only_rows_that_both_have_are_compared_in_any_order(self):
        before = means([0.0, 0.0, 1.0, 1.0] * 10, [f"r{number}" for number in range(40)])
        after = means([1.0] * 30, [f"r{number}" for number in reversed(range(30))])
        found = compare(before, after, "higher")
        assert found.num_rows == 30
        assert found.difference == pytest.approx(1 - before.of([f"r{number}" for number in range(30)]).value())

    def test_without_a_shared_row_nothing_is_said(self):
        assert compare(means([1.0], ["a"]), means([0.0], ["b"]), "higher").num_rows == 0


class TestNumbers:
    def test_tokens_weigh_the_same_whatever_row_they_stand_in(self):
        numbers = RowNumbers("exp_ratio", ("a", "b"), np.asarray([(2.0, 1.0), (2.0, 3.0)]))
        assert numbers.value() == pytest.approx(math.exp(1.0))

    @pytest.mark.parametrize("seed", range(5))
    def test_macro_f1_is_that_of_scikit_learn_also_for_some_of_the_rows(self, seed):
        dice = random.Random(seed)
        right = [dice.randrange(6) for _ in range(80)]
        given = [label if dice.random() < 0.6 else dice.randrange(6) for label in right]
        ids = tuple(f"r{number}" for number in range(80))
        parts = [
            (row, label, float(given[row] == right[row]), float(given[row] == label), float(right[row] == label))
            for row in range(80)
            for label in {given[row], right[row]}
        ]
        numbers = RowNumbers("macro_f1", ids, np.asarray(parts, dtype=float))
        assert numbers.value() == pytest.approx(f1_score(right, given, average="macro"))
        some = dice.sample(range(80), 33)
        expected = f1_score([right[row] for row in some], [given[row] for row in some], average="macro")
        assert numbers.of([ids[row] for row in some]).value() == pytest.approx(expected)

    def test_an_interval_holds_the_truth_as_often_as_it_says(self):
        dice = np.random.default_rng(5)
        inside = sum(
            interval.low <= 2.0 <= interval.high
            for interval in (interval_of(means(dice.normal(2.0, 1.0, 80))) for _ in range(200))
        )
        # 95 % of 200 are 190; a bootstrap of 80 rows is a little narrow.
        assert 178 <= inside <= 199

    @pytest.mark.parametrize(
        ("right", "rows", "low", "high"),
        # Newcombe (1998), table I, method 3: intervals of Wilson without continuity correction.
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
    )
    def test_a_share_of_rows_has_wilson_s_interval(self, right, rows, low, high):
        found = interval_of(means([1.0] * right + [0.0] * (rows - right)))
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)

    def test_a_few_answers_that_are_all_right_are_not_sure_of_it(self):
        assert interval_of(means([1.0] * 8)).low < 0.7

    def test_many_rows_are_sampled_in_parts_with_the_same_meaning(self, monkeypatch):
        values = list(np.random.default_rng(7).normal(1.0, 0.5, 60))
        whole = interval_of(means(values)), compare(means(values), means([value + 0.1 for value in values]), "higher")
        monkeypatch.setattr(evidence, "MAX_CELLS", 60 * 7)
        parts = interval_of(means(values)), compare(means(values), means([value + 0.1 for value in values]), "higher")
        assert parts[0].low == pytest.approx(whole[0].low, abs=0.02)
        assert parts[0].high == pytest.approx(whole[0].high, abs=0.02)
        assert parts[1].verdict == whole[1].verdict == "better"

    def test_the_same_rows_give_the_same_interval(self):
        numbers = means(list(np.random.default_rng(6).normal(size=50)))
        assert interval_of(numbers) == interval_of(numbers)
