"""Strict readers of JSON Lines and of one JSON array; each row keeps the line it starts on."""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from engine.data.bytes_in import data_problem, place
from engine.data.rows import RawRow
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

MAX_ERRORS = 5
"""Broken rows that one message names; the first ones show the pattern."""
_BLANK = re.compile(r"[ \t\r\n]*")
_KINDS = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


class _DuplicateKeyError(ValueError):
    """A JSON object names one key twice, and a reader would silently keep the last."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(f"the key {key!r} appears twice in one object")
            seen.add(key)
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_refuse_constant)


def _row_problem(name: str, line: int, column: int, cause: str, fix: str) -> Problem:
    return Problem(
        "data.broken_row", clean_line(f"{name}:{line}:{column}: {cause}."), clean_line(fix), path="data.source"
    )


def read_json_lines(text: str, name: str) -> list[RawRow]:
    """Return the rows of a JSON Lines text.

    Raises:
        ProblemError: With up to five broken rows, each with line, column and cause.
    """
    rows: list[RawRow] = []
    problems: list[Problem] = []
    lines = text.split("\n")
    last = max(index for index, line in enumerate(lines) if line.strip())
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            rows.append(RawRow(f"{name}:{index + 1}", _object(line)))
        except (ValueError, RecursionError) as error:
            torn = index == last and index == len(lines) - 1
            problems.append(_broken(error, line, name, index + 1, torn=torn))
            if len(problems) == MAX_ERRORS:
                break
    if problems:
        raise ProblemError(*problems)
    return rows


def _object(line: str) -> dict[str, Any]:
    value = _DECODER.decode(line)
    if not isinstance(value, dict):
        raise TypeErrorRow(value)
    _refuse_surrogates(line)
    return value


class TypeErrorRow(ValueError):
    """A row is valid JSON but no object."""

    def __init__(self, value: object) -> None:
        super().__init__(f"the row is {_KINDS.get(type(value), 'no object')}, not an object with named columns")


def _refuse_surrogates(raw: str) -> None:
    if "\\ud" not in raw and "\\uD" not in raw:
        return
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"', raw):
        value = json.loads(match[0])
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("half of a character pair (a lone surrogate) stands alone")


def _broken(error: Exception, line: str, name: str, number: int, *, torn: bool) -> Problem:
    column = error.colno if isinstance(error, json.JSONDecodeError) else 1
    if torn and isinstance(error, json.JSONDecodeError):
        cause = "the file ends in the middle of a row, so it was cut off"
        return _row_problem(name, number, column, cause, "Copy or download it again, or delete this line.")
    if line.strip() in ("{", "["):
        cause = "a row does not end on its own line"
        return _row_problem(name, number, column, cause, "Write one object per line, or save all rows as a JSON list.")
    return _row_problem(name, number, column, _cause(error), "Correct or delete this line.")


def _cause(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the row is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON ({error.msg[:1].lower()}{error.msg[1:]})"
    return str(error).split("; use sys", 1)[0]


def read_json(text: str, name: str) -> list[RawRow]:
    """Return the rows of a `.json` text: a list of objects, or JSON Lines under the wrong name.

    Raises:
        ProblemError: Broken, or an object that wraps the rows.
    """
    start = _skip_blank(text, 0)
    if text[start] == "[":
        return list(_array(text, name, start))
    if text[start] != "{":
        line, column = place(text, start)
        raise data_problem(
            "not_json",
            f"{name}:{line}:{column}: a JSON file starts with [ or {{, this one with {text[start]!r}.",
            "Save the rows as JSONL, one object per line.",
        )
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return read_json_lines(text, name)
    if _skip_blank(text, end) < len(text):
        return read_json_lines(text, name)
    return [RawRow(f"{name}:{place(text, start)[0]}", value)]


def refuse_wrapper(value: dict[str, Any], name: str) -> None:
    """Refuse a file whose only object holds the rows in one of its keys.

    Raises:
        ProblemError: Naming the key.
    """
    for key, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner):
            if {"from", "value"} <= set(inner[0]) or {"role", "content"} <= set(inner[0]):
                continue
            raise data_problem(
                "wrapper",
                f'{name} is one object whose "{key}" holds {len(inner)} rows, not a list of rows.',
                f"Save that list alone, for example with: jq '.[\"{key}\"]' {name}",
            )


def _skip_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _array(text: str, name: str, start: int) -> Iterator[RawRow]:
    at = _skip_blank(text, start + 1)
    line, counted = place(text, at)[0], at
    while at < len(text) and text[at] != "]":
        line += text.count("\n", counted, at)
        counted = at
        try:
            value, end = _DECODER.raw_decode(text, at)
            if not isinstance(value, dict):
                raise TypeErrorRow(value)
            _refuse_surrogates(text[at:end])
        except (ValueError, RecursionError) as error:
            raise _broken_item(error, text, at, name) from error
        yield RawRow(f"{name}:{line}", value)
        at = _skip_blank(text, end)
        if at < len(text) and text[at] == ",":
            at = _skip_blank(text, at + 1)
            if at < len(text) and text[at] == "]":
                raise _at(text, at, name, "a comma is followed by no row", "Delete the last comma.")
        elif at < len(text) and text[at] != "]":
            raise _at(text, at, name, "a comma is missing between two rows", "Put a comma there.")
    if at >= len(text):
        cause = "the list is not closed, so the file was cut off"
        raise _at(text, len(text) - 1, name, cause, "Copy or download it again.")
    if _skip_blank(text, at + 1) < len(text):
        raise _at(text, _skip_blank(text, at + 1), name, "more text follows the list", "Delete what follows it.")


def _at(text: str, at: int, name: str, cause: str, fix: str) -> ProblemError:
    line, column = place(text, at)
    return ProblemError(_row_problem(name, line, column, cause, fix))


def _broken_item(error: Exception, text: str, at: int, name: str) -> ProblemError:
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(text.rstrip()) or "Unterminated" in error.msg:
            cause = "the file ends in the middle of a row, so it was cut off"
            return _at(text, min(error.pos, len(text) - 1), name, cause, "Copy or download it again.")
        at = error.pos
    return _at(text, at, name, _cause(error), "Correct or delete this row.")
