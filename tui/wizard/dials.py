"""Two numbers that change a plan in place: the sequence length and the effective batch, on one row."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from tui.plan_text import covered

if TYPE_CHECKING:
    from engine.planning.plan import Plan

LENGTH, BATCH = "training.max_length", "training.effective_batch"
SHORTEST_LENGTH, LARGEST_BATCH = 8, 65536
WIDE = 72

Part = Literal["less", "edit", "more"]


def next_length(plan: "Plan", length: int, by: int) -> int:
    """Return the next longer (`by` 1) or shorter (-1) sequence length worth a look.

    Those that the plan knows the coverage of come first; beyond them the next power of two, within the model's context.
    """
    known = [choice.max_length for choice in plan.lengths]
    longest = max(plan.model.context_length, length)
    if by > 0:
        after = [value for value in known if value > length]
        return min(after) if after else min(longest, power_above(length))
    before = [value for value in known if value < length]
    below = power_below(length)
    if not before or below > max(known):
        return max(SHORTEST_LENGTH, below)
    return max(before)


def next_batch(batch: int, by: int) -> int:
    """Return the next larger (`by` 1) or smaller (-1) power of two."""
    return min(LARGEST_BATCH, power_above(batch)) if by > 0 else max(1, power_below(batch))


def power_above(number: int) -> int:
    """Return the smallest power of two above `number`."""
    return 1 << number.bit_length()


def power_below(number: int) -> int:
    """Return the largest power of two below `number`; 1 below 2."""
    return 1 << max(0, (number - 1).bit_length() - 1)


@dataclass(frozen=True, slots=True)
class Dial:
    """One number.

    Attributes:
        path: Recipe path.
        title: Its name.
        value: As shown; `?` while the plan has not decided.
        note: What it means here.
        keys: Keys that change it.
        own: The person set it.
    """

    path: str
    title: str
    value: str
    note: str
    keys: str
    own: bool = False

    def pieces(self, *, roomy: bool) -> list[tuple[str, str, Part | None]]:
        """Return `(text, style, what a click on it does)` from left to right."""
        pieces: list[tuple[str, str, Part | None]] = [
            (f"{self.title} ", "$text-muted", "edit"),
            ("‹ ", "bold $primary", "less"),
            (self.value, "bold $accent" if self.own else "bold", "edit"),
            (" ›", "bold $primary", "more"),
        ]
        if self.note:
            pieces.append((f" {self.note}", "", None))
        if roomy:
            pieces.append((f" {self.keys}", "$text-disabled", None))
        return pieces


def dials_of(plan: "Plan | None", own: frozenset[str], width: int) -> list[Dial]:
    """Return both dials as a plan has them.

    Args:
        plan: None before the first one.
        own: Paths that the person set.
        width: Cells of the row.
    """
    long = width >= WIDE
    names = ("Sequence length", "Effective batch") if long else ("Length", "Batch")
    if plan is None:
        return [Dial(LENGTH, names[0], "?", "", "← →"), Dial(BATCH, names[1], "?", "", "- +")]
    training = plan.recipe.training
    length, batch = training.max_length, training.effective_batch
    here = next((choice for choice in plan.lengths if choice.max_length == length), None)
    covers = "" if here is None else ("covers " if long else "") + covered(here)
    return [
        Dial(LENGTH, names[0], str(length or "?"), covers, "← →", LENGTH in own),
        Dial(BATCH, names[1], str(batch), "", "- +", BATCH in own),
    ]


def _cells(dials: list[Dial], *, roomy: bool) -> int:
    return sum(len(text) for dial in dials for text, *_ in dial.pieces(roomy=roomy))


class Dials(Widget):
    """The row. A click on ‹ or › turns a number, a click on the number asks for another."""

    DEFAULT_CSS = """
    Dials { height: 1; padding: 0 1; }
    """

    class Turned(Message):
        """A number is wanted smaller (-1) or larger (1)."""

        def __init__(self, path: str, by: int) -> None:
            super().__init__()
            self.path = path
            self.by = by

    class Wanted(Message):
        """A number is to be typed."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self) -> None:
        super().__init__()
        self._plan: Plan | None = None
        self._own: frozenset[str] = frozenset()
        self._spans: list[tuple[int, int, str, Part]] = []

    def show(self, plan: "Plan | None", own: frozenset[str]) -> None:
        """Show the numbers of a plan."""
        self._plan, self._own = plan, own
        self.refresh()

    def render(self) -> Content:
        """Return the row."""
        width = self.content_size.width
        dials = dials_of(self._plan, self._own, width)
        roomy = _cells(dials, roomy=True) + 4 <= width
        if _cells(dials, roomy=False) + 2 > width:
            dials = [replace(dial, note="") for dial in dials]
        self._spans = []
        parts: list[tuple[str, str]] = []
        column = 0
        for number, dial in enumerate(dials):
            if number:
                parts.append(("    " if roomy else "  ", ""))
                column += len(parts[-1][0])
            for text, style, action in dial.pieces(roomy=roomy):
                if action is not None:
                    self._spans.append((column, column + len(text), dial.path, action))
                parts.append((text, style))
                column += len(text)
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        """Turn or ask for the number under the mouse."""
        column = event.get_content_offset_capture(self).x
        for start, end, path, action in self._spans:
            if start <= column < end:
                by = {"less": -1, "more": 1}.get(action)
                self.post_message(self.Wanted(path) if by is None else self.Turned(path, by))
                return
