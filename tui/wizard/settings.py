"""Step 5: every other setting. One list, one editor; basic fields first, the rest folded away."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.catalog.metrics import best_choices
from engine.catalog.objectives import OBJECTIVES
from engine.planning.rate_curve import rate_words
from engine.recipe.problems import Problem, ProblemError
from engine.text import human_bytes
from tui.terminal import utf8_locale
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import Explanation
from tui.widgets.labels import problem_label
from tui.widgets.memory_bar import Span, of_free, range_bar
from tui.widgets.rate_chart import content_of, schedule_rows
from tui.wizard.draft import Draft
from tui.wizard.facts import Facts
from tui.wizard.settings_rows import (
    FOLD,
    SettingRow,
    editable_fields,
    fitting_metrics,
    model_kind,
    resolved_value,
    setting_rows,
    source_text,
    value_text,
)
from tui.wizard.step_view import Answered, Explained, StepView

if TYPE_CHECKING:
    from engine.catalog.objectives import ModelKind
    from engine.recipe.fields import RecipeField

_UNKNOWN = object()
RATE_PATH, BEST_PATH = "training.learning_rate", "training.best_by"
_SHAPING = ("epochs", "max_steps", "effective_batch", "learning_rate", "schedule", "warmup", "min_rate")
SHAPING = frozenset(f"training.{name}" for name in _SHAPING)
"""Fields that the drawing of the learning rate depends on."""
SHORT_CHART, TALL_CHART = 4, 7


class SettingsStep(StepView):
    """A list of fields; enter edits the one under the cursor, left and right turn through choices."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "reset", "Reset", id="settings.reset"),
        Binding("f", "find_rate", "Find rate", id="settings.find_rate"),
        Binding("left", "turn(-1)", "Turn", show=False),
        Binding("right", "turn(1)", "Turn", show=False),
    ]

    def compose(self) -> ComposeResult:
        """Yield the list and the editor."""
        yield Static(id="settings-memory", classes="facts")
        yield ChoiceList(list_id="settings-list")
        yield Static(id="settings-schedule")
        with Horizontal(id="editor"):
            yield Static(id="editor-title")
            yield Input(id="editor-input", compact=True)
        yield Static(id="editor-problem", classes="facts")

    def on_mount(self) -> None:
        """Show the fields, the editor closed."""
        self._unfolded = False
        self._editing = ""
        self._rows: list[SettingRow] = []
        self._close_editor()
        self.show()

    def on_resize(self) -> None:
        """Cut the rows to the new width."""
        self.show()

    def focus_start(self) -> None:
        """Focus the list."""
        self.query_one(OptionList).focus()

    def leave_transient(self) -> bool:
        """Close the editor without taking what was typed."""
        if not self._editing:
            return False
        self._close_editor()
        self.focus_start()
        return True

    def show(self) -> None:
        """Draw the rows anew, keeping the cursor."""
        fields = editable_fields(self.backend.fields(), self.draft, self.facts)
        rows = setting_rows(fields, self.draft, self.facts, unfolded=self._unfolded, width=self.size.width or 80)
        self.query_one("#settings-memory", Static).update(memory_line(self.facts, self.size.width or 80))
        self._draw_schedule()
        listed = self.query_one(OptionList)
        if [row.row_id for row in rows] == [row.row_id for row in self._rows]:
            for row, old in zip(rows, self._rows, strict=True):
                if not row.content.is_same(old.content):
                    listed.replace_option_prompt(row.row_id, row.content)
            self._rows = rows
            return
        kept = listed.highlighted_option.id if listed.highlighted_option is not None else None
        self._rows = rows
        listed.set_options([Option(row.content, id=row.row_id, disabled=not row.pickable) for row in rows])
        ids = [row.row_id for row in rows]
        listed.highlighted = ids.index(kept) if kept in ids else next(i for i, row in enumerate(rows) if row.pickable)

    def _draw_schedule(self) -> None:
        """Draw the learning rate over the steps, where the screen is tall or the cursor is on what shapes it."""
        row, chart = self._row, self.query_one("#settings-schedule", Static)
        tall = self.screen.has_class("-tall")
        wanted = tall or (row is not None and row.path in SHAPING and not self._editing)
        plan = self.facts.plan
        height = TALL_CHART if tall else SHORT_CHART
        rows = schedule_rows(plan, max(0, self.size.width - 4), height, ascii_only=not utf8_locale()) if plan else []
        chart.update(content_of(rows))
        if chart.display != (wanted and bool(rows)):
            chart.display = not chart.display
            # The list has another height now, and its cursor may have left it.
            self.call_after_refresh(self.query_one(OptionList).scroll_to_highlight)

    # --- the row under the cursor ------------------------------------------------------------------------------------

    @property
    def _row(self) -> SettingRow | None:
        index = self.query_one(OptionList).highlighted
        return self._rows[index] if index is not None and index < len(self._rows) else None

    def _field(self, path: str) -> "RecipeField":
        return next(field for field in self.backend.fields() if field.path == path)

    @on(OptionList.OptionHighlighted)
    def _explain(self, event: OptionList.OptionHighlighted) -> None:
        row = self._row
        if row is None or event.option_id != row.row_id:
            return
        self._draw_schedule()
        if row.kind == "fold":
            text = "Settings that rarely need a hand: schedules, precision, checkpoints. Enter opens and closes them."
            self.post_message(Explained(Explanation("Advanced", text)))
        elif row.path:
            self.post_message(Explained(self._explanation(row.path)))

    def _explanation(self, path: str) -> Explanation:
        field = self._field(path)
        source = source_text(path, self.draft, self.facts)
        now = f" Now {source}." if source.startswith("derived") else ""
        if path == RATE_PATH and self.facts.plan is not None:
            # The plan is there, and with it all that this needs.
            from engine.planning.training_choices import usual_rates

            low, high = usual_rates(self.facts.plan)
            now += f" Usual here: {rate_words(low)} to {rate_words(high)}; f looks for one."
        return Explanation(field.title, field.description + now, "" if now else field.why)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        row = next((row for row in self._rows if row.row_id == event.option_id), None)
        if row is None:
            return
        if row.row_id == FOLD:
            self._unfolded = not self._unfolded
            self.show()
        elif row.kind == "choice":
            self._switch(row)
        elif not self._turned(row.path, 1):
            self._open_editor(row.path)

    def action_turn(self, by: int) -> None:
        """Take the next or the previous value of a field with fixed values; open or close the fold."""
        row = self._row
        if row is None or self._editing:
            return
        if row.kind == "fold" and self._unfolded != (by > 0):
            self._unfolded = by > 0
            self.show()
        elif row.kind == "field":
            self._turned(row.path, by)

    def _turned(self, path: str, by: int) -> bool:
        """Turn a field with fixed values by one; return whether it has such values."""
        field = self._field(path)
        values: list[Any]
        if field.accepts == ("bool",):
            values = [False, True]
        elif field.accepts == ("choice",):
            values = best_values(self.draft, model_kind(self.facts)) if path == BEST_PATH else list(field.choices)
        else:
            return False
        current = resolved_value(field, self.draft, self.facts)
        index = values.index(current) if current in values else -by if by > 0 else 0
        self.post_message(Answered({path: values[(index + by) % len(values)]}))
        return True

    def _switch(self, row: SettingRow) -> None:
        field = self._field(row.path)
        chosen = list(resolved_value(field, self.draft, self.facts) or [])
        chosen = [item for item in chosen if item != row.option] if row.option in chosen else [*chosen, row.option]
        ordered = [choice for choice in field.choices if choice in chosen]
        if not ordered:
            self.notify("At least one must stay.", severity="warning", markup=False, timeout=3)
            return
        self.post_message(Answered({row.path: ordered}))

    def action_reset(self) -> None:
        """Take back the person's own value of the field under the cursor."""
        row = self._row
        if row is not None and row.path:
            self._close_editor()
            self.focus_start()
            self.post_message(Answered({}, (row.path,)))

    def action_find_rate(self) -> None:
        """Look for a learning rate with a short sweep; its suggestion becomes the person's own value."""
        plan = self.facts.plan
        if plan is None or self.facts.plan_state.progress != "done":
            self.notify("The plan is being made.", severity="warning", markup=False, timeout=3)
            return
        from tui.wizard.rate_screen import RateScreen

        self.app.push_screen(RateScreen(self.backend, plan), self._take_rate)

    def _take_rate(self, rate: float | None) -> None:
        if rate is not None:
            self.post_message(Answered({RATE_PATH: rate}))

    # --- the editor --------------------------------------------------------------------------------------------------

    def _open_editor(self, path: str) -> None:
        field = self._field(path)
        self._editing = path
        value = self.draft.you.get(path, _UNKNOWN)
        line = self.query_one("#editor-input", Input)
        line.value = "" if value is _UNKNOWN or value in (None, "", [], {}) else value_text(value)
        shown = value_text(resolved_value(field, self.draft, self.facts), planned=self.facts.plan is not None)
        line.placeholder = f"{shown}   (enter sets, empty resets, esc leaves)"
        self.query_one("#editor-title", Static).update(Content(f" {field.title} "))
        self.query_one("#editor").display = True
        self.query_one("#editor-problem", Static).update(Content(f"  Takes {field.expected()}."))
        self.query_one("#editor-problem").display = True
        self._draw_schedule()
        line.focus()

    def _close_editor(self) -> None:
        self._editing = ""
        self.query_one("#editor").display = False
        self.query_one("#editor-problem").display = False
        self._draw_schedule()

    @on(Input.Submitted, "#editor-input")
    def _set(self, event: Input.Submitted) -> None:
        event.stop()
        path, text = self._editing, event.value
        if not text.strip():
            answer = Answered({}, (path,))
        else:
            try:
                answer = Answered({path: self.backend.parse(path, text)})
            except ProblemError as error:
                self.query_one("#editor-problem", Static).update(problem_label(_in_a_form(error.problems[0])))
                return
        self._close_editor()
        self.focus_start()
        self.post_message(answer)


def best_values(draft: Draft, kind: "ModelKind | None" = None) -> list[str]:
    """Return the metrics that can say which step is best with the objective, and `last`, which compares nothing."""
    objective = str(draft.value("objective") or "")
    known = next((entry for entry in OBJECTIVES if entry.name == objective), None)
    return [*best_choices(fitting_metrics(objective, kind) if known is not None else ()), "last"]


def memory_line(facts: Facts, width: int) -> Content:
    """Return what the settings in force need, live: a bar against what is free, the range and how it was found."""
    plan = facts.plan
    if plan is None:
        return Content.styled("Memory  ◌ not known before model and data are read", "$text-muted")
    busy = " ◌" if "busy" in (facts.plan_state.progress, facts.rehearsal.progress) else ""
    span = Span.of(plan.memory)
    low, high = human_bytes(plan.memory.low_bytes), human_bytes(plan.memory.high_bytes)
    words = f" {of_free(span)}{' free' if span.free else ''} ({low} to {high}), {plan.memory.depth}"
    verdict = "" if span.free is None else " does not fit" if span.expected > span.free else ""
    bar = max(0, min(32, width - 2 - len("Memory  ") - len(words) - len(verdict) - len(busy)))
    return Content.assemble(
        ("Memory  ", "$accent"),
        range_bar(span, bar) if bar >= 8 else "",
        (words, ""),
        (verdict, "bold $error"),
        (busy, "$primary"),
    )


def _in_a_form(problem: Problem) -> Problem:
    """Return a finding about a value with the way out that a form has: here is no file with keys to remove."""
    fix = problem.fix if problem.fix.startswith("Did you mean") else "Correct it, or empty the line for the default."
    return replace(problem, fix=fix)
