"""The diffed output must draw the very picture that Textual's own output draws."""

from io import StringIO

import pyte
import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region, Size
from textual.strip import Strip

from tui.cell_diff import TerminalCells

SIZE = Size(30, 4)
RED, BOLD_ON_BLUE, PLAIN = Style(color="red"), Style(bold=True, color="white", bgcolor="blue"), Style()


def console() -> Console:
    return Console(file=StringIO(), force_terminal=True, color_system="truecolor", width=SIZE.width)


class Terminals:
    """Two emulated terminals: one fed by Textual's own rendering, one by ours."""

    def __init__(self) -> None:
        self.ours, self.theirs = (pyte.Screen(SIZE.width, SIZE.height) for _ in range(2))
        self._cells = TerminalCells()
        self._console = console()
        self.sent = 0

    def apply(self, update: ChopsUpdate | LayoutUpdate) -> None:
        pyte.Stream(self.theirs).feed(update.render_segments(self._console))
        text = self._cells.diffed(update, SIZE, self._console).render_segments(self._console)
        self.sent = len(text)
        pyte.Stream(self.ours).feed(text)

    def assert_same(self) -> None:
        for y in range(SIZE.height):
            for x in range(SIZE.width):
                assert self.ours.buffer[y][x] == self.theirs.buffer[y][x], f"cell {x},{y}"


def full(*rows: list[Segment]) -> LayoutUpdate:
    strips = [[Strip(row).adjust_cell_length(SIZE.width, PLAIN)] for row in rows]
    return LayoutUpdate(strips, Region(0, 0, SIZE.width, len(rows)))


def part(y: int, x: int, segments: list[Segment], x1: int | None = None, x2: int | None = None) -> ChopsUpdate:
    strip = Strip(segments)
    end = x + strip.cell_length
    chops: list[dict[int, Strip | None]] = [{} for _ in range(SIZE.height)]
    ends: list[list[int]] = [[] for _ in range(SIZE.height)]
    chops[y], ends[y] = {x: strip}, [end]
    return ChopsUpdate(chops, [(y, x if x1 is None else x1, end if x2 is None else x2)], ends)


FIRST = [[Segment("loss ", RED), Segment("2.345", BOLD_ON_BLUE), Segment(" step 10", PLAIN)] for _ in range(4)]


def test_a_full_paint_draws_the_same_picture() -> None:
    terminals = Terminals()
    terminals.apply(full(*FIRST))
    terminals.assert_same()


def test_an_update_without_a_change_sends_nothing() -> None:
    terminals = Terminals()
    terminals.apply(full(*FIRST))
    terminals.apply(full(*FIRST))
    assert terminals.sent == 0


@pytest.mark.parametrize(
    "segments",
    [
        [Segment("loss ", RED), Segment("2.346", BOLD_ON_BLUE)],
        [Segment("l", PLAIN), Segment("oss ", RED), Segment("9", RED)],
        [Segment("⣿⠿│é", RED), Segment("abc")],
        [Segment("你好", RED), Segment("2.3", BOLD_ON_BLUE)],
        [Segment("e\u0301a", RED)],
    ],
    ids=["digit", "style", "narrow unicode", "wide", "combining"],
)
def test_a_partial_update_draws_the_same_picture(segments: list[Segment]) -> None:
    terminals = Terminals()
    terminals.apply(full(*FIRST))
    terminals.apply(part(1, 2, segments))
    terminals.apply(part(1, 0, [Segment("back to plain text again", PLAIN)]))
    terminals.assert_same()


def test_a_cropped_span_draws_the_same_picture() -> None:
    terminals = Terminals()
    terminals.apply(full(*FIRST))
    terminals.apply(part(2, 0, [Segment("0123456789", RED)], x1=3, x2=7))
    terminals.assert_same()


def test_one_changed_digit_costs_a_few_bytes() -> None:
    terminals = Terminals()
    terminals.apply(full(*FIRST))
    terminals.apply(part(0, 0, [Segment("loss ", RED), Segment("2.346", BOLD_ON_BLUE), Segment(" step 10", PLAIN)]))
    assert 0 < terminals.sent < 40


def test_a_new_size_forgets_what_was_shown() -> None:
    cells, screen = TerminalCells(), console()
    update = full(*FIRST)
    first = cells.diffed(update, SIZE, screen).render_segments(screen)
    assert cells.diffed(update, SIZE, screen).render_segments(screen) == ""
    cells.diffed(update, Size(31, 4), screen).render_segments(screen)
    assert cells.diffed(update, SIZE, screen).render_segments(screen) == first
