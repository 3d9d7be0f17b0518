"""Step 4: which weights learn, side by side with what each way needs here."""

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from engine.recipe.problems import Problem, blocking
from engine.text import clean_line, human_bytes
from tui.backend import Choice, MethodOutlook, find_choice
from tui.widgets.help_line import Explanation
from tui.widgets.labels import problem_label
from tui.widgets.memory_bar import meter
from tui.wizard.facts import Facts, problem_of, step_problems
from tui.wizard.readings import AUTOMATIC
from tui.wizard.step_view import Answered, Explained, StepView

ROOMY_ROWS = 16
CARD_ORDER = ("full", "lora", "qlora")


def outlook_problems(outlook: MethodOutlook | None) -> list[Problem]:
    """Return what blocks a method here."""
    if outlook is None:
        return []
    found = list(outlook.problems)
    if outlook.plan is not None:
        found += [problem_of(finding) for finding in outlook.plan.findings]
    return blocking(found)


def recommended(facts: Facts) -> tuple[str, str]:
    """Return the method that the plan takes by itself, and why; empty while that is not known."""
    automatic = facts.outlooks.get(AUTOMATIC)
    if automatic is None or automatic.plan is None:
        return "", ""
    source = automatic.plan.sources.get("method.name")
    return automatic.plan.recipe.method.name or "", source.detail if source is not None else ""


class MethodCard(Widget, can_focus=True):
    """One method: memory against what is free, and when to take it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "take", "Choose", id="method.take"),
        Binding("left", "move(-1)", "Left", show=False),
        Binding("right", "move(1)", "Right", show=False),
    ]

    class Taken(Message):
        """The card was chosen."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, choice: Choice) -> None:
        super().__init__(id=f"method-{choice.name}")
        self.choice = choice
        self._facts = Facts()
        self._chosen = ""

    def show(self, chosen: str, facts: Facts) -> None:
        """Show a new choice or new facts."""
        self._chosen, self._facts = chosen, facts
        blocked = bool(outlook_problems(facts.outlooks.get(self.choice.name)))
        self.set_class(blocked, "-blocked")
        self.set_class(chosen == self.choice.name, "-chosen")
        self.border_title = Content(clean_line(self.choice.title))
        self.refresh()

    def render(self) -> Content:
        """Return the card's text."""
        outlook = self._facts.outlooks.get(self.choice.name)
        problems = outlook_problems(outlook)
        weight = "$text-disabled" if problems else ""
        lines = [self._mark(bool(problems)), *self._memory(outlook)]
        if problems:
            lines.append(Content.styled(f"✗ {clean_line(problems[0].message)}", "$error"))
        lines.append(Content.styled("\n" + clean_line(self.choice.summary), weight))
        if not problems:
            lines.append(Content.styled(clean_line(self.choice.when), "$text-muted"))
        if self.content_size.height >= ROOMY_ROWS:
            lines.append(Content.styled("\nNot when  ", "$warning"))
            lines.append(Content.styled(clean_line(self.choice.when_not), "$text-muted"))
        return Content("\n").join(lines)

    def _mark(self, blocked: bool) -> Content:
        best, _ = recommended(self._facts)
        if self._chosen == self.choice.name:
            return Content.styled("(●) chosen", "bold $success")
        if best == self.choice.name:
            return Content.styled("★ recommended", "bold $accent")
        return Content.styled("( ) does not fit" if blocked else "( )", "$text-disabled" if blocked else "$text-muted")

    def _memory(self, outlook: MethodOutlook | None) -> list[Content]:
        if outlook is None or outlook.plan is None:
            return [Content.styled("" if outlook else "◌ estimating memory…", "$text-muted")]
        memory = outlook.plan.memory
        free = memory.available_bytes
        width = max(8, self.content_size.width)
        text = (
            f"{human_bytes(memory.expected_bytes)} of {human_bytes(free)}"
            if free
            else human_bytes(memory.expected_bytes)
        )
        bar = meter(memory.high_bytes, free, width) if free else Content("")
        return [Content.styled(text, "bold"), bar]

    def action_take(self) -> None:
        """Choose this method."""
        self.post_message(self.Taken(self.choice.name))

    def action_move(self, by: int) -> None:
        """Focus the next or the previous card."""
        move = self.screen.focus_next if by > 0 else self.screen.focus_previous
        move(MethodCard)

    def on_click(self) -> None:
        """Choose this method with the mouse."""
        self.action_take()


class MethodStep(StepView):
    """Three cards and the reason for the recommended one."""

    def compose(self) -> ComposeResult:
        """Yield question, cards and reason."""
        self._choices = self.backend.methods()
        yield Static(Content("Which weights should learn?"), classes="question")
        with Horizontal(id="method-cards"):
            for name in CARD_ORDER:
                choice = find_choice(self._choices, name)
                if choice is not None:
                    yield MethodCard(choice)
        yield Static(id="method-reason", classes="facts")

    def on_mount(self) -> None:
        """Fill the cards."""
        self._moved = False
        self.show()

    def on_key(self) -> None:
        """Remember that the person moved: a late recommendation must not take the focus away."""
        self._moved = True

    def show(self) -> None:
        """Show answers and estimates."""
        for card in self.query(MethodCard):
            card.show(self.draft.value("method.name") or "", self.facts)
        self.query_one("#method-reason", Static).update(self._reason())
        if not self._moved and isinstance(self.screen.focused, MethodCard):
            self.focus_start()

    def _reason(self) -> Content:
        problems = step_problems("method", self.draft, self.facts)
        if problems:
            return Content("\n").join([problem_label(problem) for problem in problems[:2]])
        best, why = recommended(self.facts)
        if not best:
            return Content.styled("◌ Comparing the methods on this machine…", "$primary")
        title = choice.title if (choice := find_choice(self._choices, best)) else best
        taken = "" if self.draft.value("method.name") else " Without a choice it is taken."
        return Content.assemble(
            ("★ ", "$accent"), (f"{clean_line(title)}: ", "bold"), (f"{clean_line(why)}.{taken}", "")
        )

    def focus_start(self) -> None:
        """Focus the chosen card, else the recommended one, else LoRA."""
        name = self.draft.value("method.name") or recommended(self.facts)[0] or "lora"
        self.query_one(f"#method-{name}", MethodCard).focus()

    @on(events.DescendantFocus)
    def _explain(self, event: events.DescendantFocus) -> None:
        card = event.widget
        if isinstance(card, MethodCard):
            choice = card.choice
            problems = outlook_problems(self.facts.outlooks.get(choice.name))
            fix = f" {problems[0].fix}" if problems and problems[0].fix else ""
            self.post_message(Explained(Explanation(choice.title, f"Not when: {choice.when_not}{fix}")))

    @on(MethodCard.Taken)
    def _taken(self, event: MethodCard.Taken) -> None:
        blocked = bool(outlook_problems(self.facts.outlooks.get(event.name)))
        self.post_message(Answered({"method.name": event.name}, advance=not blocked))
