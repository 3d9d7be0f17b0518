"""Marks that tell trained, context, special and padding tokens apart where there is no colour: one place for glyphs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.text import clean
from tui.backend import XrayToken

OPEN_TRAINED, CLOSE_TRAINED = "«", "»"
OPEN_SPECIAL, CLOSE_SPECIAL = "⟦", "⟧"
LINE_FEED = "⏎"
UNTRAINED_LEGEND = f"context  {OPEN_SPECIAL}special token{CLOSE_SPECIAL}  {LINE_FEED} line feed"
LEGEND = f"{OPEN_TRAINED}trained{CLOSE_TRAINED}  {UNTRAINED_LEGEND}"

Part = Literal["trained", "context", "special", "trained special", "mark"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of neighbouring tokens of one kind, or a mark between them."""

    text: str
    part: Part


def marked_pieces(tokens: Sequence[XrayToken]) -> Iterator[Piece]:
    """Yield the tokens of one segment with their marks; padding is left out.

    Line feeds are shown and kept, so that text stands as the model reads it. Every text is cleaned of what acts on a
    terminal.
    """
    open_run = False
    for token in tokens:
        if token.padding:
            continue
        if token.trained != open_run:
            yield Piece(OPEN_TRAINED if token.trained else CLOSE_TRAINED, "mark")
            open_run = token.trained
        text = clean(token.text)
        if token.special:
            named = f"{OPEN_SPECIAL}{text}{CLOSE_SPECIAL}"
            yield Piece(named, "trained special" if token.trained else "special")
        else:
            yield Piece(text.replace("\n", f"{LINE_FEED}\n"), "trained" if token.trained else "context")
    if open_run:
        yield Piece(CLOSE_TRAINED, "mark")
