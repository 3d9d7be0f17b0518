"""Step 3: the data. A picker, the reading under way, a question where rows are unclear, and what was found."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.planning.profiles import DataProfile
from engine.recipe.problems import Problem
from tui.widgets.help_line import Explanation
from tui.widgets.labels import problem_label, tail
from tui.widgets.path_input import PathSuggester
from tui.widgets.pick_list import PickList, PickRow
from tui.widgets.segments import Segments
from tui.wizard.columns import ColumnsView, reading_of
from tui.wizard.data_sources import (
    DATA_SUFFIXES,
    HELP,
    builtin_for,
    files_here,
    picker_rows,
    source_text,
    typed_source,
)
from tui.wizard.data_text import CERTAIN, rows_content, rows_line, summary_content, work_content, work_words
from tui.wizard.facts import data_key, data_ready, step_problems
from tui.wizard.lengths import LengthsView
from tui.wizard.offers import UNSURE, OffersView
from tui.wizard.problems_view import ProblemsView, setting_words
from tui.wizard.settings_offered import offered_settings
from tui.wizard.step_view import Answered, Asked, Explained, StepView

VIEWS = ("Rows", "Lengths", "Problems", "Columns")
ROWS, LENGTHS, PROBLEMS, COLUMNS = range(4)
_PARTS = ("PickList", "#data-status", "#data-summary", "Segments", "#data-view")
_VIEWS = ("LengthsView", "ProblemsView", "ColumnsView", "OffersView")
_SHAPE_PATHS = ("data.mapping", "data.format")
_TICK_S = 0.5
AGAIN = "again"
"""Row that reads the same data once more."""


class DataStep(StepView):
    """A picker until data is chosen, then what was found in it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "other_data", "Other data", id="data.other"),
        Binding("left", "turn(-1)", "View", show=False),
        Binding("right", "turn(1)", "View", show=False),
    ]

    def compose(self) -> ComposeResult:
        """Yield picker, findings and views; the mode decides which of them show."""
        yield Static(id="data-status", classes="facts")
        yield PickList(
            placeholder="Type a path (tab completes), or choose below", suggester=PathSuggester(suffixes=DATA_SUFFIXES)
        )
        yield Static(id="data-summary", classes="facts")
        yield Segments(VIEWS)
        with VerticalScroll(id="data-view"):
            yield Static(id="data-text")
        yield LengthsView()
        yield ProblemsView(self.backend)
        yield ColumnsView()
        yield OffersView()

    def on_mount(self) -> None:
        """Offer files, or show what is known of the data that was chosen."""
        self._files = files_here()
        self._recent: list[str] = []
        self._builtin = builtin_for(self.backend.builtin_data(), str(self.draft.value("objective") or ""))
        self._picking = not self.draft.value("data.source")
        self._by_hand = False
        self._shown = ""
        self._known: tuple[str, DataProfile] | None = None
        self._began = (data_key(self.draft), time.monotonic())
        self._list_rows()
        self.show()
        self.set_interval(_TICK_S, self._tick)
        self.run_worker(self._find_recent(), group="recent", exit_on_error=False)

    def on_resize(self) -> None:
        """Fit rows and findings into the width, which is not known when the step is mounted."""
        self.show()

    async def _find_recent(self) -> None:
        self._recent = await asyncio.to_thread(self.backend.recent_data)
        if self.is_mounted and self._recent:
            self._list_rows()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keep the keys of the views out of the picker."""
        if action == "other_data":
            return not self._picking
        if action == "turn":
            return self._mode == "panel"
        return True

    # --- which part shows --------------------------------------------------------------------------------------------

    @property
    def _source(self) -> str:
        return source_text(self.draft.value("data.source"))

    @property
    def _profile(self) -> DataProfile | None:
        """What was found; while other answers about the same data are read, what was found before."""
        if self.facts.data is not None:
            return self.facts.data
        return self._known[1] if self._known is not None and self._known[0] == self._source else None

    @property
    def _mode(self) -> str:
        if self._picking or not self.draft.value("data.source"):
            return "pick"
        if data_ready(self.draft, self.facts):
            return "failed" if self._blocked_elsewhere() else "panel"
        if self._unclear():
            return "by-hand" if self._by_hand else "unclear"
        if self.facts.data_state.progress == "failed" or self._blocked_elsewhere():
            return "failed"
        return "panel" if self._profile is not None else "busy"

    def _blocked_elsewhere(self) -> bool:
        """Whether an answer is wrong that stands before the rows, such as a model without a tokenizer."""
        return any(p.severity == "error" and not p.path.startswith("data.") for p in self._problems())

    def _unclear(self) -> bool:
        """Whether a person has to say how rows are read."""
        look, state = self.facts.data_look, self.facts.data_state
        if look is None or not look.columns:
            return False
        if state.progress == "failed":
            return any(problem.path in _SHAPE_PATHS for problem in state.problems)
        chosen = any(self.draft.value(path) for path in _SHAPE_PATHS)
        return self._by_hand or (not chosen and bool(look.offers) and look.offers[0].confidence < CERTAIN)

    def _problems(self) -> list[Problem]:
        return step_problems("data", self.draft, self.facts)

    def show(self) -> None:
        """Bring the parts in line with the facts."""
        if not self.is_mounted:
            return
        self._remember()
        mode, view = self._mode, self.query_one(Segments).index
        shown = _shown_parts(mode, view)
        for selector in (*_PARTS, *_VIEWS):
            self.query_one(selector).display = selector in shown
        self._fill(mode, view)
        if mode != self._shown:
            self._shown = mode
            self.focus_start()
            self.screen.refresh_bindings()

    def _remember(self) -> None:
        key = data_key(self.draft)
        if key != self._began[0]:
            self._began = (key, time.monotonic())
        if data_ready(self.draft, self.facts) and self.facts.data is not None:
            self._known, self._by_hand = (self._source, self.facts.data), False
        elif self.facts.data_state.progress == "failed":
            self._known = None

    def _tick(self) -> None:
        """Let the seconds of a reading go on."""
        if self.facts.data_state.progress == "busy" and not self._picking:
            self.show()

    def _fill(self, mode: str, view: int) -> None:
        profile, look = self._profile, self.facts.data_look
        if mode in ("busy", "failed"):
            self.query_one("#data-status", Static).update(self._status(mode))
        if mode == "failed":
            self._list_rows()
        elif mode == "unclear" and look is not None:
            self.query_one(OffersView).point(look, self.facts.data_state.problems, self._work(), self.size.width)
        elif mode == "by-hand":
            self._show_columns(None)
        elif mode == "panel" and profile is not None:
            self._fill_panel(profile, view)

    def _fill_panel(self, profile: DataProfile, view: int) -> None:
        summary = summary_content(profile, self._problems()) if view == ROWS else rows_line(profile)
        self.query_one("#data-summary", Static).update(summary)
        self.query_one("#data-summary").set_class(view != ROWS, "-brief")
        if view == ROWS:
            self.query_one("#data-text", Static).update(rows_content(profile, max(20, self.size.width - 4)))
        elif view == LENGTHS:
            self.query_one(LengthsView).point(self.draft, self.facts.model, profile)
        elif view == PROBLEMS:
            self.query_one(ProblemsView).point(
                self.draft, profile, self._findings(profile), self._work(), self.size.width
            )
        else:
            self._show_columns(profile)

    def _findings(self, profile: DataProfile) -> list[Problem]:
        """Return what is said of the data; while it is read anew, what was said of it before."""
        if self.facts.data is not None:
            return self._problems()
        return [Problem(f.code, f.message, f.fix, f.path, f.severity) for f in profile.findings]

    def _show_columns(self, profile: DataProfile | None) -> None:
        problems = [p for p in self.facts.data_state.problems if p.path in _SHAPE_PATHS and p.code != UNSURE]
        note = problem_label(problems[0]) if problems else Content(self._work())
        reading = reading_of(self.draft, profile, self.facts.data_look)
        self.query_one(ColumnsView).point(self.draft, reading, note, self.size.width)

    def _work(self) -> str:
        """Return how far a reading is; empty when none is under way."""
        if self.facts.data_state.progress != "busy":
            return ""
        return work_words(self.facts.data_work, self.facts.data_look, time.monotonic() - self._began[1])

    def _status(self, mode: str) -> Content:
        source = tail(self._source, 48)
        if mode == "busy":
            if self.facts.data_state.progress != "busy":
                return Content.styled(f"◌ Reading {source} once the model is read…", "bold $primary")
            elapsed_s = time.monotonic() - self._began[1]
            return work_content(source, self.facts.data_work, self.facts.data_look, elapsed_s)
        return Content("\n").join([problem_label(problem) for problem in self._problems()[:4]])

    def focus_start(self) -> None:
        """Focus the part that shows."""
        mode = self._mode
        if mode in ("pick", "failed"):
            self.query_one(PickList).take_focus()
            self.post_message(Explained(Explanation("Data", HELP)))
        elif mode == "panel":
            lists = {LENGTHS: "#data-lengths", PROBLEMS: "#data-problems", COLUMNS: "#data-columns"}
            view = self.query_one(Segments).index
            self.query_one(lists.get(view, "#data-view")).focus()
            if view == ROWS and self._profile is not None:
                self.post_message(Explained(Explanation("What was found", self._profile.evidence)))
        elif mode in ("unclear", "by-hand"):
            self.query_one("#offers" if mode == "unclear" else "#data-columns").focus()
        else:
            self.screen.set_focus(None)
            self.post_message(Explained(Explanation("Reading", "You may go on to other steps meanwhile; esc cancels.")))

    def leave_transient(self) -> bool:
        """Leave the choice of a column, cancel reading, or close the picker over data that was read."""
        if self.query_one(ColumnsView).display and self.query_one(ColumnsView).leave_role():
            return True
        if self._by_hand and self._mode == "by-hand":
            self._by_hand = False
            self.show()
            return True
        if not self._picking and self.facts.data_state.progress == "busy":
            self.post_message(Asked("cancel"))
            return True
        picker = self.query_one(PickList)
        if picker.display and picker.text:
            picker.text = ""
            return True
        if self._picking and self.draft.value("data.source"):
            self._picking = False
            self.show()
            return True
        return False

    def action_other_data(self) -> None:
        """Open the picker again."""
        self._picking = True
        self._list_rows()
        self.show()

    @on(OffersView.ByHandWanted)
    def _open_columns(self) -> None:
        self._by_hand = True
        self.show()

    # --- the picker --------------------------------------------------------------------------------------------------

    def _offered(self) -> list[Mapping[str, Any]]:
        """Return the settings that the problems of a failed reading name."""
        return offered_settings(self._problems(), self.backend) if self._mode == "failed" else []

    def _list_rows(self) -> None:
        picker = self.query_one(PickList)
        typed = picker.text.strip()
        rows = [] if typed else [_setting_row(number, setting) for number, setting in enumerate(self._offered())]
        rows += [_again_row(self._source)] if self._mode == "failed" and not typed else []
        rows += picker_rows(typed, self._builtin, self._recent, self._files)
        picker.set_rows(rows)

    @on(PickList.TextChanged)
    def _filter(self, _event: PickList.TextChanged) -> None:
        self._list_rows()

    @on(PickList.Highlighted)
    def _highlighted(self, event: PickList.Highlighted) -> None:
        if not self.query_one(PickList).display:
            return  # Its list was filled before what was found took its place.
        text = HELP
        kind, _, number = event.row_id.partition("-")
        if kind == "builtin":
            text = self._builtin[int(number)].summary
        elif kind == "setting" and int(number) < len(offered := self._offered()):
            text = f"Enter sets {setting_words(offered[int(number)])} and reads the data again."
        elif kind == AGAIN:
            text = "Enter reads the same data again, such as after a file was corrected."
        self.post_message(Explained(Explanation("Data", text)))

    @on(PickList.Picked)
    def _picked(self, event: PickList.Picked) -> None:
        kind, _, number = event.row_id.partition("-")
        if kind == "setting":
            self.post_message(Answered(self._offered()[int(number)]))
            return
        if kind == AGAIN:
            self.post_message(Asked("inspect"))
            return
        source = self._picked_source(kind, number)
        if not source:
            return
        self._picking = False
        if source == self.draft.value("data.source"):
            self.post_message(Asked("inspect"))
        self.query_one(PickList).text = ""
        self.post_message(Answered({"data.source": source}, ("data.mapping", "data.format")))

    def _picked_source(self, kind: str, number: str) -> str | list[str]:
        if kind == "builtin":
            return self._builtin[int(number)].name
        if kind == "recent":
            return self._recent[int(number)]
        if kind == "file":
            return str(self._files[int(number)])
        return typed_source(self.query_one(PickList).text.strip())

    # --- views -------------------------------------------------------------------------------------------------------

    @on(Segments.Chosen)
    def _chosen_view(self, event: Segments.Chosen) -> None:
        self._turn_to(event.index)

    def action_turn(self, by: int) -> None:
        """Open the next or the previous view."""
        self._turn_to(self.query_one(Segments).index + by)

    def _turn_to(self, index: int) -> None:
        self.query_one(ColumnsView).leave_role()
        self.query_one(Segments).point(index)
        self.query_one("#data-view", VerticalScroll).scroll_home(animate=False)
        self.show()
        self.focus_start()


def _shown_parts(mode: str, view: int) -> tuple[str, ...]:
    """Return which parts a mode shows."""
    views = {ROWS: "#data-view", LENGTHS: "LengthsView", PROBLEMS: "ProblemsView", COLUMNS: "ColumnsView"}
    return {
        "pick": ("PickList",),
        "failed": ("#data-status", "PickList"),
        "busy": ("#data-status",),
        "unclear": ("OffersView",),
        "by-hand": ("ColumnsView",),
        "panel": ("#data-summary", "Segments", views[view]),
    }[mode]


def _again_row(source: str) -> PickRow:
    return PickRow(AGAIN, Content.assemble((" → Read again ", "bold $success"), (tail(source, 48), "bold")))


def _setting_row(number: int, setting: Mapping[str, Any]) -> PickRow:
    text = Content.assemble((" → Set ", "bold $success"), (setting_words(setting), "bold"), " and read again")
    return PickRow(f"setting-{number}", text)
