"""All runs in one table: ordered, filtered, marked, and led on to their curves, their result or their monitor."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.recipe.problems import ProblemError
from tui.backend import Backend, RunRow
from tui.runs.table import Family, TableState, arranged, explanation, family_of, header, hidden_order, line
from tui.widgets.bars import TopBar
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import HelpLine
from tui.widgets.key_footer import KeyFooter
from tui.widgets.loss_chart import MOST_RUNS
from tui.worker_errors import SpokenErrors

if TYPE_CHECKING:
    from tui.app import FtwizardApp

POLL_S = 2.0
_ALL_RUNS = 100_000


class RunList(ChoiceList):
    """The runs; space marks instead of choosing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "screen.mark", "Mark", id="runs.mark"),
        Binding("enter", "select", "Open", id="runs.open"),
    ]


class RunsScreen(SpokenErrors, Screen[None]):
    """The table.

    Args:
        backend: The engine.
    """

    app: "FtwizardApp"
    CSS_PATH = "runs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "curves", "Curves", id="runs.curves"),
        Binding("s", "sort", "Sort", id="runs.sort"),
        Binding("slash", "filter", "Filter", id="runs.filter"),
        Binding("u", "turn", "Turn the order round", show=False, id="runs.turn"),
        Binding("a", "answers", "Answers side by side", show=False, id="runs.answers"),
        Binding("escape", "leave", "Back", show=False, id="runs.back"),
        Binding("q", "leave", "Back", show=False),
    ]

    class RunsRead(Message):
        """The runs were read; `error` says why not, and is empty otherwise."""

        def __init__(self, runs: list[RunRow], error: str = "") -> None:
            super().__init__()
            self.runs = runs
            self.error = error

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self._backend = backend
        self._runs: dict[str, RunRow] = {}
        self._family = Family()
        self._state = TableState()
        self._shown: dict[str, Content] = {}
        self._reading = False
        self._error = ""

    def compose(self) -> ComposeResult:
        """Yield head, list, what the line under the cursor means, and the row for the filter."""
        yield TopBar("runs", "Reading …")
        yield Static(id="runs-head")
        yield RunList(list_id="runs-list")
        yield HelpLine(id="runs-help")
        yield Input(placeholder="Words of name, state, method or model; esc shows all", compact=True, id="runs-filter")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the runs, and again every two seconds."""
        self.query_one("#runs-filter").display = False
        self.query_one(RunList).focus()
        self._read()
        self.set_interval(POLL_S, self._poll)

    def on_screen_resume(self) -> None:
        """Read again what may have changed meanwhile."""
        self._read()

    def _poll(self) -> None:
        if self.is_current:
            self._read()

    def _read(self) -> None:
        if not self._reading:
            self._reading = True
            self._read_in_thread()

    @work(thread=True, group="runs-read", exit_on_error=False)
    def _read_in_thread(self) -> None:
        try:
            self.post_message(self.RunsRead(self._backend.runs(_ALL_RUNS)))
        except (OSError, ProblemError) as error:
            self.post_message(self.RunsRead([], str(error)))

    def work_failed(self, group: str) -> None:
        """Go on polling."""
        self._reading = False

    @on(RunsRead)
    def _take(self, message: RunsRead) -> None:
        self._reading = False
        self._error = message.error
        self._runs = {run.run_id: run for run in message.runs}
        self._family = family_of(message.runs)
        kept = tuple(name for name in self._state.marked if name in self._runs)
        self._state = replace(self._state, marked=kept)
        self._show()

    # --- drawing ----------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Lay the columns out for the new width."""
        self._show()

    def _show(self) -> None:
        width = self.size.width
        if not width:
            return
        rows = arranged(list(self._runs.values()), self._state, self._family)
        marked, now = set(self._state.marked), time.time()
        fresh = {
            run.run_id: line(
                run, depth, marked=run.run_id in marked, family=self._family, now=now, width=width
            )
            for run, depth in rows
        }  # fmt: skip
        self.query_one("#runs-head", Static).update(header(self._state, width))
        self._update_list(fresh)
        self.query_one(TopBar).show_fact(self._fact(len(rows)))
        if not rows:
            self._say_nothing_there()

    def _update_list(self, fresh: dict[str, Content]) -> None:
        """Send only the lines that changed where the order stays."""
        listed = self.query_one(RunList)
        if list(fresh) == list(self._shown):
            for run_id, content in fresh.items():
                if not content.is_same(self._shown[run_id]):
                    listed.replace_option_prompt(run_id, content)
            self._shown = fresh
            return
        kept = self._under_cursor
        self._shown = fresh
        listed.set_options([Option(content, id=run_id) for run_id, content in fresh.items()])
        ids = list(fresh)
        listed.highlighted = (ids.index(kept) if kept in fresh else 0) if ids else None

    def _fact(self, num_shown: int) -> str:
        if self._error:
            return f"Cannot be read: {self._error}"
        counts = f"{num_shown} of {len(self._runs)}" if num_shown != len(self._runs) else f"{num_shown}"
        marked = f", {len(self._state.marked)} marked" if self._state.marked else ""
        ordered = hidden_order(self._state, self.size.width)
        word = "run" if counts == "1" else "runs"
        return f"{counts} {word}{marked}{f', {ordered}' if ordered else ''}"

    def _say_nothing_there(self) -> None:
        from tui.widgets.help_line import Explanation

        text = "No run has these words; esc shows all." if self._runs else "There are no runs yet; n starts one."
        self.query_one(HelpLine).explain(Explanation(text))

    @property
    def _under_cursor(self) -> str:
        option = self.query_one(RunList).highlighted_option
        return option.id or "" if option is not None else ""

    @on(OptionList.OptionHighlighted)
    def _explain(self, event: OptionList.OptionHighlighted) -> None:
        run = self._runs.get(event.option_id or "")
        if run is not None:
            self.query_one(HelpLine).explain(explanation(run, self._family))

    # --- keys -------------------------------------------------------------------------------------------------------

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        if self._state.marked:
            self.action_curves()
        elif (run := self._runs.get(event.option_id or "")) is not None:
            self.app.open_run(run)

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take the mark back, and go on to the next."""
        run_id = self._under_cursor
        if not run_id:
            return
        if run_id not in self._state.marked and len(self._state.marked) == MOST_RUNS:
            self.notify(f"{MOST_RUNS} runs are the most for one picture.", severity="warning", markup=False)
            return
        self._state = self._state.with_mark_turned(run_id)
        self._show()
        listed = self.query_one(RunList)
        if listed.highlighted is not None and listed.highlighted < len(self._shown) - 1:
            listed.highlighted += 1

    def action_curves(self) -> None:
        """Draw the marked runs in one picture, or the one under the cursor."""
        from tui.runs.curves_screen import CurvesScreen

        names = self._state.marked or ((self._under_cursor,) if self._under_cursor else ())
        if names:
            self.app.push_screen(CurvesScreen([self._runs[name] for name in names]))

    def action_answers(self) -> None:
        """Let models answer side by side: of the run under the cursor, or of two marked ones."""
        names = self._state.marked[:2] or ((self._under_cursor,) if self._under_cursor else ())
        runs = [self._runs[name] for name in names]
        if not runs:
            return
        if any(run.state != "finished" for run in runs):
            self.notify("Only finished runs have left a model to ask.", severity="warning", markup=False)
            return
        self.app.open_compare(runs[0].path, runs[1].path if len(runs) > 1 else None)

    def action_sort(self) -> None:
        """Order by the next column."""
        self._state = self._state.next_sort()
        self._show()

    def action_turn(self) -> None:
        """Turn the order round."""
        self._state = replace(self._state, turned=not self._state.turned)
        self._show()

    def action_filter(self) -> None:
        """Open the row to type in."""
        typed = self.query_one("#runs-filter", Input)
        typed.display = True
        typed.focus()

    @on(Input.Changed, "#runs-filter")
    def _filter(self, event: Input.Changed) -> None:
        self._state = replace(self._state, words=event.value)
        self._show()

    @on(Input.Submitted, "#runs-filter")
    def _filtered(self) -> None:
        self.query_one(RunList).focus()

    def action_leave(self) -> None:
        """Show all runs again where they are filtered, else go back."""
        typed = self.query_one("#runs-filter", Input)
        if typed.display:
            typed.value = ""
            typed.display = False
            self.query_one(RunList).focus()
        else:
            self.app.leave_screen()
