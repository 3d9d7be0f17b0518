"""What rows add to a number gives back the number, for every metric; and survives the file of a measurement."""

import json
import math
import random

import pytest

from engine.evaluation.kept_rows import named, only, rows_of
from engine.evaluation.measurement import Measurement, load_measurement, save_measurement
from engine.evaluation.row_groups import (
    answer_groups,
    label_groups,
    mean_group,
    pair_groups,
    tag_groups,
    token_groups,
    win_groups,
)
from engine.evaluation.scores import score_answers, score_labels, score_pairs, score_sums, score_tags, score_wins
from engine.evaluation.scoring import RowScore

WORDS = ["a", "the", "cat", "dog", "sat", "ran", "on", "mat", "猫", "ünder"]
TAGS = ("O", "B-PER", "I-PER", "B-LOC")


def measurement(groups, **changes):
    facts = {"phase": "after", "step": 3, "metrics": {}, "samples": [], "num_rows": 0, "num_tokens": 0}
    return Measurement(**facts | {"num_generated": 0, "elapsed_s": 0.0, "rows": groups} | changes)


def values(groups):
    return {name: numbers.value() for name, numbers in rows_of(measurement(groups).to_json()).items()}


@pytest.fixture
def dice():
    return random.Random(11)


@pytest.fixture
def ids():
    return [f"rows.jsonl:{number}" for number in range(40)]


def test_tokens(dice, ids):
    scores = [RowScore(dice.uniform(0, 40), dice.randint(0, 9), dice.randint(9, 20)) for _ in ids]
    lists = ([score.loss for score in scores], [score.right for score in scores], [score.tokens for score in scores])
    assert values(token_groups(ids, scores)) == pytest.approx(score_sums(*lists))


def test_answers(dice, ids):
    expected = [" ".join(dice.choices(WORDS, k=dice.randint(1, 12))) for _ in ids]
    texts = [text if dice.random() < 0.3 else " ".join(dice.choices(WORDS, k=dice.randint(0, 9))) for text in expected]
    names = {"exact_match", "rouge1", "rougeL", "bleu", "chrf", "wer", "cer"}
    wanted = score_answers(texts, expected, {*names, "rouge"})
    assert set(wanted) == names
    assert values(answer_groups(ids, texts, expected, names)) == pytest.approx(wanted)


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several"])
def test_labels(several, dice, ids):
    labels = tuple("abcde")

    def drawn():
        return sorted(dice.sample(range(5), dice.randint(0, 3))) if several else [dice.randrange(5)]

    right = [drawn() for _ in ids]
    given = [row if dice.random() < 0.5 else drawn() for row in right]
    names = [[[labels[number] for number in row] for row in rows] for rows in (given, right)]
    if not several:
        names = [[row[0] for row in rows] for rows in names]
    wanted, _ = score_labels(*names, labels, {"accuracy", "f1_macro", "f1_micro"}, multi_label=several)
    assert values(label_groups(ids, given, right, wanted)) == pytest.approx(wanted)


def test_entities(dice, ids):
    right = [dice.choices(TAGS, k=dice.randint(1, 9)) for _ in ids]
    given = [[tag if dice.random() < 0.8 else dice.choice(TAGS) for tag in row] for row in right]
    wanted = score_tags(given, right, {"entity_f1"})
    assert values(tag_groups(ids, given, right, wanted)) == pytest.approx(wanted)


def test_pairs_and_wins(dice, ids):
    chosen, rejected = ([round(dice.uniform(-1, 1), 1) for _ in ids] for _ in range(2))
    names = {"reward_accuracy", "reward_margin", "win_rate"}
    wanted = score_pairs(chosen, rejected, names) | score_wins(chosen, rejected, names)
    groups = [*pair_groups(ids, chosen, rejected, names), *win_groups(ids, chosen, rejected)]
    assert values(groups) == pytest.approx(wanted)


def test_windows_of_one_row_get_names_of_their_own():
    assert named(["a", "b", "a", "a"]) == ["a", "b", "a #2", "a #3"]


def test_only_what_was_measured_is_kept():
    groups = token_groups(["a"], [RowScore(1.0, 1, 2)])
    kept = only(groups, {"perplexity"})
    assert [group.metrics for group in kept] == [{"perplexity": "exp_ratio"}]


def test_numbers_that_are_none_survive_the_file(tmp_path):
    groups = mean_group("reward", ["a", "b"], [math.nan, math.inf])
    path = save_measurement(measurement(groups), tmp_path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert rows_of(load_measurement(path))["reward"].parts.tolist()[1] == [math.inf, 1.0]


@pytest.mark.parametrize("rows", [[{"metrics": {"loss": "ratio"}}], [{"metrics": ["loss"]}], ["loss"], [3]])
def test_rows_that_are_none_are_refused(rows):
    with pytest.raises(ValueError, match="cannot be read"):
        rows_of({"rows": rows})


def test_a_measurement_of_before_holds_no_rows():
    assert rows_of({"metrics": {"loss": 1.0}}) == {}
