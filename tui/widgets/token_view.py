"""Tokens of one sequence: trained, context and special ones told apart; thousands of them in one widget."""

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.backend import XraySequence
from tui.widgets.token_lines import Line, LinePart, token_lines


class TokenView(ScrollView, can_focus=True):
    """Shows one sequence and scrolls it; only the lines on the screen are drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("space", "page_down", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "tokens--trained",
        "tokens--trained-special",
        "tokens--special",
        "tokens--mark",
        "tokens--note",
        "tokens--lost",
    }
    DEFAULT_CSS = """
    TokenView {
        height: 1fr;
        padding: 0 1;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        & > .tokens--trained { color: $success; background: $trained-background; text-style: underline; }
        & > .tokens--trained-special {
            color: $secondary;
            background: $trained-background;
            text-style: underline bold;
        }
        & > .tokens--special { color: $secondary; text-style: bold; }
        & > .tokens--mark { color: $success; text-style: bold; }
        & > .tokens--note { color: $text-muted; }
        & > .tokens--lost { color: $error; text-style: bold; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._sequence: XraySequence | None = None
        self._lines: list[Line] = []
        self._wrapped_for: tuple[int, XraySequence | None] = (0, None)

    @property
    def num_lines(self) -> int:
        """Lines of the whole sequence at the present width."""
        return len(self._lines)

    def show(self, sequence: XraySequence | None) -> None:
        """Show a sequence from its first token; the one that is shown stays where it was scrolled to."""
        if sequence is self._sequence:
            return
        self._sequence = sequence
        self.scroll_home(animate=False)
        self._wrap()

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self._wrap()

    def action_page_down(self) -> None:
        """Scroll by a page."""
        self.scroll_page_down(animate=False)

    def _wrap(self) -> None:
        width = self.scrollable_content_region.width
        if width < 1 or self._wrapped_for == (width, self._sequence):
            return
        self._wrapped_for = (width, self._sequence)
        # Sixteen colours are the terminal's own, and NO_COLOR has none: there the marks tell the kinds apart.
        marked = self.app.native_ansi_color
        self._lines = token_lines(self._sequence, width, marked=marked) if self._sequence is not None else []
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return one line of the screen."""
        number = round(self.scroll_offset.y) + y
        width, plain = self.scrollable_content_region.width, self.rich_style
        if number >= len(self._lines):
            return Strip.blank(width, plain)
        segments = [Segment(text, self._style(part, plain)) for text, part in self._lines[number]]
        return Strip(segments).adjust_cell_length(width, plain)

    def _style(self, part: LinePart, plain: Style) -> Style:
        if part == "context":
            return plain
        return self.get_component_rich_style(f"tokens--{part.replace(' ', '-')}")
