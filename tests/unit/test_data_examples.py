"""Rows as a person reads them: every shape shows all that is learnt from."""

from typing import get_args

import pytest

from engine.data.conversations import canonical_rows
from engine.data.formats import Format, Shape
from engine.data.prepared_profile import example
from engine.data.rows import RawRow, Tally

ANSWER = {"role": "assistant", "content": "Yes."}
CASES = {
    "text": ({"text": "Once."}, {"text": "Once."}),
    "text_label": ({"text": "Fine.", "label": "good"}, {"text": "Fine.", "label": "good"}),
    "prompt_completion": ({"prompt": "Tea?", "completion": "Yes."}, {"prompt": "Tea?", "completion": "Yes."}),
    "preference": (
        {"prompt": "Tea?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": "Tea?", "chosen": "Yes.", "rejected": "No."},
    ),
    "unpaired_preference": (
        {"prompt": "Tea?", "completion": "No.", "label": False},
        {"prompt": "Tea?", "completion": "No.", "judged": "bad"},
    ),
    "prompts": ({"prompt": "2 + 2?", "answer": "4"}, {"prompt": "2 + 2?", "answer": "4"}),
    "messages": (
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tea?"}, ANSWER]},
        {"prompt": "system: Be kind.\nuser: Tea?", "completion": "Yes."},
    ),
    "alpaca": ({"instruction": "Tea?", "output": "Yes."}, {"prompt": "Tea?", "completion": "Yes."}),
    "source_target": ({"source": "Long.", "target": "L."}, {"source": "Long.", "target": "L."}),
    "word_tags": (
        {"tokens": ["Mia", "runs"], "tags": ["B-PER", "O"]},
        {"text": "Mia runs", "entities": "Mia (PER)"},
    ),
    "entity_spans": (
        {"text": "Mia runs", "entities": [{"start": 0, "end": 3, "label": "PER"}]},
        {"text": "Mia runs", "entities": "Mia (PER)"},
    ),
}


def test_no_shape_is_left_out() -> None:
    assert set(CASES) == set(get_args(Format))


@pytest.mark.parametrize("shape", CASES)
def test_a_row_is_shown_with_all_of_its_parts(shape: str) -> None:
    cells, expected = CASES[shape]
    mapping = {name: name for name in cells}
    rows = canonical_rows([RawRow("rows.jsonl:1", cells)], Shape(shape, mapping, ""), Tally(), Tally())
    assert example(rows[0], shape) == expected


def test_no_class_and_no_entity_are_words_and_no_empty_cells() -> None:
    assert example({"id": "a:1", "tokens": ["Hi"], "tags": ["O"]}) == {"text": "Hi", "entities": "none"}
    assert example({"id": "a:1", "text": "Hi", "labels": []}) == {"text": "Hi", "label": "none"}
