"""Rows that the run behind a model has learnt: what is measured on them says nothing of new ones."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from engine.data.row_store import row_text
from engine.data.rows import Row
from engine.evaluation.apart.subject import Subject


def learnt_remark(subject: Subject, rows: Sequence[Row]) -> list[str]:
    """Return a sentence on how many rows are among those that the run of a model learnt from; none where none is."""
    if subject.run is None or not subject.run.train_file.is_file():
        return []
    wanted = [_content(row) for row in rows]
    left = set(wanted)
    for row in _trained(subject):
        left.discard(_content(row))
        if not left:
            break
    number = sum(content not in left for content in wanted)
    if not number:
        return []
    few = f"{number:,} of the {len(rows):,} rows"
    return [f"The run has learnt {few} in training: its numbers are better here than on new rows."]


def _trained(subject: Subject) -> Iterator[Row]:
    assert subject.run is not None
    with subject.run.train_file.open("rb") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _content(row: Row) -> str:
    """Return what a row says, wherever it stands."""
    told: dict[str, Any] = {key: value for key, value in row.items() if key != "id"}
    return row_text(told)
