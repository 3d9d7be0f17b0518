"""One row that names the views of a panel and shows which is open; a click opens another."""

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget


class Segments(Widget):
    """Names of views, the open one marked."""

    DEFAULT_CSS = """
    Segments { height: 1; padding: 0 1; }
    """

    class Chosen(Message):
        """A view was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, titles: Sequence[str]) -> None:
        super().__init__()
        self.titles = tuple(titles)
        self.index = 0

    def point(self, index: int) -> None:
        """Mark another view as open."""
        self.index = index % len(self.titles)
        self.refresh()

    def render(self) -> Content:
        """Return the row."""
        parts: list[tuple[str, str]] = []
        for index, title in enumerate(self.titles):
            is_open = index == self.index
            parts.append((f"[{title}]" if is_open else f" {title} ", "bold $primary" if is_open else "$text-muted"))
            parts.append(("  ", ""))
        parts.append(("← → turns", "$text-disabled"))
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        """Ask for the view under the mouse."""
        column, start = event.get_content_offset_capture(self).x, 0
        for index, title in enumerate(self.titles):
            end = start + len(title) + 2
            if start <= column < end:
                self.post_message(self.Chosen(index))
            start = end + 2
