"""Entities read from tags, by hand-worked cases, and their scores."""

import math

import pytest

from engine.evaluation.metrics.entity_f1 import entities, row_entities
from engine.evaluation.scores import score_tags


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("B-PER B-PER I-PER", [("PER", 0, 0), ("PER", 1, 2)]),
        # An inside without a beginning begins one, as in the CoNLL script; another type too.
        ("O I-PER I-PER", [("PER", 1, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 0), ("LOC", 1, 2)]),
        ("I-PER O I-PER", [("PER", 0, 0), ("PER", 2, 2)]),
        ("B-PER I-PER E-PER S-LOC", [("PER", 0, 2), ("LOC", 3, 3)]),
        ("E-PER E-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("S-PER I-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("B-PER L-PER U-LOC", [("PER", 0, 1), ("LOC", 2, 2)]),
        ("PER PER O LOC PER", [("PER", 0, 1), ("LOC", 3, 3), ("PER", 4, 4)]),
        ("B I O I", [("", 0, 1), ("", 3, 3)]),
        ("person-actor person-actor O", [("person-actor", 0, 1)]),
        ("B-drug-name I-drug-name", [("drug-name", 0, 1)]),
        ("O O", []),
        ("", []),
    ],
)
def test_entities_of_tags(tags, expected):
    assert entities(tags.split()) == expected


def scored(predicted, expected):
    return score_tags([row.split() for row in predicted], [row.split() for row in expected], ["entity_f1"])


def test_a_span_counts_when_type_and_both_ends_are_right():
    expected = ["B-PER I-PER O B-LOC", "B-ORG O"]
    predicted = ["B-PER O O B-LOC", "B-PER B-PER"]
    # One of two entities right in the first row; two wrong finds and one miss in the second.
    assert row_entities([row.split() for row in predicted], [row.split() for row in expected]) == [(1, 2, 2), (0, 2, 1)]
    assert scored(predicted, expected) == {
        "entity_precision": pytest.approx(1 / 4),
        "entity_recall": pytest.approx(1 / 3),
        "entity_f1": pytest.approx(2 / 7),
    }
    assert set(scored(expected, expected).values()) == {1.0}


def test_rows_without_entities():
    nothing = scored(["O O"], ["O O"])
    assert all(math.isnan(value) for value in nothing.values())
    missed = scored(["O O"], ["B-PER O"])
    assert (missed["entity_f1"], missed["entity_recall"]) == (0.0, 0.0)
    assert math.isnan(missed["entity_precision"])
    assert scored(["B-PER O"], ["O O"])["entity_f1"] == 0.0
    assert score_tags([], [], ["entity_f1"]) == score_tags([["O"]], [["O"]], ["accuracy"]) == {}


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 predicted tags stand against 1"):
        score_tags([["O", "O"]], [["O"]], ["entity_f1"])


def test_half_a_surrogate_pair_is_a_type_like_any_other():
    assert set(score_tags([["B-\ud800"]], [["B-\ud800"]], ["entity_f1"]).values()) == {1.0}
