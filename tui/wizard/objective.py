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

ROOMY_ROWS = 20
"""Rows of the step from which the cards have room for a line more and space between them."""


class ObjectiveStep(StepView):
    """Cards with when to take each objective and when not."""

    def compose(self) -> ComposeResult:
        """Yield the question and one card per objective."""
        self._choices = self.backend.objectives()
        yield Static(Content("What should the model learn?"), classes="question")
        yield ChoiceList(list_id="objectives")

    def on_mount(self) -> None:
        """Show the cards, the cursor on the answer given."""
        chosen = self.draft.value("objective")
        names = [choice.name for choice in self._choices]
        cards = self.query_one(OptionList)
        cards.add_options([self._option(choice) for choice in self._choices])
        cards.highlighted = names.index(chosen) if chosen in names else 0

    def on_resize(self) -> None:
        """Wrap the cards to the new width."""
        self.show()

    def focus_start(self) -> None:
        """Focus the cards."""
        self.query_one(OptionList).focus()

    def show(self) -> None:
        """Move the mark to the answer."""
        cards = self.query_one(OptionList)
        for choice in self._choices:
            cards.replace_option_prompt(choice.name, self._card(choice))

    def _option(self, choice: Choice) -> Option:
        return Option(self._card(choice), id=choice.name)

    def _card(self, choice: Choice) -> Content:
        chosen = self.draft.value("objective") == choice.name
        width = self.size.width - 4
        roomy = self.size.height >= ROOMY_ROWS
        parts: list[tuple[str, str]] = [
            (" (●) ", "bold $success") if chosen else (" ( ) ", "$text-muted"),
            (clean_line(choice.title), "bold"),
            ("\n" + hanging(choice.summary, 5, width), ""),
        ]
        facts = [("When", choice.when, "$success"), ("Not when", choice.when_not, "$warning")]
        if roomy:
            facts.append(("Data", choice.needs, "$primary"))
        for label, text, style in facts:
            parts.append((f"\n     {label:<10}", style))
            parts.append((hanging(text, 15, width).lstrip(), "$text-muted"))
        return Content.assemble("\n" if roomy else "", *parts)

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        choice = self._choices[event.option_index]
        self.post_message(Explained(Explanation("Data", choice.needs)))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.post_message(Answered({"objective": self._choices[event.option_index].name}, advance=True))
