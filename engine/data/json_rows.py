"""Strict readers of JSON Lines, of one JSON array, and of an array inside an object; each row keeps its first line."""

import json
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Literal

from engine.data.json_window import JsonWindow, parse_line, refuse_surrogates
from engine.data.paths import data_problem
from engine.data.rows import RawRow
from engine.data.text_in import TextStream, lines_of
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.spelt_settings import spelt
from engine.text import clean_line

MAX_ERRORS = 5
"""Broken rows that one message names; the first ones show the pattern."""
_KINDS = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
_CUT_OFF = "the file ends in the middle of a row, so it was cut off"


class TypeErrorRow(ValueError):
    """A row is valid JSON but no object."""

    def __init__(self, value: object) -> None:
        super().__init__(f"the row is {_KINDS.get(type(value), 'no object')}, not an object with named columns")


def read_json(
    stream: TextStream, kind: Literal["json", "jsonl"], problems: list[Problem], unwrap: str | None = None
) -> Iterator[RawRow]:
    """Yield the rows of a JSON text: lines of objects, a list of objects, or a list inside an object.

    Args:
        stream: The text.
        kind: What the name of the file promises; both kinds are read under both names.
        problems: Broken lines are added as they are found, before the refusal at the end.
        unwrap: Key of the list inside the object (`data.unwrap`), for a file that is one object.

    Raises:
        ProblemError: Broken, with up to five rows, each with line, column and cause; or an object around the rows.
    """
    first = stream.head.lstrip()[:1]
    window = JsonWindow(stream.chunks(), stream.name)
    if unwrap is not None and may_be_wrapper(stream.head):
        yield from _unwrapped(window, stream, unwrap)
    elif first == "[":
        yield from _array(window, stream.name)
    elif first == "{" and _goes_on_below(stream.head):
        yield from _one_object(window, stream, kind)
    elif first == "{" or kind == "jsonl":
        yield from _lines_or_wrapper(window, stream, problems)
    else:
        raise _no_json(window, stream.name)


def _no_json(window: JsonWindow, name: str) -> ProblemError:
    found = window.peek()
    if not found:
        return data_problem("blank", f"{name} holds only blank lines.", "Name a file that holds rows.")
    line, column = window.place(window.at)
    return data_problem(
        "not_json",
        f"{name}:{line}:{column}: a JSON file starts with [ or {{, this one with {found!r}.",
        "Save the rows as JSONL, one object per line.",
    )


def may_be_wrapper(head: str) -> bool:
    """Return whether a text is one object, as far as its first characters show."""
    text = head.lstrip()
    first, _, rest = text.partition("\n")
    return text.startswith("{") and not (rest.strip() and _is_object(first))


def _goes_on_below(head: str) -> bool:
    """Return whether an object begins on the first line and does not end there."""
    first, ended, _ = head.lstrip().partition("\n")
    return bool(ended) and not _is_object(first) and (first.strip() == "{" or _wrapper_in(head) is not None)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _lines_or_wrapper(window: JsonWindow, stream: TextStream, problems: list[Problem]) -> Iterator[RawRow]:
    try:
        yield from _lines(window.rest(), stream.name, problems)
    except ProblemError as error:
        key = _wrapper_in(stream.head) if error.problems[0].code == "data.row_too_long" else None
        if key is None:
            raise
        raise _wrapper(stream.name, key, None) from error


def _lines(chunks: Iterator[str], name: str, problems: list[Problem]) -> Iterator[RawRow]:
    only: dict[str, Any] | None = None
    num_rows = 0
    for number, line, ended in lines_of(chunks, name):
        if not line or line.isspace():
            continue
        try:
            values = _object(line)
        except (ValueError, RecursionError) as error:
            problems.append(_broken(error, line, name, number, torn=not ended))
            if len(problems) == MAX_ERRORS:
                raise ProblemError(*problems) from error
            continue
        num_rows += 1
        # The first row waits for the second: a file of one object may be a wrapper around the rows.
        if num_rows == 1:
            only, only_line = values, number
            continue
        if only is not None:
            yield RawRow(f"{name}:{only_line}", only)
            only = None
        yield RawRow(f"{name}:{number}", values)
    if problems:
        raise ProblemError(*problems)
    if only is not None:
        refuse_wrapper(only, name)
        yield RawRow(f"{name}:{only_line}", only)


def _object(line: str) -> dict[str, Any]:
    value = parse_line(line)
    if not isinstance(value, dict):
        raise TypeErrorRow(value)
    refuse_surrogates(line, value)
    return value


def _row_problem(name: str, line: int, column: int, cause: str, fix: str) -> Problem:
    return Problem(
        "data.broken_row", clean_line(f"{name}:{line}:{column}: {cause}."), clean_line(fix), path="data.source"
    )


def _broken(error: Exception, line: str, name: str, number: int, *, torn: bool) -> Problem:
    column = error.colno if isinstance(error, json.JSONDecodeError) else 1
    if torn and isinstance(error, json.JSONDecodeError):
        return _row_problem(name, number, column, _CUT_OFF, "Copy or download it again, or delete this line.")
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


def _one_object(window: JsonWindow, stream: TextStream, kind: str) -> Iterator[RawRow]:
    """Read an object that spans lines: the only row of a `.json` file, or a wrapper around the rows."""
    name = stream.name
    if (key := _wrapper_in(stream.head)) is not None:
        raise _wrapper(name, key, None)
    window.peek()
    line, column = window.mark()
    try:
        values = window.value()
    except (ValueError, RecursionError) as error:
        if kind == "json":
            raise _broken_item(error, window, name) from error
        values = None
    if values is None or window.peek() or kind == "jsonl":
        cause = "a row does not end on its own line"
        fix = "Write one object per line, or save all rows as a JSON list."
        raise ProblemError(_row_problem(name, line, column, cause, fix))
    refuse_wrapper(values, name)
    yield RawRow(f"{name}:{line}", values)


def refuse_wrapper(value: dict[str, Any], name: str) -> None:
    """Refuse a file whose only object holds the rows in one of its keys.

    Raises:
        ProblemError: Naming the key.
    """
    for key, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner) and _row_like(inner[0]):
            raise _wrapper(name, key, len(inner))
    if (num_cells := _cells_of_columns(value)) is not None:
        raise data_problem(
            "columns",
            f"{name} is one object that holds each column as a list of {num_cells} cells, not a list of rows.",
            "Write one object for each row; in pandas: to_json(FILE, orient='records', lines=True).",
        )


def _cells_of_columns(value: dict[str, Any]) -> int | None:
    """Return how many cells each column has where an object holds a table by columns; None where it does not."""
    columns = [list(cells.values()) if _numbered(cells) else cells for cells in value.values()]
    if len(columns) < 2 or not all(isinstance(cells, list) and len(cells) > 1 for cells in columns):
        return None
    lengths = {len(cells) for cells in columns}
    plain = all(not isinstance(cell, (list, dict)) for cells in columns for cell in cells)
    return lengths.pop() if plain and len(lengths) == 1 else None


def _numbered(cells: object) -> bool:
    """Return whether an object is a column as pandas writes one: `{"0": ..., "1": ...}`."""
    return isinstance(cells, dict) and list(cells) == [str(number) for number in range(len(cells))]


def _row_like(item: dict[str, Any]) -> bool:
    """Return whether an item of a list may be a row; a turn of a conversation, a tool or a call is none."""
    return not ({"from", "value"} <= set(item) or {"role", "content"} <= set(item))


def _wrapper(name: str, key: str, num_rows: int | None) -> ProblemError:
    holds = "the rows" if num_rows is None else f"{num_rows} rows"
    return data_problem(
        "wrapper",
        f'{name} is one object whose "{key}" holds {holds}, not a list of rows.',
        f"Set data.unwrap: {spelt(key)} to read the rows inside.",
    )


def _wrapper_in(head: str) -> str | None:
    """Return the key of the first list of rows in an object that may go on behind the head."""
    window = JsonWindow(iter((head,)), "")
    try:
        for key in _keys(window):
            if window.peek() != "[":
                window.value()
                continue
            window.at += 1
            if window.peek() != "{":
                return None
            item = window.value()
            # A list that the head shows to its end is judged once the whole object is read.
            return key if _row_like(item) else None
    except (ValueError, RecursionError, ProblemError):
        return None
    return None


def _keys(window: JsonWindow) -> Iterator[str]:
    """Yield the keys of the object that begins here; the caller takes each value.

    Raises:
        ValueError: It is no object; `JSONDecodeError.pos` is the place.
    """
    _take(window, "{")
    while window.peek() != "}":
        key = window.value()
        if not isinstance(key, str):
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", window.text, window.at)
        _take(window, ":")
        yield key
        if window.peek() == "}":
            break
        _take(window, ",")
        if window.peek() == "}":
            raise json.JSONDecodeError("Expecting property name after the comma", window.text, window.at)
    window.at += 1


def _take(window: JsonWindow, character: str) -> None:
    if window.peek() != character:
        raise json.JSONDecodeError(f"Expecting '{character}'", window.text, window.at)
    window.at += 1


def _unwrapped(window: JsonWindow, stream: TextStream, unwrap: str) -> Iterator[RawRow]:
    name, seen = stream.name, []
    found = False
    try:
        for key in _keys(window):
            seen.append(key)
            if key != unwrap:
                window.value()
                continue
            if found or window.peek() != "[":
                cause = "stands there twice" if found else "holds no list"
                raise _not_wrapped(name, unwrap, f"has a key of this name that {cause}", "Correct data.unwrap.")
            found = True
            yield from _items(window, name)
    except (ValueError, RecursionError) as error:
        raise _broken_item(error, window, name) from error
    if not found:
        near = get_close_matches(unwrap, seen, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Name one of these keys."
        listed = ", ".join(map(repr, seen[:10])) or "none"
        raise _not_wrapped(name, unwrap, f"is an object with the keys {listed}", hint)
    _refuse_more(window, name, "the object")


def _not_wrapped(name: str, unwrap: str, what: str, fix: str) -> ProblemError:
    message = clean_line(f"data.unwrap is {unwrap!r}, but {name} {what}.", max_chars=600)
    return ProblemError(Problem("data.unwrap", message, clean_line(fix), path="data.unwrap"))


def _array(window: JsonWindow, name: str) -> Iterator[RawRow]:
    window.peek()
    yield from _items(window, name)
    _refuse_more(window, name, "the list")


def _refuse_more(window: JsonWindow, name: str, what: str) -> None:
    if window.peek():
        raise _at(window, name, window.at, f"more text follows {what}", "Delete what follows it.")


def _items(window: JsonWindow, name: str) -> Iterator[RawRow]:
    """Yield the rows of the list that begins here, and take the bracket behind them."""
    window.at += 1
    while (found := window.peek()) != "]":
        if not found:
            cause = "the list is not closed, so the file was cut off"
            raise _at(window, name, max(0, len(window.text) - 1), cause, "Copy or download it again.")
        line, column = window.mark()
        try:
            value = window.value()
        except (ValueError, RecursionError) as error:
            raise _broken_item(error, window, name) from error
        if not isinstance(value, dict):
            cause = str(TypeErrorRow(value))
            raise ProblemError(_row_problem(name, line, column, cause, "Correct or delete this row."))
        yield RawRow(f"{name}:{line}", value)
        found = window.peek()
        if found == ",":
            window.at += 1
            if window.peek() == "]":
                raise _at(window, name, window.at, "a comma is followed by no row", "Delete the last comma.")
        elif found not in ("]", ""):
            raise _at(window, name, window.at, "a comma is missing between two rows", "Put a comma there.")
    window.at += 1


def _at(window: JsonWindow, name: str, at: int, cause: str, fix: str) -> ProblemError:
    line, column = window.place(at)
    return ProblemError(_row_problem(name, line, column, cause, fix))


def _broken_item(error: Exception, window: JsonWindow, name: str) -> ProblemError:
    if not isinstance(error, json.JSONDecodeError):
        return _at(window, name, window.at, _cause(error), "Correct or delete this row.")
    if error.pos >= len(window.text.rstrip()) or "Unterminated" in error.msg:
        last = max(0, min(error.pos, len(window.text) - 1))
        return _at(window, name, last, _CUT_OFF, "Copy or download it again.")
    return _at(window, name, error.pos, _cause(error), "Correct or delete this row.")
