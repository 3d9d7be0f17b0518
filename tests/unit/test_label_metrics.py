"""Scores of texts, labels, pairs and completions against the scorers they stand on, called directly."""

import math
import random
from dataclasses import asdict

import pytest
import sacrebleu
from sklearn import metrics as sklearn

from engine.evaluation.measurement import Confusion
from engine.evaluation.metrics.bleu import row_bleu
from engine.evaluation.metrics.chrf import row_chrf
from engine.evaluation.metrics.kl import row_kl
from engine.evaluation.scores import (
    row_scores,
    score_answers,
    score_completions,
    score_labels,
    score_pairs,
    score_wins,
)

NAMES = ("accuracy", "f1_macro", "f1_micro")
LABELS = ["card", "loan", "fee", "other"]
ANSWERS = ["The cat sat on the mat.", "", "a b c d e", "Привет, мир", "yes"]
EXPECTED = ["The cat lay on a mat, purring.", "something", "a b c d e", "Привет, мир!", "no"]


def drawn(seed, labels, count):
    rng = random.Random(seed)
    expected = rng.choices(labels, weights=range(1, len(labels) + 1), k=count)
    return [label if rng.random() < 0.7 else rng.choice(labels) for label in expected], expected


def drawn_sets(seed, labels, count, share=0.3):
    rng = random.Random(seed)
    return tuple([{label for label in labels if rng.random() < share} for _ in range(count)] for _ in range(2))


def indicators(rows, labels):
    return [[int(label in row) for label in labels] for row in rows]


def test_bleu_and_chrf_equal_sacrebleu():
    scores = score_answers(ANSWERS, EXPECTED, ["bleu", "chrf"])
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [EXPECTED]).score / 100)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(ANSWERS, [EXPECTED]).score / 100)
    assert 0 < scores["bleu"] < 1
    assert 0 < scores["chrf"] < 1
    assert score_answers([""], ["gone"], ["bleu", "chrf"]) == {"bleu": 0.0, "chrf": 0.0}
    assert score_answers(["the same five words here"] * 2, ["the same five words here"] * 2, ["bleu"]) == {
        "bleu": pytest.approx(1.0)
    }


def test_rows_of_bleu_and_chrf_equal_sacrebleu():
    pairs = list(zip(ANSWERS, EXPECTED, strict=True))
    expected = [sacrebleu.sentence_bleu(answer, [right]).score / 100 for answer, right in pairs]
    assert row_scores("bleu", ANSWERS, EXPECTED) == row_bleu(ANSWERS, EXPECTED) == pytest.approx(expected)
    expected = [sacrebleu.sentence_chrf(answer, [right]).score / 100 for answer, right in pairs]
    assert row_scores("chrf", ANSWERS, EXPECTED) == row_chrf(ANSWERS, EXPECTED) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_single_labels_equal_scikit_learn(seed):
    given, expected = drawn(seed, LABELS, 60)
    scores, confusion = score_labels(given, expected, LABELS, NAMES)
    assert scores["accuracy"] == pytest.approx(sklearn.accuracy_score(expected, given))
    assert scores["f1_macro"] == pytest.approx(sklearn.f1_score(expected, given, average="macro"))
    assert scores["f1_micro"] == pytest.approx(sklearn.f1_score(expected, given, average="micro"))
    assert scores["f1_micro"] == pytest.approx(scores["accuracy"])
    assert scores["f1_macro"] != pytest.approx(scores["accuracy"])
    matrix = sklearn.confusion_matrix(expected, given, labels=LABELS)
    assert {(row, column): count for row, column, count in confusion.cells} == {
        (row, column): matrix[row, column] for row in range(4) for column in range(4) if matrix[row, column]
    }


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_several_labels_equal_scikit_learn(seed):
    given, expected = drawn_sets(seed, LABELS, 60)
    scores, confusion = score_labels(given, expected, LABELS, NAMES, multi_label=True)
    left, right = indicators(expected, LABELS), indicators(given, LABELS)
    assert scores["accuracy"] == pytest.approx(sklearn.accuracy_score(left, right))
    assert scores["f1_macro"] == pytest.approx(sklearn.f1_score(left, right, average="macro"))
    assert scores["f1_micro"] == pytest.approx(sklearn.f1_score(left, right, average="micro"))
    tables = sklearn.multilabel_confusion_matrix(left, right)
    assert confusion.per_label == [table.ravel().tolist() for table in tables]
    assert confusion.cells == []


def test_a_label_that_the_model_does_not_know_can_only_be_missed():
    scores, confusion = score_labels(["card", "card"], ["card", "tax"], ["card", "loan"], NAMES)
    assert scores["accuracy"] == 0.5
    # Of the three labels "loan" occurs nowhere and is left out.
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert confusion == Confusion(["card", "loan", "tax"], cells=[[0, 0, 1], [2, 0, 1]])
    scores, confusion = score_labels([{"card"}], [{"card", "tax"}], ["card"], NAMES, multi_label=True)
    assert scores == {"accuracy": 0.0, "f1_macro": pytest.approx(0.5), "f1_micro": pytest.approx(2 / 3)}
    assert confusion == Confusion(["card", "tax"], per_label=[[0, 0, 0, 1], [0, 0, 1, 0]])


def test_one_class_only_and_no_label_at_all():
    scores, confusion = score_labels(["card"] * 3, ["card"] * 3, LABELS, NAMES)
    assert scores == {"accuracy": 1.0, "f1_macro": 1.0, "f1_micro": 1.0}
    assert confusion.cells == [[0, 0, 3]]
    scores, _ = score_labels([[], []], [[], []], LABELS, NAMES, multi_label=True)
    assert scores["accuracy"] == 1.0
    assert math.isnan(scores["f1_macro"])
    assert math.isnan(scores["f1_micro"])
    assert score_labels([], [], LABELS, NAMES) == ({}, None)


def test_only_what_is_asked_for_is_scored():
    assert set(score_labels(["card"], ["card"], LABELS, ["f1_macro", "rouge"])[0]) == {"f1_macro"}
    assert set(score_pairs([1.0], [0.0], ["reward_margin"])) == {"reward_margin"}
    assert score_wins([1.0], [0.0], ["reward"]) == {}
    assert score_completions([1.0], [3], [0.0], 1.0, ["kl"]) == {"kl": 0.0}


def test_matrices_of_many_labels_are_kept_small():
    labels = [f"label {number}" for number in range(2000)]
    _, confusion = score_labels(labels[:100], labels[100:200], labels, ["accuracy"])
    assert len(confusion.cells) == 100
    assert len(asdict(confusion)["labels"]) == 2000


def test_pairs_by_hand():
    chosen, rejected = [2.0, 1.0, 0.5, -1.0], [1.0, 3.0, 0.5, -2.0]
    scores = score_pairs(chosen, rejected, ["reward_accuracy", "reward_margin"])
    # Right, wrong, a tie, right.
    assert scores == {"reward_accuracy": pytest.approx(2.5 / 4), "reward_margin": pytest.approx((1 - 2 + 0 + 1) / 4)}
    untouched = score_pairs([0.0] * 5, [0.0] * 5, ["reward_accuracy"])
    assert untouched == {"reward_accuracy": 0.5}
    assert score_wins(chosen, rejected, ["win_rate"]) == {"win_rate": pytest.approx(2.5 / 4)}
    assert score_pairs([], [], ["reward_accuracy"]) == score_wins([], [], ["win_rate"]) == {}


def test_reward_accuracy_is_the_trainers_where_nothing_ties():
    rng = random.Random(5)
    chosen, rejected = ([rng.gauss(0, 1) for _ in range(200)] for _ in range(2))
    scored = score_pairs(chosen, rejected, ["reward_accuracy"])["reward_accuracy"]
    assert scored == pytest.approx(sum(left > right for left, right in zip(chosen, rejected, strict=True)) / 200)


def test_a_reward_that_is_no_number_is_never_counted_as_lost():
    scores = score_pairs([math.nan, 1.0], [0.0, 0.0], ["reward_accuracy", "reward_margin"])
    assert all(math.isnan(value) for value in scores.values())


def test_completions_by_hand():
    names = ["reward", "solved_rate", "kl", "completion_length"]
    scores = score_completions([1.0, 0.0, 0.5, 1.0], [10, 30, 20, 40], [1.0, 2.0, 3.0, 4.0], 1.0, names)
    assert scores == {"reward": 0.625, "solved_rate": 0.5, "kl": 0.1, "completion_length": 25.0}
    assert score_completions([], [], [], 1.0, names) == {}
    assert math.isnan(score_completions([0.0], [0], [0.0], 1.0, ["kl"])["kl"])


def test_kl_is_zero_for_equal_models_and_positive_else():
    assert row_kl([-1.0, -2.0], [-1.0, -2.0]) == 0.0
    assert row_kl([-1.0], [-3.0]) == pytest.approx(math.exp(-2) + 2 - 1)
    assert row_kl([-3.0], [-1.0]) == pytest.approx(math.exp(2) - 2 - 1)
    assert row_kl([-9000.0], [-1.0]) == math.inf


def test_the_estimate_of_kl_is_that_of_two_distributions():
    ours, base = [0.7, 0.2, 0.1], [0.3, 0.4, 0.3]
    exact = sum(p * math.log(p / q) for p, q in zip(ours, base, strict=True))
    rng = random.Random(7)
    tokens = rng.choices(range(3), weights=ours, k=20_000)
    summed = row_kl([math.log(ours[token]) for token in tokens], [math.log(base[token]) for token in tokens])
    assert summed / len(tokens) == pytest.approx(exact, rel=0.05)
