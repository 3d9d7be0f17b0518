"""Rows of text with a label, and prompts for reinforcement learning."""

from engine.data.rows import RawRow, Row, RowDefectError, Tally
from engine.data.shapes_cells import cell, filled_text, kind_of, label_of, number_of, optional_text
from engine.data.shapes_preference import prompt_of
from engine.data.shapes_turns import answer_turns, as_list, conversation
from engine.text import clean_line


def label_row(row: RawRow, mapping: dict[str, str]) -> Row:
    """Return `{"id", "text", "label"}`, or `{"id", "text", "labels"}` where the cell is a list.

    A number keeps its spelling as its name, unless a column of names goes with it.

    Raises:
        RowDefectError: Empty text, or no label.
    """
    text = filled_text(row, mapping["text"], "empty_text")
    column = mapping.get("label_name", mapping["label"])
    value = cell(row, column)
    labels = value if isinstance(value, list) else as_list(value) if isinstance(value, str) else []
    if isinstance(value, list) or labels:
        if any(isinstance(label, (list, dict)) for label in labels):
            raise RowDefectError("broken_label", f"column {column!r} holds a list of lists or objects")
        return {"id": row.where, "text": text, "labels": [label_of(label, column) for label in labels]}
    if isinstance(value, dict):
        raise RowDefectError("broken_label", f"column {column!r} holds {kind_of(value)}")
    return {"id": row.where, "text": text, "label": label_of(value, column)}


def prompt_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    """Return `{"id", "prompt"}` with what is known of good answers: `answer`, or `completion` and `reward`.

    Raises:
        RowDefectError: An empty prompt, an empty completion, or a reward that is no number.
    """
    prompt = prompt_of(row, mapping, changed)
    known: Row = {"id": row.where, "prompt": prompt}
    if answer := optional_text(row, mapping.get("answer")):
        known["answer"] = answer
    if "completion" in mapping:
        column = mapping["completion"]
        known["completion"] = answer_turns(cell(row, column), column, row.where, changed)
        conversation([*prompt, *known["completion"]])
    if "reward" in mapping:
        value = cell(row, mapping["reward"])
        reward = number_of(value)
        if reward is None:
            raise RowDefectError("broken_reward", clean_line(f"{value!r}", max_chars=60))
        known["reward"] = reward
    return known
