"""Plain text files: paragraphs packed into passages, so that a corpus has rows to split and to train on."""

from collections.abc import Iterable, Iterator
from typing import Literal

from engine.data.rows import RawRow
from engine.data.text_in import MAX_ROW_CHARS, advance, row_too_long

PASSAGE_CHARS = 1500
"""Aim of a passage, about 400 tokens: whole paragraphs, several passages to a packed sequence."""
TextUnit = Literal["passage", "paragraph", "file"]
_LINE_PIECE_CHARS = 1 << 16


def read_text(
    chunks: Iterable[str], name: str, *, unit: TextUnit = "passage", passage_chars: int = PASSAGE_CHARS
) -> Iterator[RawRow]:
    """Yield the rows of a plain text.

    Passages hold at most `passage_chars` characters, cut at blank lines where possible; joined in order with the
    blank lines between them, they hold every word of the file. A paragraph is what stands between blank lines.

    Args:
        chunks: The text, in pieces of any length.
        name: Name of the file for row ids.
        unit: What one row is.
        passage_chars: Longest passage in characters.

    Raises:
        ProblemError: A whole file or a paragraph that is a row of its own is longer than can be held.
    """
    if unit == "file":
        return _whole(chunks, name)
    if unit == "paragraph":
        return _paragraph_rows(chunks, name)
    return _passages(chunks, name, passage_chars)


def _whole(chunks: Iterable[str], name: str) -> Iterator[RawRow]:
    pieces, size = [], 0
    for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size > MAX_ROW_CHARS:
            raise row_too_long(name, 1)
    text = "".join(pieces).replace("\r\n", "\n")
    start, _ = advance(1, 1, text[: len(text) - len(text.lstrip())])
    if text.strip():
        yield RawRow(f"{name}:{start}", {"text": text.strip("\n")})


def _paragraph_rows(chunks: Iterable[str], name: str) -> Iterator[RawRow]:
    pieces: list[str] = []
    start, size = 0, 0
    for line, piece, begins in _pieces(chunks, MAX_ROW_CHARS):
        if begins and pieces:
            yield RawRow(f"{name}:{start}", {"text": "".join(pieces)})
            pieces, size = [], 0
        start = start if pieces else line
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ROW_CHARS:
            raise row_too_long(name, start)
    if pieces:
        yield RawRow(f"{name}:{start}", {"text": "".join(pieces)})


def _passages(chunks: Iterable[str], name: str, limit: int) -> Iterator[RawRow]:
    passage, start = "", 0
    for line, piece, glue in _glued(chunks, limit):
        if passage and len(passage) + len(glue) + len(piece) > limit:
            yield RawRow(f"{name}:{start}", {"text": passage})
            passage = ""
        if not passage:
            passage, start = piece, line
        else:
            passage += glue + piece
    if passage:
        yield RawRow(f"{name}:{start}", {"text": passage})


def _glued(chunks: Iterable[str], limit: int) -> Iterator[tuple[int, str, str]]:
    """Yield `(line, piece of at most limit characters, what stands between it and the piece before)`."""
    held, start, glue = "", 0, "\n\n"
    for line, piece, begins in _pieces(chunks, _LINE_PIECE_CHARS):
        if begins:
            if held:
                yield start, held, glue
            held, start, glue = "", line, "\n\n"
        held += piece
        # Where a long paragraph is cut depends on its next characters alone, not on where it ends.
        while len(held) > limit:
            cut, joint = _cut(held, limit)
            yield start, held[:cut], glue
            start += held.count("\n", 0, cut) + (joint == "\n")
            held, glue = held[cut + len(joint) :], joint
    if held:
        yield start, held, glue


def _cut(text: str, limit: int) -> tuple[int, str]:
    """Return where to cut and what is left out there: a line end, else a space, else nothing."""
    head = text[: limit + 1]
    at = next((found for mark in ("\n", " ") if (found := head.rfind(mark)) > limit // 2), -1)
    return (at, text[at]) if at >= 0 else (limit, "")


def _pieces(chunks: Iterable[str], max_chars: int) -> Iterator[tuple[int, str, bool]]:
    """Yield `(line, text, whether it begins a paragraph)`; the pieces of a paragraph joined are its lines."""
    inside = False
    for number, text, starts_line in _line_pieces(chunks, max_chars):
        if starts_line and not text.strip():
            inside = False
            continue
        joint = "\n" if inside and starts_line else ""
        yield number, joint + text, not inside
        inside = True


def _line_pieces(chunks: Iterable[str], max_chars: int) -> Iterator[tuple[int, str, bool]]:
    """Yield `(number, text, whether the line begins here)`; lines longer than `max_chars` come in pieces."""
    held, number, fresh = "", 1, True
    for chunk in chunks:
        first, *rest = chunk.split("\n")
        held += first
        for part in rest:
            yield number, held.removesuffix("\r"), fresh
            held, number, fresh = part, number + 1, True
        # A line of white space is no piece before its end is known; a carriage return may belong to the line end.
        while len(held) > max_chars + 1 and not held[:max_chars].isspace():
            yield number, held[:max_chars], fresh
            held, fresh = held[max_chars:], False
    if held:
        yield number, held, fresh
