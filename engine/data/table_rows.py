"""Strict readers of CSV, TSV and Parquet. Text stays text: `NA`, `None` and `1.10` are what the cell says."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from engine.data.bytes_in import data_problem
from engine.data.json_rows import MAX_ERRORS
from engine.data.rows import RawRow
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

DELIMITERS = (",", "\t", ";", "|")
_SNIFFED_CHARS = 1 << 16
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}


def read_csv(text: str, name: str, *, prefer: str = ",") -> list[RawRow]:
    """Return the rows of a CSV or TSV text; the first record names the columns.

    Args:
        text: The whole file.
        name: Name of the file for messages and row ids.
        prefer: Delimiter taken when several fit.

    Raises:
        ProblemError: Broken quotes, ragged rows, or a header without usable names.
    """
    delimiter = find_delimiter(text, prefer)
    records = _records(text, name, delimiter)
    header = [cell.strip() for cell in next(records)[1]]
    _check_header(header, name)
    rows: list[RawRow] = []
    problems: list[Problem] = []
    for line, cells in records:
        if len(cells) == len(header):
            rows.append(RawRow(f"{name}:{line}", dict(zip(header, cells, strict=True))))
            continue
        problems.append(_ragged(name, line, len(cells), len(header), delimiter))
        if len(problems) == MAX_ERRORS:
            break
    if problems:
        raise ProblemError(*problems)
    if not rows:
        raise data_problem("no_rows", f"{name} has a header and no rows.", "Name a file that holds rows.")
    return rows


def _ragged(name: str, line: int, found: int, expected: int, delimiter: str) -> Problem:
    cells = "cell" if found == 1 else "cells"
    return Problem(
        "data.ragged_row",
        clean_line(f"{name}:{line}:1: the row has {found} {cells}, the header {expected}."),
        f"Correct the row; a {_DELIMITER_NAMES[delimiter]} or a line break inside a cell needs quotes around the cell.",
        path="data.source",
    )


def _records(text: str, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield `(first line, cells)` of each record that is not a blank line."""
    csv.field_size_limit(2**31 - 1)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if _quotes_are_text(text, delimiter) else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _broken_quotes(name, line, reader.line_num, str(error)) from error
        if cells and not (len(cells) == 1 and not cells[0].strip()):
            yield line, cells


def _quotes_are_text(text: str, delimiter: str) -> bool:
    """Return whether a tab-separated text writes quotes as they are, as most of its writers do."""
    if delimiter != "\t" or '"' not in text:
        return False
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if len({line.count("\t") for line in lines}) > 1:
        return False
    cells = (cell for line in lines for cell in line.split("\t") if cell.startswith('"'))
    return not all(re.fullmatch(r'"(?:[^"]|"")*"', cell) for cell in cells)


def _broken_quotes(name: str, line: int, until: int, cause: str) -> ProblemError:
    if "unexpected end" in cause:
        return data_problem(
            "unclosed_quote",
            f"{name}:{line}:1: a quote opened in this row is never closed.",
            'Close it, and write a quote inside a cell twice ("").',
        )
    return data_problem(
        "broken_quotes",
        f"{name}:{line}:1: the quotes of this row, which ends on line {until}, do not match ({cause}).",
        'Put quotes around the whole cell, and write a quote inside it twice ("").',
    )


def _check_header(header: list[str], name: str) -> None:
    empty = [index + 1 for index, column in enumerate(header) if not column]
    twice = [column for column, count in Counter(header).items() if count > 1 and column]
    if empty and not (empty == [1] and len(header) > 1):
        raise data_problem(
            "header", f"{name}:1: column {empty[0]} of the header has no name.", "Name every column in the first line."
        )
    if twice:
        raise data_problem(
            "header", f"{name}:1: the header names {twice[0]!r} twice.", "Give every column a name of its own."
        )


def find_delimiter(text: str, prefer: str = ",") -> str:
    """Return the delimiter that cuts the first records into the most columns of equal number."""
    head = text[:_SNIFFED_CHARS]
    order = sorted(DELIMITERS, key=lambda delimiter: delimiter != prefer)
    scores = {delimiter: _regular_columns(head, delimiter) for delimiter in order}
    best = max(order, key=lambda delimiter: scores[delimiter])
    return best if scores[best] > 1 else prefer


def _regular_columns(head: str, delimiter: str) -> int:
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    counts: Counter[int] = Counter()
    first = 0
    try:
        for cells in reader:
            if cells:
                first = first or len(cells)
                counts[len(cells)] += 1
    except csv.Error:
        return 0
    # A delimiter that cuts the header is taken even when some rows are ragged; those are named afterwards.
    return first if counts[first] >= 0.5 * counts.total() else 1


def read_parquet(path: Path, name: str) -> list[RawRow]:
    """Return the rows of a Parquet file; `file:n` is the row number.

    Raises:
        ProblemError: The file is damaged or has no rows.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        table = pq.ParquetFile(path)
        rows = [values for batch in table.iter_batches() for values in batch.to_pylist()]
    except (pa.ArrowException, OSError) as error:
        cause = re.sub(r"\s+", " ", str(error)).rstrip(".")
        raise data_problem(
            "parquet_damaged", f"{name} is not a whole Parquet file: {cause}.", "Copy or download it again."
        ) from error
    if not rows:
        raise data_problem("no_rows", f"{name} has columns and no rows.", "Name a file that holds rows.")
    return [RawRow(f"{name}:{number}", _plain(values)) for number, values in enumerate(rows, 1)]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    # Parquet writers fill absent optional keys of structs with nulls; a message `{"role", "content", "name": null}`
    # must read as if it came from JSON.
    return {
        key: [
            {inner: part for inner, part in item.items() if part is not None} if isinstance(item, dict) else item
            for item in value
        ]
        if isinstance(value, list)
        else value
        for key, value in values.items()
    }
