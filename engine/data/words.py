"""Texts as words: what stands between white space, without the punctuation around it.

Scripts that do not part their words (Chinese, Japanese, Thai and their neighbours) give a word for each character, so
that tags can begin and end anywhere in them. What holds signs inside, an address or a key, stays one word: checks that
look for secrets must see it whole.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

_UNPARTED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_PIECE = re.compile(rf"[{_UNPARTED}]|[^\s{_UNPARTED}]+")
_EDGES = re.compile(r"^([^\w\s]*)(.*?)([^\w\s]*)$", re.DOTALL)


def word_spans(text: str, borders: Iterable[int] = ()) -> list[tuple[int, int]]:
    """Return where each word of a text begins and ends, in characters.

    Args:
        text: Any text.
        borders: Places at which a word ends whatever stands there, such as the ends of entities.
    """
    cuts = sorted({0, len(text), *borders})
    spans: list[tuple[int, int]] = []
    for start, end in pairwise(cuts):
        for piece in _PIECE.finditer(text, start, end):
            spans += _without_edges(piece.group(), piece.start())
    return spans


def _without_edges(piece: str, start: int) -> list[tuple[int, int]]:
    """Return a piece with each sign in front of it and behind it as a word of its own."""
    found = _EDGES.match(piece)
    before, after = (len(found.group(1)), len(found.group(3))) if found else (0, 0)
    signs = [(start + at, start + at + 1) for at in range(before)]
    if before == len(piece):
        return signs
    end = start + len(piece)
    return [*signs, (start + before, end - after), *[(end - after + at, end - after + at + 1) for at in range(after)]]
