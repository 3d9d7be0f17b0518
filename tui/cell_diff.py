"""Send only the cells that changed.

Textual re-sends every dirty region whole: 10 to 56 kB a second for a live chart. This keeps a copy of what the
terminal shows and turns each update of the compositor into the cells that differ, which brings a watched run under
1 kB a second, so that it can be followed over a slow line. It hangs on private names of Textual (`App._display`, the
two update classes), so Textual is pinned, and a test compares both outputs on an emulated terminal.
FTWIZARD_CELL_DIFF=0 turns it off.
"""

import os
from collections.abc import Iterator

from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Size
from textual.strip import Strip

Cell = tuple[str, str]
"""A character and the ANSI codes it is drawn with."""

# Moving the cursor costs 6 to 8 bytes; re-sending up to this many unchanged cells of the same style is cheaper.
_BRIDGED_CELLS = 4
_RESET = "\x1b[0m"


def cell_diff_wanted() -> bool:
    """Return whether updates should be diffed: always, unless FTWIZARD_CELL_DIFF is 0."""
    return os.environ.get("FTWIZARD_CELL_DIFF", "1") != "0"


class TerminalCells:
    """What the terminal shows, cell by cell, as far as we know; None where it is not known."""

    def __init__(self) -> None:
        self._size = Size(0, 0)
        self._rows: list[list[Cell | None]] = []

    def forget(self) -> None:
        """Take nothing for granted any more: the terminal was resized, cleared or used by another program."""
        self._size = Size(0, 0)

    def diffed(self, update: CompositorUpdate, size: Size, console: Console) -> CompositorUpdate:
        """Return an update that writes only the cells of `update` that differ; it must be sent, or `forget` be called.

        Args:
            update: What the compositor made.
            size: Columns and rows of the terminal.
            console: Knows the colours that the terminal can show.
        """
        if not isinstance(update, ChopsUpdate | LayoutUpdate):
            return update
        if size != self._size:
            self._size = size
            self._rows = [[None] * size.width for _ in range(size.height)]
        return DiffedUpdate(self._write(update, console))

    def _write(self, update: ChopsUpdate | LayoutUpdate, console: Console) -> str:
        color_system = console._color_system or ColorSystem.TRUECOLOR
        output: list[str] = []
        for x, y, strip in _placed(update):
            if 0 <= y < len(self._rows):
                self._write_strip(x, y, strip, color_system, output)
        return "".join(output)

    def _write_strip(self, x: int, y: int, strip: Strip, color_system: ColorSystem, output: list[str]) -> None:
        row = self._rows[y]
        cells = _cells(strip, color_system)
        if cells is None:
            # Wide or joined characters, or links: terminals disagree on their width, so the strip is sent as it is and
            # nothing to the right of it is taken for granted.
            output.append(_move(x, y) + "".join(_rendered(strip, color_system)))
            row[max(x, 0) :] = [None] * (len(row) - max(x, 0))
            return
        cells = cells[: max(0, len(row) - x)]
        for start, end in _changed_runs(row, cells, x):
            output.append(_move(x + start, y) + _run(cells[start:end]))
        row[x : x + len(cells)] = cells


class DiffedUpdate(CompositorUpdate):
    """An update that is rendered already; empty when nothing changed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def render_segments(self, console: Console) -> str:
        """Return the text."""
        return self.text


def _placed(update: ChopsUpdate | LayoutUpdate) -> Iterator[tuple[int, int, Strip]]:
    """Yield `(x, y, strip)` for everything that an update draws, cropped as Textual crops it."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            yield update.region.x, y, Strip.join(line)
        return
    for y, x1, x2 in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is None or x > x2 or end <= x1:
                continue
            whole = x2 > x >= x1 and end <= x2
            yield x, y, strip if whole else strip.crop(0, min(end, x2) - x)


def _cells(strip: Strip, color_system: ColorSystem) -> list[Cell] | None:
    cells: list[Cell] = []
    for text, style, control in strip:
        if control or (style is not None and style._link):
            return None
        if not text.isascii() and any(get_character_cell_size(character) != 1 for character in text):
            return None
        ansi = _ansi(style, color_system)
        cells.extend((character, ansi) for character in text)
    return cells


def _rendered(strip: Strip, color_system: ColorSystem) -> Iterator[str]:
    for text, style, _ in strip:
        yield text if style is None else Strip.render_style(style, text, color_system)


def _ansi(style: Style | None, color_system: ColorSystem) -> str:
    if style is None:
        return ""
    return Strip.render_ansi(style, color_system) if style._ansi is None else style._ansi


def _changed_runs(row: list[Cell | None], cells: list[Cell], x: int) -> Iterator[tuple[int, int]]:
    """Yield `(start, end)` of runs of changed cells; short gaps are bridged."""
    start = end = -1
    for index, cell in enumerate(cells):
        at = x + index
        if 0 <= at < len(row) and row[at] == cell:
            continue
        if start >= 0 and index - end <= _BRIDGED_CELLS:
            end = index + 1
            continue
        if start >= 0:
            yield start, end
        start, end = index, index + 1
    if start >= 0:
        yield start, end


def _run(cells: list[Cell]) -> str:
    pieces: list[str] = []
    current = ""
    for character, ansi in cells:
        if ansi != current:
            # Codes add up in a terminal, so a new style starts from nothing.
            pieces.append(f"\x1b[0;{ansi}m" if ansi and current else f"\x1b[{ansi}m" if ansi else _RESET)
            current = ansi
        pieces.append(character)
    if current:
        pieces.append(_RESET)
    return "".join(pieces)


def _move(x: int, y: int) -> str:
    return f"\x1b[{y + 1};{x + 1}H"
