"""The question how to go on from a finished run."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.runs.follow_ups import FollowUp
from engine.text import clean_line
from tui.widgets.choice_list import ChoiceList
from tui.widgets.labels import hanging

WIDTH = 68
_INNER = WIDTH - 10
_INDENT = 2


class NextRunScreen(ModalScreen[FollowUp | None]):
    """Offers the ways to go on, each with why; dismissed with the chosen one, or with nothing.

    Args:
        ways: At least one.
    """

    CSS_PATH = "next_run.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "cancel", "Cancel")]

    def __init__(self, ways: Sequence[FollowUp]) -> None:
        super().__init__()
        self._ways = list(ways)

    def compose(self) -> ComposeResult:
        """Yield the question over the ways."""
        with Vertical(id="next-run"):
            yield Static(Content("What should it learn next?"), classes="question")
            yield ChoiceList(list_id="next-ways")
            yield Static(Content("enter opens the wizard with what is known · esc closes"), id="next-note")

    def on_mount(self) -> None:
        """Show the ways, the cursor on the first."""
        listed = self.query_one(OptionList)
        listed.add_options([Option(_words(way)) for way in self._ways])
        listed.highlighted = 0
        listed.focus()

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Answer with the chosen way."""
        self.dismiss(self._ways[message.option_index])

    def action_cancel(self) -> None:
        """Answer with nothing."""
        self.dismiss(None)


def _words(way: FollowUp) -> Content:
    why = hanging(clean_line(way.why), _INDENT, _INNER)
    return Content.assemble((clean_line(way.title), "bold"), (f"\n{' ' * _INDENT}{why.lstrip()}", "$text-muted"))
