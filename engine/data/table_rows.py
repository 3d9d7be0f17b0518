"""Strict, streaming reader of CSV and TSV. Text stays text: `NA`, `None` and `1.10` are what the cell says."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engine.data.json_rows import MAX_ERRORS
from engine.data.paths import data_problem
from engine.data.rows import RawRow
from engine.data.text_in import MAX_ROW_CHARS, TextStream, lines_of
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

DELIMITERS = (",", "\t", ";", "|")
_SNIFFED_CHARS = 1 << 16
_SENTENCE_WORDS = 4
"""Words from which on the name of a column reads like a cell of prose."""
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table is written, with the evidence.

    Attributes:
        delimiter: What stands between two cells.
        quotes_are_text: A quote is a character like any other.
        line_end: What ends a line: line feed, or the carriage return of old Macs.
        num_columns: Columns of the header.
        num_rows: Records looked at.
        num_regular: Those of them with as many cells as the header.
    """

    delimiter: str
    quotes_are_text: bool
    line_end: Literal["\n", "\r"]
    num_columns: int
    num_rows: int
    num_regular: int

    def evidence(self) -> str:
        """Return one sentence that says how the table is read and why."""
        quotes = ", quotes taken as text" if self.quotes_are_text else ""
        return (
            f"Cells are cut at each {_DELIMITER_NAMES[self.delimiter]}{quotes}: "
            f"{self.num_regular} of the first {self.num_rows} records have the {self.num_columns} cells of the header."
        )


def find_dialect(head: str, prefer: str = ",") -> Dialect:
    """Return how a table is written, from its first characters.

    Args:
        head: The first characters; all of a short file.
        prefer: Delimiter taken when several fit.
    """
    line_end: Literal["\n", "\r"] = "\r" if "\n" not in head and "\r" in head else "\n"
    sniffed = head[:_SNIFFED_CHARS]
    delimiter = find_delimiter(sniffed, prefer)
    columns, regular, records = _regular_columns(sniffed, delimiter)
    return Dialect(delimiter, _quotes_are_text(head, delimiter), line_end, columns, records, regular)


def read_csv(stream: TextStream, dialect: Dialect, problems: list[Problem]) -> Iterator[RawRow]:
    """Yield the rows of a CSV or TSV text; the first record names the columns.

    Args:
        stream: The text.
        dialect: How it is written.
        problems: Ragged rows are added as they are found, before the refusal at the end.

    Raises:
        ProblemError: Broken quotes, ragged rows, or a header without usable names.
    """
    name = stream.name
    records = _records(stream, dialect)
    header = [cell.strip() for cell in next(records, (0, []))[1]]
    if header:
        _check_header(header, name)
    looks = _HeaderLooks(header, stream)
    for line, cells in records:
        if len(cells) == len(header):
            looks.compare(line, cells)
            yield RawRow(f"{name}:{line}", dict(zip(header, cells, strict=True)))
            continue
        problems.append(_ragged(name, line, len(cells), len(header), dialect.delimiter))
        if len(problems) == MAX_ERRORS:
            break
    if problems:
        raise ProblemError(*problems)


class _HeaderLooks:
    """Tells a header that is a row of a file without one, and a header that comes again among the rows."""

    def __init__(self, header: list[str], stream: TextStream) -> None:
        self._header, self._stream = header, stream
        prose = [len(cell.split()) >= _SENTENCE_WORDS for cell in header]
        # The header of a survey asks a question in some columns; a row also has a short cell, such as a label, that
        # comes again.
        self._others = [number for number, long in enumerate(prose) if not long] if any(prose) else []
        if header and all(prose):
            self._doubt()

    def compare(self, line: int, cells: list[str]) -> None:
        """Look at one row, given with its first line."""
        if cells[0] == self._header[0] and [cell.strip() for cell in cells] == self._header:
            self._stream.remarks.add("header_again", f"{self._stream.name}:{line}")
        elif any(cells[number].strip() == self._header[number] for number in self._others if self._header[number]):
            self._others = []
            self._doubt()

    def _doubt(self) -> None:
        shown = clean_line(", ".join(map(repr, self._header)), max_chars=80)
        self._stream.remarks.add("header_is_row", f"{self._stream.name}:1", shown)


def _ragged(name: str, line: int, found: int, expected: int, delimiter: str) -> Problem:
    cells = "cell" if found == 1 else "cells"
    return Problem(
        "data.ragged_row",
        clean_line(f"{name}:{line}:1: the row has {found} {cells}, the header {expected}."),
        f"Correct the row; a {_DELIMITER_NAMES[delimiter]} or a line break inside a cell needs quotes around the cell.",
        path="data.source",
    )


def _records(stream: TextStream, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield `(first line, cells)` of each record that is not a blank line."""
    csv.field_size_limit(MAX_ROW_CHARS)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if dialect.quotes_are_text else csv.QUOTE_MINIMAL
    reader = csv.reader(_lines(stream, dialect), delimiter=dialect.delimiter, strict=True, quoting=quoting)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _broken_quotes(stream.name, line, reader.line_num, str(error)) from error
        if cells and not (len(cells) == 1 and not cells[0].strip()):
            yield line, cells


def _lines(stream: TextStream, dialect: Dialect) -> Iterator[str]:
    chunks = stream.chunks()
    if dialect.line_end == "\r":
        chunks = (chunk.replace("\r", "\n") for chunk in chunks)
    return (line + "\n" if ended else line for _, line, ended in lines_of(chunks, stream.name))


def _quotes_are_text(head: str, delimiter: str) -> bool:
    """Return whether a tab-separated text writes quotes as they are, as most of its writers do."""
    if delimiter != "\t" or '"' not in head:
        return False
    lines = [line.rstrip("\r") for line in head.split("\n")[:-1] or [head] if line.strip()]
    if len({line.count("\t") for line in lines}) > 1:
        return False
    cells = (cell for line in lines for cell in line.split("\t") if cell.startswith('"'))
    return not all(re.fullmatch(r'"(?:[^"]|"")*"', cell) for cell in cells)


def _broken_quotes(name: str, line: int, until: int, cause: str) -> ProblemError:
    if "unexpected end" in cause or "field larger" in cause:
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
    scores = {delimiter: _score(*_regular_columns(head, delimiter)) for delimiter in order}
    best = max(order, key=lambda delimiter: scores[delimiter])
    return best if scores[best] > 1 else prefer


def _score(columns: int, regular: int, records: int) -> int:
    # A delimiter that cuts the header is taken even when some rows are ragged; those are named afterwards.
    return columns if regular >= 0.5 * records else 1


def _regular_columns(head: str, delimiter: str) -> tuple[int, int, int]:
    """Return columns of the header, records with as many, and all records; zeros where quotes do not match."""
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    try:
        lengths = [len(cells) for cells in reader if cells]
    except csv.Error:
        return 0, 0, 0
    if len(head) == _SNIFFED_CHARS and len(lengths) > 1:
        # The last record is cut where the looking ends.
        lengths.pop()
    return (lengths[0], lengths.count(lengths[0]), len(lengths)) if lengths else (0, 0, 0)
