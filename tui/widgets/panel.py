"""A titled panel of lines that scrolls, and the row of tabs that chooses one where there is no room for all."""

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from engine.text import clean_line


class Panel(VerticalScroll, can_focus=False):
    """Lines under a title; only sent again when they change."""

    DEFAULT_CSS = """
    Panel {
        padding: 0 1;
        scrollbar-size-vertical: 1;
        /* Without it a bar that comes and goes changes the width, which wraps lines, which brings the bar. */
        scrollbar-gutter: stable;
        & > Static { width: 100%; height: auto; text-wrap: wrap; }
    }
    """

    def __init__(self, title: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.border_title = Content(clean_line(title))
        self._body = Static()
        self._shown: list[Content] = []

    def compose(self) -> ComposeResult:
        """Yield the body."""
        yield self._body

    def show(self, lines: Sequence[Content]) -> None:
        """Show these lines."""
        new = list(lines)
        if new == self._shown:
            return
        self._shown = new
        # A line that wraps changes the height though the number of lines stays, so the layout is always made anew.
        self._body.update(Content("\n").join(new))


class PanelTabs(Widget):
    """One row of numbered names; the chosen one is marked by weight and underline."""

    DEFAULT_CSS = """
    PanelTabs { height: 1; padding: 0 1; background: $surface; }
    """

    chosen: reactive[str] = reactive("")

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, panels: Sequence[tuple[str, str]], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._panels = list(panels)

    def mark(self, name: str) -> None:
        """Mark the panel that is shown."""
        self.chosen = name

    def render(self) -> Content:
        """Return the row."""
        parts: list[tuple[str, str]] = []
        for number, (name, title) in enumerate(self._panels, 1):
            chosen = name == self.chosen
            parts.append((f"{number} ", "bold $accent" if chosen else "$text-muted"))
            parts.append((title, "bold underline" if chosen else "$text-muted"))
            parts.append(("    ", ""))
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        """Choose the tab under the mouse."""
        column = event.get_content_offset_capture(self).x
        start = 0
        for name, title in self._panels:
            end = start + 2 + len(title)
            if start <= column < end:
                self.post_message(self.Chosen(name))
                return
            start = end + 4
