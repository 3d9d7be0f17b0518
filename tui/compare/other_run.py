"""The question which run is to stand beside."""

from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.backend import Backend, RunRow
from tui.widgets.choice_list import ChoiceList
from tui.widgets.labels import fit, muted, safe
from tui.worker_errors import SpokenErrors

RUNS_OFFERED = 200
_NAME_WIDTH = 28


class OtherRunScreen(SpokenErrors, ModalScreen[Path | None]):
    """Offers the finished runs; dismissed with the folder of one, or with nothing.

    Args:
        backend: The engine.
        but: The run that is there already.
    """

    CSS_PATH = "other_run.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "cancel", "Cancel")]

    class RunsRead(Message):
        """The runs were read."""

        def __init__(self, runs: list[RunRow]) -> None:
            super().__init__()
            self.runs = runs

    def __init__(self, backend: Backend, but: Path) -> None:
        super().__init__()
        self._backend = backend
        self._but = but
        self._runs: list[RunRow] = []

    def compose(self) -> ComposeResult:
        """Yield the question over the runs."""
        with Vertical(id="other-run"):
            yield Static(Content("Which run is to stand beside?"), classes="question")
            yield ChoiceList(list_id="other-runs")
            yield Static(Content("Reading the runs …"), id="other-note")

    def on_mount(self) -> None:
        """Read the runs in a thread."""
        self.query_one(OptionList).focus()
        self._read()

    @work(thread=True, group="other-runs", exit_on_error=False)
    def _read(self) -> None:
        runs = [run for run in self._backend.runs(RUNS_OFFERED) if run.state == "finished" and run.path != self._but]
        self.post_message(self.RunsRead(runs))

    @on(RunsRead)
    def _show(self, message: RunsRead) -> None:
        self._runs = message.runs
        listed = self.query_one(OptionList)
        listed.add_options([Option(_words(run)) for run in self._runs])
        listed.highlighted = 0 if self._runs else None
        keys = "enter takes it · esc closes" if self._runs else "There is no other finished run. esc closes"
        self.query_one("#other-note", Static).update(Content(keys))

    @on(OptionList.OptionSelected)
    def _chosen(self, message: OptionList.OptionSelected) -> None:
        self.dismiss(self._runs[message.option_index].path)

    def action_cancel(self) -> None:
        """Answer with nothing."""
        self.dismiss(None)


def _words(run: RunRow) -> Content:
    return Content.assemble(safe(fit(run.name, _NAME_WIDTH)), " ", muted(run.run_id))
