"""How the recipe divides rows: the values of the column that a split goes by, as groups, classes or points in time."""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any

from engine.data.cleaning.texts import has_label, parts_of
from engine.data.row_keys import Integers
from engine.data.row_store import RawRows, ids_of
from engine.data.rows import Row, Tally
from engine.data.split import Division
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema_data import SplitSection
from engine.text import clean_line

_MOST_VALUES_SHARE = 0.5
_COLUMN = "data.split.column"


def division_of(
    split: SplitSection, rows: Sequence[Row], alike: Integers, raw: RawRows, share: float | None
) -> Division:
    """Return how rows are divided.

    Args:
        split: The recipe's `data.split`.
        rows: The rows.
        alike: For each of them the number of its group of near duplicates.
        raw: The same rows as the files have them, with the columns that canonical rows lack.
        share: Share to hold out; None for the usual one, 0 where a file is held out.

    Raises:
        ProblemError: A column is missing, not there, or holds nothing that such a split can use.
    """
    division = Division(share=share, test=split.test or 0.0, alike=alike)
    if split.method == "random":
        return division
    values = column_values(raw, split.column) if split.column else _labels(rows, split.method)
    if split.method == "time":
        return replace(division, times=times_of(rows, values))
    if split.method == "stratified":
        return replace(division, strata=_classes(values))
    # A row without a value belongs to no group but its own, which its number stands for.
    return replace(
        division, together=[number if value is None else value for number, value in enumerate(_plain_values(values))]
    )


def _labels(rows: Sequence[Row], method: str) -> Iterable[Any]:
    if method == "stratified" and rows and has_label(rows[0]):
        return (parts_of(row)[1] for row in rows)
    message = f"data.split.method {method} needs a column, and the rows have no label."
    fix = "Set data.split.column to the column that the split goes by."
    raise ProblemError(Problem("data.split_column", message, fix, path=_COLUMN))


def _classes(values: Iterable[Any]) -> list[str]:
    classes = [value or "" for value in _plain_values(values)]
    different = len(set(classes))
    if different > max(2, _MOST_VALUES_SHARE * len(classes)):
        message = (
            f"The column that the split goes by has {different:,} values in {len(classes):,} rows: too many for "
            "classes."
        )
        fix = "Choose a column with few values, or data.split.method: group."
        raise ProblemError(Problem("data.split_column", message, fix, path=_COLUMN))
    return classes


def _plain_values(values: Iterable[Any]) -> Iterator[str | None]:
    """Yield values as texts, each different one the same object, which costs a row eight bytes; None stays None."""
    seen: dict[str, str] = {}
    for value in values:
        text = value if isinstance(value, str | None) else json.dumps(value, sort_keys=True, default=str)
        yield None if text is None else seen.setdefault(text, text)


def column_values(raw: RawRows, column: str) -> Iterable[Any]:
    """Return the value of each row in a column; None where it has none.

    Raises:
        ProblemError: No row has this column; the nearest name is given.
    """
    if any(row.values.get(column) not in (None, "") for row in raw):
        return (value if (value := row.values.get(column)) != "" else None for row in raw)
    columns = raw.columns
    near = get_close_matches(column, columns, n=1)
    fix = f"Did you mean {near[0]!r}?" if near else f"Columns found: {', '.join(map(repr, columns[:20]))}."
    message = f"No row has a value in the column {column!r} that the split goes by."
    raise ProblemError(Problem("data.split_column", clean_line(message), clean_line(fix), path=_COLUMN))


def times_of(rows: Sequence[Row], values: Iterable[Any]) -> "array[float]":
    """Return the point in time of each row, as a number that grows.

    Read are numbers (a year, seconds, any running number) and ISO 8601 dates such as 2026-03-01 or 2026-03-01T12:00Z,
    also with slashes. Other forms are ambiguous: 03/04/2026 is in March or in April.

    Raises:
        ProblemError: A row has no value or one that cannot be read, or some are numbers and some dates.
    """
    times, kinds, bad = array("d"), set(), Tally()
    first_bad: Any = None
    for row_id, value in zip(ids_of(rows), values, strict=True):
        read = _time(value)
        if read is None:
            first_bad = value if not bad.total() else first_bad
            bad.add("time", row_id)
        else:
            kinds.add(read[0])
            times.append(read[1])
    if bad.total():
        raise _unreadable(bad, first_bad)
    if len(kinds) > 1:
        message = "The column that the split goes by holds numbers in some rows and dates in others."
        raise ProblemError(Problem("data.split_time", message, "Write all of them in one form.", path=_COLUMN))
    return times


def _time(value: Any) -> tuple[str, float] | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, datetime):
        return "date", _seconds(value)
    if isinstance(value, date):
        return "date", _seconds(datetime(value.year, value.month, value.day))
    if isinstance(value, int | float):
        return ("number", float(value)) if value == value else None
    text = str(value).strip()
    try:
        return "number", float(text)
    except ValueError:
        pass
    try:
        return "date", _seconds(datetime.fromisoformat(text.replace("/", "-")))
    except ValueError:
        return None


def _seconds(moment: datetime) -> float:
    # A date without a zone is taken as UTC, so that the machine's own zone moves no row.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _unreadable(bad: Tally, first: Any) -> ProblemError:
    count, named = bad.total(), bad.named("time")
    what = "no value" if first is None else f"{clean_line(first, max_chars=40)!r}"
    rows = "1 row has" if count == 1 else f"{count:,} rows have"
    message = f"{rows} no date or number in the column that the split goes by (first: {what}): {named}."
    fix = "Write dates as 2026-03-01 or 2026-03-01T12:00Z, or numbers that grow."
    return ProblemError(Problem("data.split_time", clean_line(message), fix, path=_COLUMN))
