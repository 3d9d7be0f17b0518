"""The first row of every screen: where you are on the left, the machine or the run on the right."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from engine.text import clean_line


class TopBar(Horizontal):
    """One row: product and place, and a short fact on the right."""

    DEFAULT_CSS = """
    TopBar {
        height: 1;
        padding: 0 1;
        background: $panel;
        #top-place { width: auto; }
        #top-fact {
            width: 1fr;
            padding: 0 0 0 2;
            text-align: right;
            text-wrap: nowrap;
            text-overflow: ellipsis;
            color: $text-muted;
        }
    }
    """

    def __init__(self, place: str, fact: str = "") -> None:
        super().__init__()
        self._place = place
        self._fact = fact

    def compose(self) -> ComposeResult:
        """Yield both halves."""
        yield Static(self._place_content(), id="top-place")
        yield Static(Content(clean_line(self._fact)), id="top-fact")

    def _place_content(self) -> Content:
        return Content.assemble(("ftwizard", "bold $primary"), ("  ", ""), (clean_line(self._place), ""))

    def show_fact(self, fact: str) -> None:
        """Replace the fact on the right."""
        self._fact = fact
        self.query_one("#top-fact", Static).update(Content(clean_line(fact)))
