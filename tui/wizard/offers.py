"""The ways to read rows whose columns do not decide it: one key chooses one, or columns are bound by hand."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.recipe.problems import Problem
from engine.text import clean_line
from tui.backend import ShapeLook, ShapeOffer
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import Explanation
from tui.widgets.labels import problem_label
from tui.wizard.columns import SHAPES
from tui.wizard.step_view import Answered, Explained

BY_HAND = "by-hand"
UNSURE = "data.shape_unsure"
_BAR_CELLS = 10
_ROLE_WIDTH = 12


class OffersView(Vertical):
    """A question over a list of offers; a digit or enter takes one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"take({number})", show=False) for number in range(1, 10)),
        Binding("c", "by_hand", "Columns", id="data.by_hand"),
    ]
    DEFAULT_CSS = """
    OffersView {
        height: 1fr;
        & > #offers-question { height: auto; max-height: 5; padding: 0 1 1 1; }
        & > #offers { height: 1fr; }
    }
    """

    class ByHandWanted(Message):
        """The person wants to bind columns."""

    def __init__(self) -> None:
        super().__init__(id="data-offers-view")
        self._offers: Sequence[ShapeOffer] = ()

    def compose(self) -> ComposeResult:
        """Yield question and list."""
        yield Static(id="offers-question")
        yield ChoiceList(list_id="offers")

    def point(self, look: ShapeLook, problems: Sequence[Problem], work: str, width: int) -> None:
        """Show the offers of a look at the first rows in `width` columns."""
        self._offers = look.offers
        self.query_one("#offers-question", Static).update(_question(look, problems, work))
        room = max(30, width - 3)
        listed = self.query_one(OptionList)
        kept = listed.highlighted or 0
        rows = [
            Option(offer_content(number, offer, room), id=str(number)) for number, offer in enumerate(look.offers, 1)
        ]
        listed.set_options([*rows, Option(Content("  c  Say column by column what is what"), id=BY_HAND)])
        listed.highlighted = min(kept, len(rows))

    def action_by_hand(self) -> None:
        """Open the columns."""
        self.post_message(self.ByHandWanted())

    def action_take(self, number: int) -> None:
        """Take an offer by its number."""
        if number <= len(self._offers):
            self._take(self._offers[number - 1])

    @on(OptionList.OptionSelected, "#offers")
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id == BY_HAND:
            self.action_by_hand()
        elif event.option_id:
            self._take(self._offers[int(event.option_id) - 1])

    def _take(self, offer: ShapeOffer) -> None:
        self.post_message(Answered({"data.format": offer.format, "data.mapping": dict(offer.mapping)}))

    @on(OptionList.OptionHighlighted, "#offers")
    def _explain(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_id == BY_HAND:
            text = "Opens the columns: choose a shape and bind each role to a column."
            self.post_message(Explained(Explanation("Columns", text)))
        elif event.option_id:
            offer = self._offers[int(event.option_id) - 1]
            text = f"{offer.evidence} Enter or {event.option_id} takes it; the file itself is never changed."
            self.post_message(Explained(Explanation(offer.format, text)))


def _question(look: ShapeLook, problems: Sequence[Problem], work: str) -> Content:
    lines = [problem_label(problem) for problem in problems[:1] if problem.code != UNSURE]
    if not lines:
        columns = ", ".join(clean_line(column, max_chars=24) for column in list(look.columns)[:8])
        lines = [
            Content.styled("How are these rows to be read? Nothing in them says so for certain.", "bold $warning"),
            Content.styled(f"columns: {columns}", "$text-muted"),
        ]
    if work:
        lines.append(Content.styled(f"◌ {work}", "$primary"))
    return Content("\n").join(lines)


def offer_content(number: int, offer: ShapeOffer, width: int) -> Content:
    """Return number, shape, mapping and confidence, then the first row read this way."""
    filled = round(offer.confidence * _BAR_CELLS)
    bar = "█" * filled + "░" * (_BAR_CELLS - filled)
    mapping = " · ".join(
        f"{clean_line(role)} ← {clean_line(column, max_chars=20)}" for role, column in offer.mapping.items()
    )
    shape = SHAPES.get(offer.format, clean_line(offer.format))
    parts: list[Content | str | tuple[str, str]] = [
        (f"  {number}  ", "bold $primary"),
        (shape, "bold"),
        (f"  {bar} {offer.confidence:.0%}", "$accent"),
        (f"\n     {mapping}"[: width + 1], ""),
        *example_lines(offer, width),
    ]
    return Content.assemble(*parts)


def example_lines(offer: ShapeOffer, width: int) -> list[tuple[str, str]]:
    """Return the first row as it would be read, a line for each role."""
    room = max(16, width - 5 - _ROLE_WIDTH)
    return [
        (
            f"\n     {clean_line(role, max_chars=_ROLE_WIDTH - 1):<{_ROLE_WIDTH}}{clean_line(text, max_chars=room)}",
            "$text-muted",
        )
        for role, text in offer.example.items()
    ]
