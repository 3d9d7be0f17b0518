"""A window that slides over a long JSON text: one value at a time, with line and column of what is wrong."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from engine.data.text_in import MAX_ROW_CHARS, advance, row_too_long

_BLANK = " \t\r\n"
_CUT_CHARS = 16
"""An error this close to the end of the window may be a token cut in two; the longest is `-Infinity`."""


class DuplicateKeyError(ValueError):
    """A JSON object names one key twice, and a reader would silently keep the last."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKeyError(f"the key {key!r} appears twice in one object")
            seen.add(key)
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_refuse_constant)


def parse_line(line: str) -> Any:
    """Return the value that a line spells.

    Raises:
        ValueError: It is no JSON, or breaks a rule of ours.
        RecursionError: It is nested too deeply.
    """
    try:
        value, end = DECODER.raw_decode(line)
    except json.JSONDecodeError:
        end = -1
    # White space around the value, and what is wrong with it, is for the decoder, which takes twice as long.
    return value if end == len(line) else DECODER.decode(line)


def refuse_surrogates(raw: str, value: Any) -> None:
    r"""Refuse half of a character pair, which JSON can spell (`\ud83d`) and no text can hold.

    Args:
        raw: The JSON text.
        value: What it says.

    Raises:
        ValueError: There is one.
    """
    if "\\u" not in raw or ("\\ud" not in raw and "\\uD" not in raw):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a character pair (a lone surrogate) stands alone") from error


class JsonWindow:
    """Reads values of a JSON text that may be larger than memory.

    Attributes:
        text: What is held of it.
        at: Position in `text` of the next character.
    """

    def __init__(self, chunks: Iterator[str], name: str) -> None:
        self.text = ""
        self.at = 0
        self._chunks = chunks
        self._name = name
        self._marked = 0
        self._line, self._column = 1, 1

    def place(self, at: int) -> tuple[int, int]:
        """Return the line and column of a position in `text` at or behind the last mark."""
        return advance(self._line, self._column, self.text[self._marked : at])

    def mark(self) -> tuple[int, int]:
        """Return the line and column of the next character; what lies before it is counted once only."""
        self._line, self._column = self.place(self.at)
        self._marked = self.at
        return self._line, self._column

    def peek(self) -> str:
        """Skip white space and return the next character without taking it; empty at the end of the text."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _BLANK:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """Take the next value.

        Raises:
            ValueError: It is no JSON, or breaks a rule of ours; `JSONDecodeError.pos` is a position in `text`.
            RecursionError: It is nested too deeply.
            ProblemError: It is longer than `MAX_ROW_CHARS`.
        """
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if self._may_be_cut(error) and self._more():
                    continue
                raise
            # A number at the edge of the window may go on behind it.
            if end == len(self.text) and isinstance(value, int | float) and self._more():
                continue
            refuse_surrogates(self.text[self.at : end], value)
            self.at = end
            return value

    def rest(self) -> Iterator[str]:
        """Yield all that was not taken."""
        yield self.text[self.at :]
        yield from self._chunks

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return "Unterminated" in error.msg or error.pos >= len(self.text) - _CUT_CHARS

    def _forget(self) -> None:
        self.mark()
        self.text = self.text[self.at :]
        self.at = self._marked = 0

    def _more(self) -> bool:
        """Take in as much again as is held, so that a long row is not tried again at every chunk."""
        self._forget()
        held = len(self.text)
        if held > MAX_ROW_CHARS:
            raise row_too_long(self._name, self._line)
        pieces, gained = [self.text], 0
        for chunk in self._chunks:
            pieces.append(chunk)
            gained += len(chunk)
            if gained >= held:
                break
        self.text = "".join(pieces)
        return gained > 0
