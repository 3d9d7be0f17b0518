"""A sequence of tokens wrapped to lines of a terminal, every cell of them in its column."""

import unicodedata
from collections.abc import Iterator
from itertools import groupby
from typing import Literal

from rich.cells import cell_len

from engine.text import clean_line
from tui.backend import XraySequence, XrayToken
from tui.widgets.token_marks import Part, marked_pieces

LinePart = Part | Literal["note", "lost"]
Line = list[tuple[str, LinePart]]


def token_lines(sequence: XraySequence, width: int, *, marked: bool) -> list[Line]:
    """Return a sequence as lines of at most `width` cells.

    Args:
        sequence: What the trainer draws.
        width: Cells of a line.
        marked: Whether marks tell the kinds of tokens apart, for terminals that have no colours to do so.
    """
    wrapped = _Wrapped(max(4, width))
    packed = len(sequence.row_ids) > 1
    real = (token for token in sequence.tokens if not token.padding)
    for segment, tokens in groupby(real, key=lambda token: token.segment):
        if packed:
            wrapped.own_line(_rule(sequence, segment, wrapped.width), "note")
        _add(wrapped, list(tokens), marked=marked)
    for text, part in _ends(sequence):
        wrapped.own_line(text, part)
    return wrapped.finished()


def _add(wrapped: "_Wrapped", tokens: list[XrayToken], *, marked: bool) -> None:
    for piece in marked_pieces(tokens):
        if marked:
            wrapped.add(piece.text, piece.part)
        elif piece.part != "mark":
            wrapped.add(piece.text[1:-1] if piece.part.endswith("special") else piece.text, piece.part)


def _rule(sequence: XraySequence, segment: int, width: int) -> str:
    row_id = sequence.row_ids[segment] if segment < len(sequence.row_ids) else f"row {segment + 1}"
    name = clean_line(row_id, max_chars=max(1, width - 6))
    return f"── {name} " + "─" * max(0, width - 4 - cell_len(name))


def _ends(sequence: XraySequence) -> Iterator[tuple[str, LinePart]]:
    """Yield what is left out after the tokens that are shown."""
    num_shown = sum(not token.padding for token in sequence.tokens)
    if sequence.num_tokens > num_shown:
        yield f"+ {sequence.num_tokens - num_shown:,} more tokens", "note"
    if sequence.num_lost:
        lost = "1 token is" if sequence.num_lost == 1 else f"{sequence.num_lost:,} tokens are"
        yield f"✗ cut here: {lost} lost", "lost"
    if sequence.num_padding:
        yield f"+ {sequence.num_padding:,} padding", "note"


class _Wrapped:
    """Lines under way. A token that fits on a line of its own is not broken; a character with its marks never is."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._lines: list[Line] = []
        self._line: Line = []
        self._used = 0

    def add(self, text: str, part: LinePart) -> None:
        for number, paragraph in enumerate(text.split("\n")):
            if number:
                self._end()
            if paragraph:
                self._place(paragraph, part)

    def own_line(self, text: str, part: LinePart) -> None:
        if self._line:
            self._end()
        self._place(text, part)
        self._end()

    def finished(self) -> list[Line]:
        if self._line:
            self._end()
        return self._lines

    def _place(self, text: str, part: LinePart) -> None:
        cells = cell_len(text)
        if self._used and self._used + cells > self.width and cells <= self.width // 3:
            self._end()
        if self._used + cells <= self.width:
            self._put(text, part, cells)
            return
        for character in _characters(text):
            cells = cell_len(character)
            if self._used + cells > self.width:
                self._end()
            self._put(character, part, cells)

    def _put(self, text: str, part: LinePart, cells: int) -> None:
        if self._line and self._line[-1][1] == part:
            self._line[-1] = (self._line[-1][0] + text, part)
        else:
            self._line.append((text, part))
        self._used += cells

    def _end(self) -> None:
        self._lines.append(self._line)
        self._line, self._used = [], 0


def _characters(text: str) -> Iterator[str]:
    """Yield characters, each with the marks that combine with it."""
    whole = ""
    for character in text:
        if whole and not unicodedata.category(character).startswith("M"):
            yield whole
            whole = ""
        whole += character
    if whole:
        yield whole
