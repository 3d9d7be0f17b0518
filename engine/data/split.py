"""Which rows are trained on and which are kept for evaluation: seeded, and no equal row on both sides."""

import hashlib
import json
import math
import random
from collections.abc import Sequence

from engine.data.rows import Row, Tally
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

DEFAULT_SHARE = 0.1
DEFAULT_MOST = 500


def row_key(row: Row) -> str:
    """Return a hash over what a row teaches, its id left out."""
    taught = row.get("messages", row.get("text"))
    return hashlib.sha256(json.dumps(taught, ensure_ascii=True).encode()).hexdigest()


def drop_duplicates(rows: Sequence[Row], dropped: Tally) -> list[Row]:
    """Return the first of rows that are equal to the letter; the others are counted."""
    first: dict[str, str] = {}
    kept: list[Row] = []
    for row in rows:
        key = row_key(row)
        if key in first:
            dropped.add("duplicate", row["id"], f"equal to {first[key]}")
        else:
            first[key] = row["id"]
            kept.append(row)
    return kept


def limit_rows(rows: Sequence[Row], limit: int | None, seed: int, dropped: Tally) -> list[Row]:
    """Return at most `limit` rows, drawn with the seed, in their order."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    drawn = set(random.Random(f"limit {seed}").sample(range(len(rows)), limit))
    for index, row in enumerate(rows):
        if index not in drawn:
            dropped.add("row_limit", row["id"])
    return [row for index, row in enumerate(rows) if index in drawn]


def split_rows(
    rows: Sequence[Row], share: float | None, seed: int, *, left_out: str = ""
) -> tuple[list[Row], list[Row]]:
    """Return training and held-out rows, each in file order; equal rows stay on one side.

    Args:
        rows: All rows.
        share: Share to keep for evaluation; None for a tenth, at most 500.
        seed: Seed of the draw.
        left_out: Which rows were left out before and why, for the message when too few remain.

    Raises:
        ProblemError: Fewer than two different rows, or a share out of range.
    """
    if share is not None and not 0 < share < 1:
        raise ProblemError(
            Problem(
                "data.held_out_share",
                f"data.held_out is {share:g}; a share lies between 0 and 1.",
                "Write 0.1 for a tenth, or name a file with held-out rows.",
                path="data.held_out",
            )
        )
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row_key(row), []).append(index)
    if len(groups) < 2:
        raise _too_few(len(groups), left_out)
    wanted = min(math.ceil(len(rows) * DEFAULT_SHARE), DEFAULT_MOST) if share is None else round(len(rows) * share)
    held = _draw(list(groups.values()), max(1, wanted), seed)
    return [row for i, row in enumerate(rows) if i not in held], [row for i, row in enumerate(rows) if i in held]


def _draw(groups: list[list[int]], wanted: int, seed: int) -> set[int]:
    random.Random(f"split {seed}").shuffle(groups)
    held: set[int] = set()
    for group in groups[:-1]:
        if len(held) >= wanted:
            break
        held.update(group)
    return held


def _too_few(number: int, left_out: str) -> ProblemError:
    found = "One usable row is" if number == 1 else f"{number} usable rows are"
    why = f" Left out: {left_out}." if left_out else ""
    return ProblemError(
        Problem(
            "data.too_few_rows",
            clean_line(f"{found} left; training and evaluation need at least two different ones.{why}", max_chars=1200),
            "Add rows; a few hundred good ones are a start.",
            path="data.source",
        )
    )


def drop_leaked(train: Sequence[Row], held_out: Sequence[Row], dropped: Tally) -> list[Row]:
    """Return the training rows that are not also held-out rows; the others are counted."""
    held = {row_key(row): row["id"] for row in held_out}
    kept: list[Row] = []
    for row in train:
        where = held.get(row_key(row))
        if where is None:
            kept.append(row)
        else:
            dropped.add("in_held_out", row["id"], f"equal to {where}")
    return kept
