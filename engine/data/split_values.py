"""How the recipe divides rows: the values of the column that a split goes by, as groups, classes or points in time."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any

from engine.data.cleaning.clean import Cleaned
from engine.data.cleaning.texts import has_label, parts_of
from engine.data.rows import RawRow, Row
from engine.data.split import Division
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema_data import SplitSection
from engine.text import clean_line

_NAMED = 5
_MOST_VALUES_SHARE = 0.5
_COLUMN = "data.split.column"


def division_of(split: SplitSection, cleaned: Cleaned, raw: Sequence[RawRow], share: float | None) -> Division:
    """Return how rows are divided.

    Args:
        split: The recipe's `data.split`.
        cleaned: Rows with their groups of near duplicates.
        raw: Rows as the files have them, with the columns that canonical rows lack.
        share: Share to hold out; None for the usual one, 0 where a file is held out.

    Raises:
        ProblemError: A column is missing, not there, or holds nothing that such a split can use.
    """
    division = Division(share=share, test=split.test or 0.0, alike=cleaned.groups)
    rows = cleaned.rows
    if split.method == "random":
        return division
    values = column_values(raw, split.column) if split.column else _labels(rows, split.method)
    if split.method == "time":
        return replace(division, times=times_of(rows, values))
    if split.method == "stratified":
        return replace(division, strata=_classes(rows, values))
    # A row without a value belongs to no group but its own.
    return replace(division, together=[_plain(values.get(row["id"], row["id"])) for row in rows])


def _labels(rows: Sequence[Row], method: str) -> dict[str, Any]:
    if method == "stratified" and rows and has_label(rows[0]):
        return {row["id"]: parts_of(row)[1] for row in rows}
    message = f"data.split.method {method} needs a column, and the rows have no label."
    fix = "Set data.split.column to the column that the split goes by."
    raise ProblemError(Problem("data.split_column", message, fix, path=_COLUMN))


def _classes(rows: Sequence[Row], values: dict[str, Any]) -> list[str]:
    classes = [_plain(values.get(row["id"], "")) for row in rows]
    different = len(set(classes))
    if different > max(2, _MOST_VALUES_SHARE * len(rows)):
        message = (
            f"The column that the split goes by has {different:,} values in {len(rows):,} rows: too many for classes."
        )
        fix = "Choose a column with few values, or data.split.method: group."
        raise ProblemError(Problem("data.split_column", message, fix, path=_COLUMN))
    return classes


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def column_values(raw: Sequence[RawRow], column: str) -> dict[str, Any]:
    """Return `{row id: value}` of a column, without rows that have none.

    Raises:
        ProblemError: No row has this column; the nearest name is given.
    """
    values = {row.where: row.values[column] for row in raw if row.values.get(column) not in (None, "")}
    if values:
        return values
    columns = list(dict.fromkeys(name for row in raw for name in row.values))
    near = get_close_matches(column, columns, n=1)
    fix = f"Did you mean {near[0]!r}?" if near else f"Columns found: {', '.join(map(repr, columns[:20]))}."
    message = f"No row has a value in the column {column!r} that the split goes by."
    raise ProblemError(Problem("data.split_column", clean_line(message), clean_line(fix), path=_COLUMN))


def times_of(rows: Sequence[Row], values: dict[str, Any]) -> list[float]:
    """Return the point in time of each row, as a number that grows.

    Read are numbers (a year, seconds, any running number) and ISO 8601 dates such as 2026-03-01 or 2026-03-01T12:00Z,
    also with slashes. Other forms are ambiguous: 03/04/2026 is in March or in April.

    Raises:
        ProblemError: A row has no value or one that cannot be read, or some are numbers and some dates.
    """
    times, kinds, bad = [], set(), []
    for row in rows:
        read = _time(values.get(row["id"]))
        if read is None:
            bad.append(row["id"])
        else:
            kinds.add(read[0])
            times.append(read[1])
    if bad:
        raise _unreadable(bad, values.get(bad[0]))
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


def _unreadable(places: Sequence[str], first: Any) -> ProblemError:
    named = ", ".join(places[:_NAMED]) + (f" and {len(places) - _NAMED:,} more" if len(places) > _NAMED else "")
    what = "no value" if first is None else f"{clean_line(first, max_chars=40)!r}"
    rows = "1 row has" if len(places) == 1 else f"{len(places):,} rows have"
    message = f"{rows} no date or number in the column that the split goes by (first: {what}): {named}."
    fix = "Write dates as 2026-03-01 or 2026-03-01T12:00Z, or numbers that grow."
    return ProblemError(Problem("data.split_time", clean_line(message), fix, path=_COLUMN))
