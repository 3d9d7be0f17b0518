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
    """Shows one explanation."""

    DEFAULT_CSS = """
    HelpLine { height: 2; padding: 0 1; color: $foreground; }
    """

    def explain(self, explanation: Explanation) -> None:
        """Show title, sentence and reason."""
        parts: list[tuple[str, str]] = [(clean_line(explanation.title), "bold $accent")]
        if explanation.text:
            parts.append(("  " + clean_line(explanation.text), ""))
        if explanation.why:
            parts.append(("  Default: " + clean_line(explanation.why), "$text-muted"))
        self.update(Content.assemble(*parts))
