"""The first screen: start, go on with a draft, take a preset, look at a run."""

import time
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList, Static

from engine.recipe.problems import ProblemError
from tui.backend import Backend, Machine, PresetRow, RunRow
from tui.home.entries import Entry, home_entries, machine_content
from tui.widgets.bars import TopBar
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import HelpLine
from tui.widgets.key_footer import KeyFooter
from tui.wizard.draft import FoundDraft, forget_draft, newest_draft
from tui.worker_errors import SpokenErrors

if TYPE_CHECKING:
    from tui.app import FtwizardApp

RUNS_SHOWN = 50
RUNS_POLL_S = 2.0


def _home_commands() -> type[Provider]:
    from tui.home.commands import HomeCommands

    return HomeCommands


class HomeScreen(SpokenErrors, Screen[None]):
    """Machine, drafts, presets and runs in one list."""

    app: "FtwizardApp"
    COMMANDS: ClassVar[set[Any]] = {_home_commands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new_run", "New run", id="home.new_run"),
        Binding("r", "runs", "All runs", id="home.runs"),
        Binding("c", "compare", "Compare", id="home.compare"),
        Binding("delete", "forget_draft", "Forget draft", id="home.forget_draft", show=False),
        Binding("q", "app.quit", "Quit", id="home.quit", show=False),
    ]

    class MachineRead(Message):
        """The hardware was read."""

        def __init__(self, machine: Machine) -> None:
            super().__init__()
            self.machine = machine

    class ListsRead(Message):
        """Runs, presets and the newest draft were read from the disk."""

        def __init__(self, runs: list[RunRow], presets: list[PresetRow], found: FoundDraft, error: str) -> None:
            super().__init__()
            self.runs = runs
            self.presets = presets
            self.found = found
            self.error = error

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend
        self.entries: dict[str, Entry] = {}
        self.presets: list[PresetRow] = []
        self._found = FoundDraft(None)
        self._reading = False

    def compose(self) -> ComposeResult:
        """Yield the bar, the machine, the list, the explanation and the keys."""
        yield TopBar("Fine-tune a model and see it learn")
        yield Static("Reading the machine…", id="machine")
        yield ChoiceList(list_id="home-list")
        yield HelpLine(id="home-help")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Show what needs no reading, then read the rest."""
        self._show_lists([], [], FoundDraft(None), reading=True)
        self.query_one(OptionList).focus()
        self._read_lists()
        self.set_interval(RUNS_POLL_S, self._poll_lists)

    def on_screen_resume(self) -> None:
        """Read again what other screens, and the runs that they started, may have changed."""
        self._read_machine()
        self._read_lists()

    def _poll_lists(self) -> None:
        if self.is_current and not self._reading:
            self._read_lists()

    def work_failed(self, group: str) -> None:
        """Go on polling, and do not wait for a machine that cannot be read."""
        if group == "lists":
            self._reading = False
        elif group == "machine":
            self.query_one("#machine", Static).update(
                Content("The machine cannot be read; `ftwizard doctor` says more.")
            )

    @work(thread=True, group="machine", exit_on_error=False)
    def _read_machine(self) -> None:
        self.post_message(self.MachineRead(self.backend.machine()))

    def _read_lists(self) -> None:
        if not self._reading:
            self._reading = True
            self._read_lists_in_thread()

    @work(thread=True, group="lists", exit_on_error=False)
    def _read_lists_in_thread(self) -> None:
        runs: list[RunRow] = []
        presets: list[PresetRow] = []
        found, error = FoundDraft(None), ""
        try:
            presets = self.backend.presets()
            found = newest_draft(self.backend.drafts_folder)
            runs = self.backend.runs(RUNS_SHOWN)
        except (OSError, ValueError, ProblemError) as problem:
            error = str(problem)
        self.post_message(self.ListsRead(runs, presets, found, error))

    @on(MachineRead)
    def _show_machine(self, message: MachineRead) -> None:
        self.query_one("#machine", Static).update(machine_content(message.machine))

    @on(ListsRead)
    def _take_lists(self, message: ListsRead) -> None:
        self._reading = False
        self._show_lists(message.runs, message.presets, message.found, error=message.error)

    def _show_lists(
        self,
        runs: list[RunRow],
        presets: list[PresetRow],
        found: FoundDraft,
        *,
        error: str = "",
        reading: bool = False,
    ) -> None:
        self._found = found
        self.presets = presets
        entries = home_entries(runs, presets, found, now=time.time(), error=error, reading=reading)
        listed = self.query_one(OptionList)
        fresh = {entry.option_id: entry for entry in entries}
        if list(fresh) == list(self.entries):
            for option_id, entry in fresh.items():
                if not entry.content.is_same(self.entries[option_id].content):
                    listed.replace_option_prompt(option_id, entry.content)
            self.entries = fresh
            return
        kept = listed.highlighted_option.id if listed.highlighted_option is not None else None
        self.entries = fresh
        listed.set_options([entry.option() for entry in entries])
        index = next((index for index, entry in enumerate(entries) if entry.option_id == kept), None)
        first = next(index for index, entry in enumerate(entries) if entry.action)
        listed.highlighted = first if index is None else index

    @on(OptionList.OptionHighlighted)
    def _explain(self, event: OptionList.OptionHighlighted) -> None:
        entry = self.entries.get(event.option_id or "")
        if entry is not None:
            self.query_one(HelpLine).explain(entry.explanation)
            self.refresh_bindings()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self._open(self.entries[event.option_id or ""])

    def action_new_run(self) -> None:
        """Open the wizard on nothing."""
        self.app.open_wizard()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Compare what has a result."""
        return self._finished_run is not None if action == "compare" else True

    @property
    def _finished_run(self) -> RunRow | None:
        """The finished run under the cursor."""
        option = self.query_one(OptionList).highlighted_option
        entry = self.entries.get(option.id or "") if option is not None else None
        run = entry.target if entry is not None else None
        return run if isinstance(run, RunRow) and run.state == "finished" else None

    def action_compare(self) -> None:
        """Let the base and the tuned model of the run under the cursor answer the same prompts."""
        if self._finished_run is not None:
            self.app.open_compare(self._finished_run.path)

    def action_runs(self) -> None:
        """Open the table of all runs."""
        self.app.open_runs()

    def action_forget_draft(self) -> None:
        """Delete the draft that is highlighted."""
        option = self.query_one(OptionList).highlighted_option
        if self._found.draft is not None and option is not None and option.id == "draft":
            forget_draft(self._found.draft, self.backend.drafts_folder)
            self._read_lists()

    def _open(self, entry: Entry) -> None:
        match entry.action, entry.target:
            case "new", _:
                self.app.open_wizard()
            case "draft", _:
                self.app.open_wizard(draft=self._found.draft)
            case "preset", str() as name:
                self.app.open_wizard(preset=name)
            case "run", RunRow() as run:
                self.app.open_run(run)
