"""Two rows that explain whatever has the focus: its title, one sentence, and why the default is what it is."""

from dataclasses import dataclass

from textual.content import Content
from textual.widgets import Static

from engine.text import clean_line


@dataclass(frozen=True, slots=True)
class Explanation:
    """Title, one sentence, and a reason."""

    title: str
    text: str = ""
    why: str = ""


class HelpLine(Static):
    """Shows one explanation; what has no room ends in an ellipsis."""

    DEFAULT_CSS = """
    HelpLine { height: 2; padding: 0 1; color: $foreground; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._whole = Content("")

    def on_resize(self) -> None:
        """Cut to the new width."""
        self._show()

    def explain(self, explanation: Explanation) -> None:
        """Show title, sentence and reason."""
        parts: list[tuple[str, str]] = [(clean_line(explanation.title), "bold $accent")]
        if explanation.text:
            parts.append(("  " + clean_line(explanation.text), ""))
        if explanation.why:
            parts.append(("  Default: " + clean_line(explanation.why), "$text-muted"))
        self._whole = Content.assemble(*parts)
        self._show()

    def _show(self) -> None:
        width, height = self.content_size
        lines = self._whole.wrap(width) if width > 1 and height > 0 else [self._whole]
        if len(lines) > height > 0:
            last = lines[height - 1].rstrip()
            lines = [*lines[: height - 1], last.truncate(width - 1).append("…")]
        self.update(Content("\n").join(lines))
