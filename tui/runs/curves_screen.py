"""The curves of several runs over each other, and their numbers side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from tui.backend import RunRow
from tui.runs.curves import RunFacts, curves_data, read_facts, table_lines
from tui.terminal import utf8_locale
from tui.widgets.bars import TopBar
from tui.widgets.key_footer import KeyFooter
from tui.widgets.loss_chart import LossChart
from tui.worker_errors import SpokenErrors

if TYPE_CHECKING:
    from tui.app import FtwizardApp

_LIVE = frozenset({"preparing", "training", "paused", "evaluating", "exporting"})
REREAD_S = 3.0
_PADDING = 4


class CurvesScreen(SpokenErrors, Screen[None]):
    """One picture of at most six runs.

    Args:
        runs: In the order of their letters.
    """

    app: "FtwizardApp"
    CSS_PATH = "runs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log_y", "Log scale", id="curves.log"),
        Binding("escape,q", "leave", "Back", id="curves.back"),
    ]

    class FactsRead(Message):
        """The runs were read."""

        def __init__(self, facts: list[RunFacts]) -> None:
            super().__init__()
            self.facts = facts

    def __init__(self, runs: Sequence[RunRow]) -> None:
        super().__init__()
        self._runs = list(runs)
        self._facts: list[RunFacts] = []
        self._log_y = False

    def compose(self) -> ComposeResult:
        """Yield the chart over the table."""
        yield TopBar("curves", "capital letters: training loss, small ones: held-out loss")
        yield LossChart(ascii_only=not utf8_locale(), empty="Reading the runs …")
        with VerticalScroll(id="curves-table", can_focus=True):
            yield Static(id="curves-words")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the runs; those at work again every few seconds."""
        self._read()
        if any(run.state in _LIVE for run in self._runs):
            self.set_interval(REREAD_S, self._read)

    @work(thread=True, exclusive=True, group="curves-read", exit_on_error=False)
    def _read(self) -> None:
        self.post_message(self.FactsRead([read_facts(run) for run in self._runs]))

    @on(FactsRead)
    def _take(self, message: FactsRead) -> None:
        self._facts = message.facts
        self._draw()

    def on_resize(self) -> None:
        """Lay the table out for the new width."""
        self._draw()

    def _draw(self) -> None:
        if not self._facts:
            return
        self.query_one(LossChart).show(curves_data(self._facts, log_y=self._log_y))
        lines = table_lines(self._facts, self.size.width - _PADDING)
        self.query_one("#curves-words", Static).update(Content("\n").join(lines))

    def action_log_y(self) -> None:
        """Draw the y axis in powers of ten, or evenly."""
        self._log_y = not self._log_y
        self._draw()

    def action_leave(self) -> None:
        """Go back."""
        self.app.leave_screen()
