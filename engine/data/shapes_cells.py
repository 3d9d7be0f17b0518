"""Cells of raw rows as text, lists of strings, labels and numbers; a cell that is none of it is a named defect."""

import json
import math
from collections.abc import Sequence
from difflib import get_close_matches

from engine.data.rows import RawRow, RowDefectError, Tally
from engine.text import clean_line

_TRUE = frozenset({"true", "1", "1.0", "yes", "y", "good", "desirable", "thumbs_up", "+1"})
_NUMBERS: dict[float, bool] = {1: True, 0: False, -1: False}
_FALSE = frozenset({"false", "0", "0.0", "no", "n", "bad", "undesirable", "thumbs_down", "-1"})


_UNSEEN = "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
"""Characters without a width: a cell of nothing else looks empty to everybody but a program."""


def is_blank(text: str) -> bool:
    """Return whether a text is nothing but white space and characters that nobody sees."""
    said = text.strip()
    return not said or (said[0] in _UNSEEN and not "".join(said.split()).strip(_UNSEEN))


def kind_of(value: object) -> str:
    """Return what a value is, in words: `a list`, `null`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    names: tuple[tuple[type, str], ...] = ((str, "text"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def as_text(value: object, column: str) -> str:
    """Return the text of a cell; a JSON number is the text that the file spells.

    Raises:
        RowDefectError: Null, a list or an object.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise RowDefectError("null_value", f"column {column!r}")
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    raise RowDefectError("not_text", f"column {column!r} holds {kind_of(value)}")


def cell(row: RawRow, column: str) -> object:
    """Return the value of a column.

    Raises:
        RowDefectError: The row lacks it; the detail names the nearest column that it has.
    """
    if column not in row.values:
        near = get_close_matches(column, list(row.values), n=1, cutoff=0.7)
        hint = f"nearest {near[0]!r}" if near else f"it has {', '.join(map(repr, row.values))}"
        raise RowDefectError("missing_column", clean_line(f"{column!r}; {hint}", max_chars=200))
    return row.values[column]


def filled_text(row: RawRow, column: str, if_empty: str, changed: Tally | None = None) -> str:
    """Return the text of a cell that must not be empty.

    Args:
        row: The row.
        column: Its column.
        if_empty: `empty_prompt`, `empty_answer` or `empty_text`.
        changed: Counts numbers, under `number_prompt` and so on.

    Raises:
        RowDefectError: No such column, no text, or nothing that can be seen (under the reason `if_empty`).
    """
    value = cell(row, column)
    text = as_text(value, column)
    if is_blank(text):
        raise RowDefectError(if_empty, f"column {column!r}")
    if changed is not None and not isinstance(value, str):
        changed.add(if_empty.replace("empty", "number"), row.where)
    return text


def optional_text(row: RawRow, column: str | None) -> str:
    """Return the text of a cell that may be absent, null or blank: then it is empty."""
    value = row.values.get(column) if column else None
    text = "" if value is None else as_text(value, str(column))
    return "" if is_blank(text) else text


def joined_text(row: RawRow, column: str, if_empty: str, changed: Tally) -> str:
    """Return the text of a cell that may be a list of strings: joined with a space, or a line feed if items have any.

    Raises:
        RowDefectError: As `filled_text`, or the list holds something else than strings.
    """
    value = cell(row, column)
    if not isinstance(value, list):
        return filled_text(row, column, if_empty, changed)
    if not all(isinstance(item, str) for item in value):
        odd = next(item for item in value if not isinstance(item, str))
        raise RowDefectError("not_text", f"column {column!r} holds a list with {kind_of(odd)}")
    items = [item.strip() for item in value if not is_blank(item)]
    if not items:
        raise RowDefectError(if_empty, f"column {column!r}")
    if len(items) > 1:
        changed.add("joined_list", row.where)
    return join_items(items)


def join_items(items: Sequence[str]) -> str:
    """Return strings as one text: sentences stand behind each other, items with line feeds below each other."""
    return ("\n" if any("\n" in item for item in items) else " ").join(items)


def truth_of(value: object) -> bool | None:
    """Return what a mark of a good or bad answer says; None where it says neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return _NUMBERS.get(value)
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else None
    return None


def number_of(value: object) -> float | None:
    """Return a finite number, also one that is spelled; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def label_of(value: object, column: str) -> str:
    """Return the name of a class.

    Raises:
        RowDefectError: Null, NaN or blank, or a list or an object.
    """
    # Tables write a number that is not there as NaN.
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    if missing or (isinstance(value, str) and is_blank(value)):
        raise RowDefectError("missing_label", f"column {column!r}")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return as_text(value, column).strip()
