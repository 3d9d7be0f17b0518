"""Step 3: the data, what was found in it, and how the model will see it."""

import os
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.paths import typed_path
from engine.recipe.problems import Problem
from engine.recipe.schema_data import source_paths
from engine.text import clean_line
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import Explanation
from tui.widgets.labels import muted, problem_label, tail
from tui.widgets.path_input import PathSuggester, looks_like_path
from tui.widgets.pick_list import PickList, PickRow
from tui.widgets.segments import Segments
from tui.wizard.columns import NOTHING, ROLE_HELP, column_rows, rebound_mapping, role_rows
from tui.wizard.data_text import preview_content, rows_content, summary_content
from tui.wizard.facts import data_ready, step_problems
from tui.wizard.step_view import Answered, Asked, Explained, StepView

DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md", ".jsonl.gz")
MAX_LISTED_FILES = 12
TYPED = "typed"
VIEWS = ("Rows", "As the model sees it", "Columns")
_PICKER_HELP = "One file with rows or text, a folder of them, or the built-in data; several are split by commas."


class DataStep(StepView):
    """A picker until data is chosen, then what was found in it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "other_data", "Other data", id="data.other"),
        Binding("left", "turn(-1)", "View", show=False),
        Binding("right", "turn(1)", "View", show=False),
    ]

    def compose(self) -> ComposeResult:
        """Yield picker, findings and panel; classes decide which of them show."""
        yield Static(id="data-status", classes="facts")
        yield PickList(
            placeholder="Type a path (tab completes), or choose below", suggester=PathSuggester(suffixes=DATA_SUFFIXES)
        )
        yield Static(id="data-summary", classes="facts")
        yield Segments(VIEWS)
        with VerticalScroll(id="data-view"):
            yield Static(id="data-text")
        yield ChoiceList(list_id="data-columns")

    def on_mount(self) -> None:
        """Offer files, or show what is known of the data that was chosen."""
        self._files = _files_here()
        self._picking = not self.draft.value("data.source")
        self._role = ""
        self._shown = ""
        self._list_rows()
        self.show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keep the keys of the panel out of the picker."""
        if action in ("other_data", "turn"):
            return not self._picking
        return True

    # --- which part shows --------------------------------------------------------------------------------------------

    @property
    def _mode(self) -> str:
        state = self.facts.data_state.progress
        if self._picking or not self.draft.value("data.source"):
            return "pick"
        if state == "failed" or any(p.severity == "error" and not p.path.startswith("data.") for p in self._problems()):
            return "failed"
        return "panel" if data_ready(self.draft, self.facts) else "busy"

    def _problems(self) -> list[Problem]:
        return step_problems("data", self.draft, self.facts)

    def show(self) -> None:
        """Bring the parts in line with the facts."""
        mode = self._mode
        view = self.query_one(Segments).index
        self.query_one(PickList).display = mode in ("pick", "failed")
        self.query_one("#data-status").display = mode in ("busy", "failed")
        for selector in ("#data-summary", "Segments"):
            self.query_one(selector).display = mode == "panel"
        self.query_one("#data-view").display = mode == "panel" and view < 2
        self.query_one("#data-columns").display = mode == "panel" and view == 2
        self.query_one("#data-status", Static).update(self._status(mode))
        if mode == "panel" and self.facts.data is not None:
            self.query_one("#data-summary", Static).update(summary_content(self.facts.data, self._problems()))
            self._show_view(view)
        if mode != self._shown:
            self._shown = mode
            self.focus_start()
            self.screen.refresh_bindings()

    def _status(self, mode: str) -> Content:
        source = tail(_source_text(self.draft.value("data.source")), 48)
        if mode == "busy":
            waiting = "" if self.facts.data_state.progress == "busy" else " once the model is read"
            return Content.assemble(
                (f"◌ Reading {source}{waiting}…", "bold $primary"), ("  esc cancels", "$text-muted")
            )
        return Content("\n").join([problem_label(problem) for problem in self._problems()[:4]])

    def _show_view(self, view: int) -> None:
        if self.facts.data is None:
            return
        if view == 2:
            self._show_columns()
            return
        text = self.query_one("#data-text", Static)
        width = max(20, self.size.width - 4)
        if view == 0:
            text.update(rows_content(self.facts.data, width))
        else:
            text.update(preview_content(self.facts.preview, self.facts.preview_problem, width))

    def focus_start(self) -> None:
        """Focus the part that shows."""
        mode = self._mode
        if mode in ("pick", "failed"):
            self.query_one(PickList).take_focus()
            self.post_message(Explained(Explanation("Data", _PICKER_HELP)))
        elif mode == "panel":
            panel = "#data-columns" if self.query_one(Segments).index == 2 else "#data-view"
            self.query_one(panel).focus()
            self.post_message(Explained(self._panel_explanation()))

    def _panel_explanation(self) -> Explanation:
        profile = self.facts.data
        evidence = profile.evidence if profile is not None else ""
        return Explanation("What was found", evidence)

    def leave_transient(self) -> bool:
        """Leave the choice of a column, cancel reading, or close the picker over data that was read."""
        if self._role:
            self._role = ""
            self._show_columns()
            return True
        if self._mode == "busy" and self.facts.data_state.progress == "busy":
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

    # --- the picker --------------------------------------------------------------------------------------------------

    def _list_rows(self) -> None:
        picker = self.query_one(PickList)
        wanted = picker.text.strip()
        rows: list[PickRow] = []
        if wanted and (looks_like_path(wanted) or os.path.exists(typed_path(wanted)) or "," in wanted):
            rows.append(PickRow(TYPED, Content.assemble((" → Read ", "bold $success"), (clean_line(wanted), "bold"))))
        for index, choice in enumerate(self.backend.builtin_data()):
            if wanted.lower() in f"{choice.name} {choice.title}".lower():
                text = Content.assemble((f" ◆ {choice.title:<28}", "bold"), muted(choice.name))
                rows.append(PickRow(f"builtin-{index}", text))
        here = [(index, path) for index, path in enumerate(self._files) if wanted.lower() in path.name.lower()]
        if here:
            folder = tail(Path.cwd(), 56)
            rows.append(
                PickRow("here", Content.assemble(("\n In this folder  ", "bold $accent"), muted(folder)), False)
            )
            rows += [PickRow(f"file-{index}", _file_row(path)) for index, path in here]
        if not rows:
            rows.append(PickRow(TYPED, Content.assemble((" → Read ", "bold $success"), (clean_line(wanted), "bold"))))
        picker.set_rows(rows)

    @on(PickList.TextChanged)
    def _filter(self, _event: PickList.TextChanged) -> None:
        self._list_rows()

    @on(PickList.Highlighted)
    def _highlighted(self, event: PickList.Highlighted) -> None:
        text = _PICKER_HELP
        if event.row_id.startswith("builtin-"):
            text = self.backend.builtin_data()[int(event.row_id.removeprefix("builtin-"))].summary
        self.post_message(Explained(Explanation("Data", text)))

    @on(PickList.Picked)
    def _picked(self, event: PickList.Picked) -> None:
        source = self._picked_source(event.row_id)
        if not source:
            return
        self._picking = False
        if source == self.draft.value("data.source"):
            self.post_message(Asked("inspect"))
        self.query_one(PickList).text = ""
        self.post_message(Answered({"data.source": source}, ("data.mapping", "data.format")))

    def _picked_source(self, row_id: str) -> str | list[str]:
        if row_id.startswith("builtin-"):
            return self.backend.builtin_data()[int(row_id.removeprefix("builtin-"))].name
        if row_id.startswith("file-"):
            return str(self._files[int(row_id.removeprefix("file-"))])
        return typed_source(self.query_one(PickList).text.strip())

    # --- views -------------------------------------------------------------------------------------------------------

    @on(Segments.Chosen)
    def _chosen_view(self, event: Segments.Chosen) -> None:
        self._turn_to(event.index)

    def action_turn(self, by: int) -> None:
        """Open the next or the previous view."""
        self._turn_to(self.query_one(Segments).index + by)

    def _turn_to(self, index: int) -> None:
        self._role = ""
        self.query_one(Segments).point(index)
        self.query_one("#data-view", VerticalScroll).scroll_home(animate=False)
        self.show()
        self.focus_start()

    def _show_columns(self) -> None:
        if self.facts.data is None:
            return
        rows = column_rows(self._role, self.facts.data) if self._role else role_rows(self.draft, self.facts.data)
        listed = self.query_one("#data-columns", OptionList)
        kept = listed.highlighted or 0
        listed.set_options([Option(content, id=row_id) for row_id, content in rows])
        listed.highlighted = min(kept, len(rows) - 1)

    @on(OptionList.OptionHighlighted, "#data-columns")
    def _explain_role(self, event: OptionList.OptionHighlighted) -> None:
        role = self._role or (event.option_id or "")
        self.post_message(
            Explained(Explanation(role.capitalize(), ROLE_HELP.get(role, "Which column plays this role.")))
        )

    @on(OptionList.OptionSelected, "#data-columns")
    def _choose_column(self, event: OptionList.OptionSelected) -> None:
        profile, option_id = self.facts.data, event.option_id or ""
        if profile is None:
            return
        if not self._role:
            self._role = option_id
            self._show_columns()
            return
        role, self._role = self._role, ""
        self._rebind(role, option_id)

    def _rebind(self, role: str, column: str) -> None:
        profile = self.facts.data
        if profile is None:
            return
        if role == "shape":
            detected = column == NOTHING
            changes: dict[str, Any] = {} if detected else {"data.format": column}
            cleared = ("data.mapping", "data.format") if detected else ("data.mapping",)
            self.post_message(Answered(changes, cleared))
            return
        self.post_message(Answered({"data.mapping": rebound_mapping(profile, role, column)}))


def typed_source(text: str) -> str | list[str]:
    """Return what a person typed as one path or several; existing files become absolute.

    A draft may be continued from another folder, so a path that means something here must not depend on it.
    """
    if "," in text and not os.path.exists(typed_path(text)):
        return [_absolute(part.strip()) for part in text.split(",") if part.strip()]
    return _absolute(text)


def _absolute(text: str) -> str:
    path = typed_path(text)
    return str(path.resolve()) if os.path.exists(path) else text


def _source_text(source: Any) -> str:
    return ", ".join(source_paths(source))


def _file_row(path: Path) -> Content:
    return Content.assemble("   ", (clean_line(path.name, max_chars=60), ""))


def _files_here() -> list[Path]:
    try:
        found = sorted(path for path in Path.cwd().iterdir() if path.name.lower().endswith(DATA_SUFFIXES))
    except OSError:
        return []
    return [path for path in found if not path.name.startswith((".", "README", "CHANGELOG"))][:MAX_LISTED_FILES]
