"""Which words two answers do not share, marked by a sign as well as by a style."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

from textual.content import Content

Part = tuple[Literal["same", "removed", "added"], str]
_WORDS = re.compile(r"\S+|\s+")
_MOST_WORDS = 2000
"""Compared of each answer: the time grows with their product."""
_MARKS = {"removed": ("[-", "-]", "$error"), "added": ("{+", "+}", "bold $success")}


def diff_parts(before: str, after: str) -> tuple[list[Part], list[Part]]:
    """Return both texts in parts: what they share, what only the first has, what only the second has."""
    left, right = _words(before), _words(after)
    left, left_rest = left[:_MOST_WORDS], left[_MOST_WORDS:]
    right, right_rest = right[:_MOST_WORDS], right[_MOST_WORDS:]
    removed: list[Part] = []
    added: list[Part] = []
    for kind, left_start, left_end, right_start, right_end in _opcodes(left, right):
        _take(removed, "same" if kind == "equal" else "removed", left[left_start:left_end])
        _take(added, "same" if kind == "equal" else "added", right[right_start:right_end])
    _take(removed, "same", left_rest)
    _take(added, "same", right_rest)
    return removed, added


def _opcodes(left: Sequence[str], right: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """Return what `SequenceMatcher` says of two lists of words, in bounded time.

    A model that repeats itself makes it cubic: 156 s for 2,000 words of two kinds, measured. So what both begin with is
    taken first, and its own rule against popular words (from 200 words on) stays on.
    """
    ours, theirs = [word.strip() for word in left], [word.strip() for word in right]
    shared = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    start = min(len(ours), len(theirs)) if shared is None else shared
    found = SequenceMatcher(None, ours[start:], theirs[start:]).get_opcodes()
    moved = [(kind, a + start, b + start, c + start, d + start) for kind, a, b, c, d in found]
    return [("equal", 0, start, 0, start), *moved] if start else [*moved]


def diffed(parts: Sequence[Part]) -> Content:
    """Return parts as they are shown: `[-removed-]` and `{+added+}`, the rest as it is."""
    shown: list[tuple[str, str]] = []
    for kind, text in parts:
        if kind == "same":
            shown.append((text, ""))
            continue
        opening, closing, style = _MARKS[kind]
        # The signs embrace the words alone, so that a line feed between two words stays where it is.
        words = text.strip()
        before, _, after = text.partition(words or text)
        marked = (f"{opening}{words}{closing}", style)
        shown += [(before, ""), marked, (after, "")] if words else [(text, "")]
    return Content.assemble(*shown)


def _words(text: str) -> list[str]:
    """Return words, each with the white space behind it."""
    words: list[str] = []
    for piece in _WORDS.findall(text):
        if words and piece.isspace():
            words[-1] += piece
        else:
            words.append(piece)
    return words


def _take(parts: list[Part], kind: Literal["same", "removed", "added"], words: Sequence[str]) -> None:
    if words:
        parts.append((kind, "".join(words)))
