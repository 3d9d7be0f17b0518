"""Step 1: what the model should learn."""

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.text import clean_line
from tui.backend import Choice
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import Explanation
from tui.widgets.labels import hanging
from tui.wizard.step_view import Answered, Explained, StepView

TITLE_CELLS = 25
"""Room for the longest title and a gap."""
MARK_CELLS = 5


class ObjectiveStep(StepView):
    """One line for each objective, and below them when to take the one under the cursor and when not."""

    def compose(self) -> ComposeResult:
        """Yield the question, the objectives and the card of one of them."""
        self._choices = self.backend.objectives()
        yield Static(Content("What should the model learn?"), classes="question")
        yield ChoiceList(list_id="objectives")
        yield Static(id="objective-card")

    def on_mount(self) -> None:
        """Show the objectives, the cursor on the answer given."""
        chosen = self.draft.value("objective")
        names = [choice.name for choice in self._choices]
        listed = self.query_one(OptionList)
        listed.add_options([Option(self._line(choice), id=choice.name) for choice in self._choices])
        listed.highlighted = names.index(chosen) if chosen in names else 0

    def on_resize(self) -> None:
        """Cut the lines and wrap the card to the new width."""
        self.show()

    def focus_start(self) -> None:
        """Focus the list."""
        self.query_one(OptionList).focus()

    def show(self) -> None:
        """Move the mark to the answer."""
        listed = self.query_one(OptionList)
        for choice in self._choices:
            listed.replace_option_prompt(choice.name, self._line(choice))
        if listed.highlighted is not None:
            self._show_card(self._choices[listed.highlighted])

    def _line(self, choice: Choice) -> Content:
        chosen = self.draft.value("objective") == choice.name
        room = self.size.width - MARK_CELLS - TITLE_CELLS - 4
        return Content.assemble(
            (" (●) ", "bold $success") if chosen else (" ( ) ", "$text-muted"),
            (f"{clean_line(choice.title, max_chars=TITLE_CELLS - 2):<{TITLE_CELLS}}", "bold"),
            (clean_line(choice.summary, max_chars=max(20, room)), "$text-muted"),
        )

    def _show_card(self, choice: Choice) -> None:
        width = self.size.width - 4
        parts: list[tuple[str, str]] = [(hanging(choice.summary, 0, width), "bold")]
        facts = (
            ("When", choice.when, "$success"),
            ("Not when", choice.when_not, "$warning"),
            ("Data", choice.needs, "$primary"),
        )
        for label, text, style in facts:
            parts += [(f"\n{label:<10}", style), (hanging(text, 10, width).lstrip(), "")]
        self.query_one("#objective-card", Static).update(Content.assemble(*parts))

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        choice = self._choices[event.option_index]
        self._show_card(choice)
        self.post_message(Explained(Explanation("Models", choice.models)))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.post_message(Answered({"objective": self._choices[event.option_index].name}, advance=True))
