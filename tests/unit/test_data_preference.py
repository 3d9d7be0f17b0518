"""Preferences, ratings, labels and prompts in canonical form, and the rows of them that cannot be used."""

import pytest

from engine.data.conversations import REASONS, canonical_rows
from engine.data.formats import candidates
from engine.data.rows import RawRow, Tally
from engine.data.shapes_checks import label_findings
from engine.data.shapes_roles import Shape


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def says(text: str) -> dict:
    return {"role": "assistant", "content": text}


def rows_of(*values: dict) -> list[RawRow]:
    return [RawRow(f"r.jsonl:{number}", value) for number, value in enumerate(values, 1)]


def read(*values: dict, **mapping: str):
    """Return canonical rows, dropped and changed; the shape is detected where no mapping is given."""
    rows = rows_of(*values)
    best = candidates(rows)[0]
    dropped, changed = Tally(), Tally()
    shape = Shape(best.format, mapping or best.mapping, "")
    return canonical_rows(rows, shape, dropped, changed), dropped, changed


PAIR = {"prompt": [user("Q")], "chosen": [says("A")], "rejected": [says("B")]}
FORMS = {
    "text": {"prompt": "Q", "chosen": "A", "rejected": "B"},
    "turns": {"prompt": [user("Q")], "chosen": [says("A")], "rejected": [says("B")]},
    "whole conversations": {"chosen": [user("Q"), says("A")], "rejected": [user("Q"), says("B")]},
    "whole conversations and their prompt": {
        "prompt": "Q",
        "chosen": [user("Q"), says("A")],
        "rejected": [user("Q"), says("B")],
    },
    "transcripts": {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "A"},
        "rejected": {"from": "gpt", "value": "B"},
    },
    "other names": {"question": "Q", "chosen_response": "A", "rejected_response": "B"},
}


@pytest.mark.parametrize("row", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_a_preference_becomes_one(row):
    rows, dropped, changed = read(row)
    assert rows == [{"id": "r.jsonl:1", **PAIR}]
    assert (dropped.counts, changed.counts) == ({}, {})


def test_transcripts_of_several_turns_part_where_they_differ():
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:"
    (row,), _, _ = read({"chosen": f"{start} So.", "rejected": f"{start} So?\n\nHuman: Eh\n\nAssistant: No."})
    assert [turn["content"] for turn in row["prompt"]] == ["Hi", "Hello", "Why?"]
    assert row["chosen"] == [says("So.")]
    assert [turn["content"] for turn in row["rejected"]] == ["So?", "Eh", "No."]


def test_turns_of_one_speaker_in_a_row_are_one_turn_and_counted():
    chosen = "\n\nHuman: Q\n\nAssistant: One.\n\nAssistant: Two."
    (row,), _, changed = read({"chosen": chosen, "rejected": "\n\nHuman: Q\n\nAssistant: B"})
    assert row["chosen"] == [says("One.\n\nTwo.")]
    assert changed.counts == {"merged_turns": 1}


def test_side_that_goes_on_from_the_other_begins_at_its_first_answer():
    chosen = [user("Q"), says("A")]
    (row,), _, _ = read({"chosen": chosen, "rejected": [*chosen, user("And?"), says("B")]})
    assert row["prompt"] == [user("Q")]
    assert row["chosen"] == [says("A")]
    assert [turn["content"] for turn in row["rejected"]] == ["A", "And?", "B"]


def test_system_column_and_tools_go_along():
    tools = [{"name": "now", "parameters": {}}]
    (row,), _, _ = read({**FORMS["text"], "system": "Be terse.", "tools": tools})
    assert row["prompt"] == [{"role": "system", "content": "Be terse."}, user("Q")]
    assert row["tools"][0]["function"]["name"] == "now"


BROKEN_PAIRS = {
    # D27 and D28 of the catalogue of bad files.
    "equal": ({"prompt": "Q", "chosen": "A", "rejected": "A"}, "equal_answers"),
    "equal transcripts": (dict.fromkeys(("chosen", "rejected"), "\n\nHuman: Q\n\nAssistant: A"), "equal_answers"),
    "other question": ({"chosen": [user("Q"), says("A")], "rejected": [user("P"), says("B")]}, "prompt_mismatch"),
    "other question in the prompt": (
        {"prompt": "P", "chosen": [user("Q"), says("A")], "rejected": [user("Q"), says("B")]},
        "prompt_mismatch",
    ),
    "other question later": (
        {
            "chosen": [user("Q"), says("A"), user("P"), says("A")],
            "rejected": [user("Q"), says("A"), user("R"), says("B")],
        },
        "prompt_mismatch",
    ),
    "prompt in one side only": (
        {"prompt": "Q", "chosen": [user("Q"), says("A")], "rejected": [says("B")]},
        "prompt_mismatch",
    ),
    "empty chosen": ({"prompt": "Q", "chosen": " ", "rejected": "B"}, "empty_answer"),
    "null rejected": ({"prompt": "Q", "chosen": "A", "rejected": None}, "null_value"),
    "number": ({"prompt": "Q", "chosen": 4, "rejected": "B"}, "not_text"),
    "empty prompt": ({"prompt": "", "chosen": "A", "rejected": "B"}, "empty_prompt"),
    "no rejected": ({"prompt": "Q", "chosen": "A"}, "missing_column"),
    "prompt that ends with an answer": (
        {"prompt": [user("Q"), says("A")], "chosen": [says("A")], "rejected": [says("B")]},
        "role_order",
    ),
    "chosen ends with a question": (
        {"prompt": [user("Q")], "chosen": [says("A"), user("P")], "rejected": [says("B")]},
        "no_answer",
    ),
}


@pytest.mark.parametrize(("row", "reason"), BROKEN_PAIRS.values(), ids=BROKEN_PAIRS.keys())
def test_broken_preference_is_located_and_its_twins_are_kept(row, reason):
    good = [{"prompt": f"Q{n}", "chosen": f"A{n}", "rejected": f"B{n}"} for n in range(3)]
    rows, dropped, _ = read(good[0], row, *good[1:], prompt="prompt", chosen="chosen", rejected="rejected")
    if "prompt" not in row:
        whole = {"chosen": [user("Q"), says("A")], "rejected": [user("Q"), says("B")]}
        rows, dropped, _ = read(whole, row, whole, whole)
    assert len(rows) == 3
    assert dropped.places == {reason: ["r.jsonl:2"]}
    assert reason in REASONS


class TestRatings:
    @pytest.mark.parametrize(
        ("label", "expected"),
        [(True, True), (False, False), (1, True), (0, False), ("true", True), ("False", False), ("0", False)],
    )
    def test_label_is_true_or_false_however_it_is_spelled(self, label, expected):
        (row,), _, _ = read({"prompt": "Q", "completion": "A", "label": label})
        assert row == {"id": "r.jsonl:1", "prompt": [user("Q")], "completion": [says("A")], "label": expected}

    @pytest.mark.parametrize(
        ("label", "reason"),
        [(None, "missing_label"), ("", "missing_label"), ("maybe", "broken_label"), (3, "broken_label")],
    )
    def test_other_labels_are_located(self, label, reason):
        good = {"prompt": "Q", "completion": "A", "label": True}
        rows, dropped, _ = read(*[good] * 20, {**good, "label": label})
        assert (len(rows), dropped.places) == (20, {reason: ["r.jsonl:21"]})

    def test_only_good_answers_teach_no_difference(self):
        rows, _, _ = read(*[{"prompt": f"Q{n}", "completion": "A", "label": True} for n in range(3)])
        (finding,) = label_findings(rows)
        assert (finding.code, finding.severity) == ("data.single_label", "error")
        assert "'true'" in finding.message


class TestLabels:
    def test_names_numbers_and_lists(self):
        assert read({"text": "T", "label": "good"})[0][0]["label"] == "good"
        assert read({"text": "T", "label": 2})[0][0]["label"] == "2"
        assert read({"text": "T", "label": 2.0})[0][0]["label"] == "2"
        assert read({"text": "T", "labels": ["a", "b"]})[0][0]["labels"] == ["a", "b"]
        assert read({"text": "T", "labels": [3, 27]})[0][0]["labels"] == ["3", "27"]
        assert read({"text": "T", "labels": []}, {"text": "T", "labels": ["a"]})[0][0]["labels"] == []

    def test_column_of_names_goes_before_the_numbers(self):
        (row,), _, _ = read({"text": "T", "label": 0, "label_text": "negative"})
        assert row["label"] == "negative"

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            ({"text": "T"}, "missing_column"),
            ({"text": "T", "label": None}, "missing_label"),
            ({"text": "T", "label": " "}, "missing_label"),
            ({"text": "T", "label": float("nan")}, "missing_label"),
            ({"text": "T", "label": {"a": 1}}, "broken_label"),
            ({"text": "T", "label": [["a"]]}, "broken_label"),
            ({"text": " ", "label": "good"}, "empty_text"),
            ({"text": None, "label": "good"}, "null_value"),
        ],
    )
    def test_row_without_its_label_is_located(self, broken, reason):
        good = {"text": "T", "label": "good"}
        rows, dropped, _ = read(good, good, broken, good)
        assert (len(rows), dropped.places) == (3, {reason: ["r.jsonl:3"]})

    def test_single_label_blocks_and_two_do_not(self):
        one, _, _ = read(*[{"text": f"T{n}", "label": "good"} for n in range(4)])
        assert [finding.code for finding in label_findings(one)] == ["data.single_label"]
        two, _, _ = read({"text": "T", "label": "good"}, {"text": "U", "label": "bad"})
        assert label_findings(two, held_out=one) == []

    def test_one_label_or_none_can_be_told_apart(self):
        rows, _, _ = read({"text": "T", "labels": ["toxic"]}, {"text": "U", "labels": []})
        assert label_findings(rows) == []

    def test_label_that_only_held_out_rows_have_is_named(self):
        train, _, _ = read({"text": "T", "label": "good"}, {"text": "U", "label": "bad"})
        held_out, _, _ = read({"text": "V", "label": "godo"}, {"text": "W", "label": "bad"})
        (finding,) = label_findings(train, held_out)
        assert (finding.code, finding.severity) == ("data.unseen_label", "warning")
        assert "'godo'" in finding.message
        assert "r.jsonl:1" in finding.message

    def test_conversations_have_no_labels(self):
        assert label_findings([{"id": "r:1", "messages": [user("Q"), says("A")]}]) == []


class TestPrompts:
    def test_answer_and_reward(self):
        (row,), _, _ = read({"prompt": "2+2?", "ground_truth": 4})
        assert row == {"id": "r.jsonl:1", "prompt": [user("2+2?")], "answer": "4"}
        (row,), _, _ = read({"prompt": "2+2?", "completion": "4", "reward": "0.5"})
        assert row == {"id": "r.jsonl:1", "prompt": [user("2+2?")], "completion": [says("4")], "reward": 0.5}

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            ({"prompt": "Q", "completion": "A", "reward": None}, "broken_reward"),
            ({"prompt": "Q", "completion": "A", "reward": "nan"}, "broken_reward"),
            ({"prompt": "Q", "completion": "", "reward": 1}, "empty_answer"),
            ({"prompt": " ", "completion": "A", "reward": 1}, "empty_prompt"),
            ({"prompt": [says("A")], "completion": "A", "reward": 1}, "role_order"),
        ],
    )
    def test_broken_row_is_located(self, broken, reason):
        good = {"prompt": "Q", "completion": "A", "reward": 1}
        rows, dropped, _ = read(good, broken, good)
        assert (len(rows), dropped.places) == (2, {reason: ["r.jsonl:2"]})


class TestPairs:
    def test_lists_of_sentences_are_joined_and_counted(self):
        (row,), _, changed = read({"source": ["One.", " Two. ", ""], "target": ["Sum."]})
        assert [turn["content"] for turn in row["messages"]] == ["One. Two.", "Sum."]
        assert changed.counts == {"joined_list": 1}

    def test_pieces_with_line_feeds_stand_below_each_other(self):
        (row,), _, _ = read({"source": ["a\nb", "c"], "target": "d"})
        assert row["messages"][0]["content"] == "a\nb\nc"

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            ({"source": [], "target": ["S"]}, "empty_prompt"),
            ({"source": ["S"], "target": [" "]}, "empty_answer"),
            ({"source": ["S", 4], "target": ["S"]}, "not_text"),
            ({"source": ["S"]}, "missing_column"),
        ],
    )
    def test_broken_row_is_located(self, broken, reason):
        good = {"source": ["S"], "target": ["T"]}
        rows, dropped, _ = read(good, broken, good)
        assert (len(rows), dropped.places) == (2, {reason: ["r.jsonl:2"]})
