"""What every step of the wizard is: a view of the draft that posts answers and never changes anything itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textual.containers import Vertical
from textual.message import Message

from tui.backend import Backend, XrayOrder
from tui.widgets.help_line import Explanation
from tui.wizard.draft import Draft
from tui.wizard.facts import Facts


class Answered(Message):
    """The person gave answers or took them back.

    Attributes:
        changes: `{recipe path: value}`.
        cleared: Recipe paths whose answers are taken back.
        advance: Open the next step if nothing speaks against it.
        taken: The answers are an option of the plan: those of the option taken before are taken back.
    """

    def __init__(
        self,
        changes: Mapping[str, Any],
        cleared: tuple[str, ...] = (),
        *,
        advance: bool = False,
        taken: bool = False,
    ) -> None:
        super().__init__()
        self.changes = changes
        self.cleared = cleared
        self.advance = advance
        self.taken = taken


class Advanced(Message):
    """The person asked for the next step from inside this one."""


class Explained(Message):
    """Something else has the focus and wants to be explained."""

    def __init__(self, explanation: Explanation) -> None:
        super().__init__()
        self.explanation = explanation


class Asked(Message):
    """The step asks for work.

    Attributes:
        request: `inspect`, `cancel`, `inspect-model`, `cancel-model`, `cancel-hub`, `xray` or `cancel-xray`.
    """

    def __init__(self, request: str) -> None:
        super().__init__()
        self.request = request


class HubWanted(Message):
    """The model hub shall be searched for these words."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


class PageWanted(Message):
    """The X-ray was turned to sequences that are not there: those of an order from a place on."""

    def __init__(self, order: XrayOrder, start: int) -> None:
        super().__init__()
        self.order = order
        self.start = start


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step is built from."""

    backend: Backend
    draft: Draft
    facts: Facts


class StepView(Vertical):
    """Base of all steps; mounted afresh each time its step is opened."""

    def __init__(self, context: StepContext) -> None:
        super().__init__(id="step")
        self.backend = context.backend
        self.draft = context.draft
        self.facts = context.facts

    def push_down(self, draft: Draft, facts: Facts) -> None:
        """Take a new draft and new facts, then show them."""
        self.draft, self.facts = draft, facts
        self.show()

    def show(self) -> None:
        """Bring the widgets in line with draft and facts; called after each change."""

    def focus_start(self) -> None:
        """Give the focus to the widget that takes the answer."""

    def leave_transient(self) -> bool:
        """Leave an open list, filter or edit; return whether there was one."""
        return False
