"""Vertical bars of counts with letters under them that mark places. Pure text, no colour needed to read it."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

_EIGHTHS = " ▁▂▃▄▅▆▇█"
MOST_SLOT = 7
"""Widest bar with its gap, in columns: a few bars must not fill a wide screen."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, which is the upper end of its range, and its count."""

    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A letter under a bar.

    Attributes:
        bar: Number of the bar, from 0.
        letter: One character; of several under one bar those that come first stand first.
        style: Colour of the letter.
    """

    bar: int
    letter: str
    style: str = "bold"


def histogram(bars: Sequence[Bar], marks: Sequence[Mark], *, width: int, height: int, cursor: int = -1) -> Content:
    """Return bars, labels and marks as `height + 2` lines.

    Args:
        bars: At most `width // 2` of them; a bar with a count above 0 is never empty.
        marks: Letters for the last line.
        width: Columns.
        height: Rows of the bars.
        cursor: The bar that is drawn as chosen.
    """
    slot = max(2, min(MOST_SLOT, width // max(1, len(bars))))
    most = max((bar.count for bar in bars), default=0)
    levels = [_level(bar.count, most, height) for bar in bars]
    lines = [_row(levels, row, slot, cursor) for row in reversed(range(height))]
    lines += [_labels(bars, slot, width, cursor), _marks(marks, len(bars), slot)]
    return Content("\n").join(lines)


def _level(count: int, most: int, height: int) -> int:
    """Return the height of a bar in eighths of a row."""
    if not count:
        return 0
    return max(1, round(8 * height * count / most))


def _row(levels: Sequence[int], row: int, slot: int, cursor: int) -> Content:
    parts = []
    for number, level in enumerate(levels):
        eighths = min(8, max(0, level - 8 * row))
        style = "$primary" if number == cursor else "$accent"
        parts.append((_EIGHTHS[eighths] * (slot - 1) + " ", style))
    return Content.assemble(*parts)


def _labels(bars: Sequence[Bar], slot: int, width: int, cursor: int) -> Content:
    """Return the labels that have room, the one of the cursor before all others."""
    row = [" "] * max(width, slot * len(bars))
    order = ([cursor] if 0 <= cursor < len(bars) else []) + list(reversed(range(len(bars))))
    for number in order:
        label = bars[number].label
        end = slot * (number + 1) - 1
        start = max(0, end - len(label))
        around = row[max(0, start - 1) : start + len(label) + 1]
        if all(character == " " for character in around):
            row[start : start + len(label)] = list(label)
    return Content.styled("".join(row).rstrip(), "$text-muted")


def _marks(marks: Sequence[Mark], num_bars: int, slot: int) -> Content:
    parts: list[tuple[str, str]] = []
    for number in range(num_bars):
        here = [mark for mark in marks if mark.bar == number][:slot]
        parts += [(mark.letter, mark.style) for mark in here]
        parts.append((" " * (slot - len(here)), ""))
    return Content.assemble(*parts)
