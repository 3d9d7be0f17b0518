"""A question with a few answers, over whatever is open. Escape takes the last answer, which changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option as ListOption

from engine.text import clean_line


@dataclass(frozen=True, slots=True)
class Option:
    """One answer: what is returned, its words, and what it means."""

    answer: str
    title: str
    meaning: str = ""


class ConfirmScreen(ModalScreen[str]):
    """Asks, and is dismissed with the chosen answer.

    Args:
        question: One sentence.
        options: Answers; the last one changes nothing and is taken by escape.
    """

    DEFAULT_CSS = """
    ConfirmScreen {
        align: center middle;
        & > Vertical {
            width: 64;
            max-width: 90%;
            height: auto;
            padding: 1 2;
            background: $panel;
            border: round $border;
        }
        & Static { margin-bottom: 1; text-style: bold; }
        & OptionList { height: auto; background: $panel; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, question: str, options: Sequence[Option]) -> None:
        super().__init__()
        self._question = question
        self._options = list(options)

    def compose(self) -> ComposeResult:
        """Yield the question over its answers."""
        with Vertical():
            yield Static(Content(clean_line(self._question)))
            yield OptionList(*(ListOption(_words(option), id=str(i)) for i, option in enumerate(self._options)))

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Answer with what was chosen."""
        self.dismiss(self._options[message.option_index].answer)

    def action_cancel(self) -> None:
        """Answer with the option that changes nothing."""
        self.dismiss(self._options[-1].answer)


def _words(option: Option) -> Content:
    meaning = f"  {clean_line(option.meaning)}" if option.meaning else ""
    return Content.assemble((clean_line(option.title), ""), (meaning, "$text-muted"))
