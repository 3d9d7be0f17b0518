"""The steps of the wizard on one row with their marks, and the row that leads back and on."""

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Static

from engine.text import clean_line
from tui.wizard.draft import STEP_TITLES, STEPS, Draft, StepName
from tui.wizard.facts import Facts, Mark, step_mark

_GLYPHS: dict[Mark, tuple[str, str]] = {
    "done": ("✓", "$success"),
    "current": ("●", "$primary"),
    "problem": ("✗", "$error"),
    "busy": ("◌", "$primary"),
    "todo": ("○", "$text-muted"),
}


class StepRail(Widget):
    """One row: every step with its mark; a click asks for the step."""

    DEFAULT_CSS = """
    StepRail { height: 1; margin: 1 0 0 0; padding: 0 1; }
    """

    class Wanted(Message):
        """A step was clicked."""

        def __init__(self, step: StepName) -> None:
            super().__init__()
            self.step = step

    def __init__(self) -> None:
        super().__init__()
        self._marks: tuple[tuple[StepName, Mark, bool], ...] = ()

    def mark(self, draft: Draft, facts: Facts) -> None:
        """Show where the person is and what is done."""
        marks = tuple((step, step_mark(step, draft, facts), step == draft.step) for step in STEPS)
        if marks != self._marks:
            self._marks = marks
            self.refresh()

    def render(self) -> Content:
        """Return the row."""
        parts: list[tuple[str, str]] = []
        for number, (step, mark, current) in enumerate(self._marks):
            glyph, style = _GLYPHS[mark]
            if number:
                parts.append((" ─ ", "$rule"))
            parts.append((f"{glyph} ", style))
            parts.append((STEP_TITLES[step], "bold" if current else "$text-muted"))
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        """Ask for the step under the mouse."""
        column = event.get_content_offset_capture(self).x
        start = 0
        for step in STEPS:
            end = start + len(STEP_TITLES[step]) + 2
            if start <= column < end:
                self.post_message(self.Wanted(step))
            start = end + 3


class NavBar(Horizontal):
    """Back, why the way on is closed, and Next."""

    DEFAULT_CSS = """
    NavBar {
        height: 1;
        padding: 0 1;
        & > Button { min-width: 10; height: 1; }
        & > #nav-next {
            background: $success-muted;
            color: $foreground;
            &:focus { background: $success; color: $background; text-style: bold; }
            &.-blocked { background: $surface; color: $text-disabled; }
            &:ansi { background: ansi_default; text-style: bold; &:focus { text-style: bold underline; } }
        }
        & > #nav-back {
            background: $panel;
            &:focus { background: $primary; color: $background; }
            &:ansi { background: ansi_default; &:focus { text-style: bold underline; } }
        }
        & > #nav-reason {
            width: 1fr;
            height: 1;
            padding: 0 2;
            text-align: right;
            color: $warning;
            text-wrap: nowrap;
            text-overflow: ellipsis;
        }
    }
    """

    class Back(Message):
        """Back was pressed."""

    class Next(Message):
        """Next was pressed, also while it is blocked: the screen says why."""

    def compose(self) -> ComposeResult:
        """Yield both buttons around the reason."""
        yield Button("‹ Back", id="nav-back", compact=True)
        yield Static(id="nav-reason")
        yield Button("Next ›", id="nav-next", compact=True)

    def point(self, step: StepName, reason: str) -> None:
        """Show where Next leads, or why it does not."""
        button = self.query_one("#nav-next", Button)
        index = STEPS.index(step)
        button.label = Content("Start ›" if step == "review" else f"Next: {STEP_TITLES[STEPS[index + 1]]} ›")
        button.set_class(bool(reason), "-blocked")
        self.query_one("#nav-reason", Static).update(Content(clean_line(reason)))

    def focus_next(self) -> None:
        """Focus the way on."""
        self.query_one("#nav-next", Button).focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.post_message(self.Back() if event.button.id == "nav-back" else self.Next())
