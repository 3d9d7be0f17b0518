"""Step 4: which weights learn: the plan's ranked table, live as sequence length and effective batch change."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.recipe.problems import ProblemError, blocking
from engine.text import clean_line
from tui.backend import find_choice
from tui.plan_text import length_line
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import Explanation
from tui.widgets.labels import hanging, problem_label
from tui.wizard.dials import BATCH, LENGTH, Dials, next_batch, next_length
from tui.wizard.facts import Facts, fit_problems, step_problems
from tui.wizard.option_rows import OptionRow, option_details, option_rows, table_heading, way_details
from tui.wizard.option_words import answers_of, answers_of_way, can_fit, chosen_option, recommended
from tui.wizard.step_view import Answered, Explained, StepView

if TYPE_CHECKING:
    from engine.planning.plan import PlanOption

ROOMY_ROWS = 22
"""Rows of the step from which the details say everything."""
_STEP_HELP = Explanation("Method", "Which weights learn decides on memory, time and how much the model can change.")
_MORE_HELP = Explanation(
    "More methods",
    "Methods that are taken for a reason: tiny results, many tasks on one model. Enter opens and closes.",
)
_TITLES = {LENGTH: "Sequence length in tokens", BATCH: "Effective batch in rows"}


class MethodStep(StepView):
    """Two numbers, the table, what the row under the cursor means, and how deep the estimate went."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "edit('training.max_length')", "Length", id="method.length"),
        Binding("b", "edit('training.effective_batch')", "Batch", id="method.batch"),
        Binding("left", "turn('training.max_length', -1)", "Shorter sequences", show=False),
        Binding("right", "turn('training.max_length', 1)", "Longer sequences", show=False),
        Binding("minus", "turn('training.effective_batch', -1)", "Smaller batch", show=False),
        Binding("plus", "turn('training.effective_batch', 1)", "Larger batch", show=False),
        Binding("ctrl+r", "reset", "Length and batch as the plan has them", show=False, id="method.reset"),
    ]

    def compose(self) -> ComposeResult:
        """Yield question, numbers, editor, table, details and state."""
        with Horizontal(id="method-question"):
            yield Static(Content("Which weights should learn?"), classes="question")
            yield Dials()
        with Horizontal(id="editor"):
            yield Static(id="editor-title")
            yield Input(id="editor-input", compact=True)
        yield Static(id="method-heading")
        yield ChoiceList(list_id="method-list")
        yield Static(id="method-details")
        yield Static(id="method-status", classes="facts")

    def on_mount(self) -> None:
        """Show what is known; the cursor follows the plan until the person moves it."""
        self._choices = self.backend.methods()
        self._rows: list[OptionRow] = []
        self._moved = False
        self._unfolded = False
        self._editing = ""
        self._refused = ""
        self.query_one("#editor").display = False
        self.show()

    def on_resize(self) -> None:
        """Lay the columns out for the new width."""
        self.show()

    def on_key(self) -> None:
        """Remember that the person moved: a late recommendation must not move the cursor."""
        self._moved = True

    def focus_start(self) -> None:
        """Focus the table, and explain the step while there is no row to explain."""
        self.query_one(OptionList).focus()
        if not self._rows:
            self.post_message(Explained(_STEP_HELP))

    def leave_transient(self) -> bool:
        """Close the editor without taking what was typed."""
        if not self._editing:
            return False
        self._close_editor()
        return True

    # --- showing ------------------------------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        # Two cells of padding, and the scrollbar that the list may have.
        return max(30, (self.size.width or 80) - 3)

    def show(self) -> None:
        """Draw table, details and state anew."""
        plan = self.facts.plan
        own = frozenset(path for path in (LENGTH, BATCH) if path in self.draft.you)
        self.query_one(Dials).show(plan, own)
        self.query_one("#method-heading", Static).update(table_heading(plan, self._width, unfolded=self._unfolded))
        self._show_rows([] if plan is None else option_rows(plan, self._best, self._width, unfolded=self._unfolded))
        self._show_details()
        self.query_one("#method-status", Static).update(self._status())

    @property
    def _best(self) -> "PlanOption | None":
        plan = self.facts.plan
        return None if plan is None else recommended(plan, self.facts.automatic)

    def _show_rows(self, rows: list[OptionRow]) -> None:
        listed = self.query_one(OptionList)
        ids = [row.row_id for row in rows]
        if ids == [row.row_id for row in self._rows]:
            for row, old in zip(rows, self._rows, strict=True):
                if not row.content.is_same(old.content):
                    listed.replace_option_prompt(row.row_id, row.content)
            self._rows = rows
        else:
            kept = listed.highlighted_option.id if listed.highlighted_option is not None else None
            self._rows = rows
            listed.set_options([Option(row.content, id=row.row_id, disabled=row.kind == "heading") for row in rows])
            listed.highlighted = ids.index(kept) if kept in ids else self._start_index()
        if not self._moved:
            listed.highlighted = self._start_index()
        if rows and rows[0].kind == "heading" and listed.highlighted == 1:
            # The heading says what these rows are; the cursor alone would scroll it away.
            self.call_after_refresh(listed.scroll_to, y=0, animate=False)

    def _start_index(self) -> int | None:
        """Return the row of the chosen option; of the first way where the plan does not fit."""
        plan = self.facts.plan
        if plan is None or not self._rows:
            return None
        if plan.ways:
            return next(index for index, row in enumerate(self._rows) if row.kind == "way")
        chosen = chosen_option(plan)
        return next((index for index, row in enumerate(self._rows) if row.option is chosen), 0)

    @property
    def _row(self) -> OptionRow | None:
        index = self.query_one(OptionList).highlighted
        return self._rows[index] if index is not None and index < len(self._rows) else None

    def _show_details(self) -> None:
        row, plan = self._row, self.facts.plan
        lines: list[Content] = []
        if plan is not None and row is not None and row.option is not None:
            roomy = self.size.height >= ROOMY_ROWS
            lines = option_details(row.option, plan, self._best, self._width, roomy=roomy)
            if roomy and (words := length_line(plan.lengths, plan.recipe.training.max_length)):
                label = "length"
                wrapped = hanging(f"{words}.", len(label) + 1, self._width).lstrip()
                lines.append(Content.assemble((f"{label} ", "$accent"), wrapped))
        elif row is not None and row.way is not None:
            lines = way_details(row.way, self._width)
        self.query_one("#method-details", Static).update(Content("\n").join(lines))

    def _status(self) -> Content:
        if self._refused:
            return Content.styled(f"✗ {clean_line(self._refused)}", "$error")
        problems = blocking(step_problems("method", self.draft, self.facts)) or list(self.facts.plan_state.problems)
        if problems:
            return problem_label(problems[0])
        if too_large := fit_problems(self.facts):
            # The fix that the finding names is in the rows above: the ways.
            fix = too_large[0].fix if self.facts.plan is None or not self.facts.plan.ways else ""
            return problem_label(replace(too_large[0], fix=fix))
        return estimate_state(self.facts, self._width)

    # --- choosing -----------------------------------------------------------------------------------------------------

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        row = self._row
        if row is None or event.option_id != row.row_id:
            return
        self._show_details()
        if row.option is not None:
            choice = find_choice(self._choices, row.option.method)
            if choice is not None:
                self.post_message(Explained(Explanation(choice.title, f"{choice.summary} Not when: {choice.when_not}")))
        elif row.way is not None:
            self.post_message(Explained(Explanation(row.way.title, row.way.price)))
        else:
            self.post_message(Explained(_MORE_HELP))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        row = next((row for row in self._rows if row.row_id == event.option_id), None)
        if row is None:
            return
        if row.kind == "fold":
            self._unfolded = not self._unfolded
            self.show()
        elif row.way is not None:
            self._moved = False
            changes = answers_of_way(row.way)
            self.post_message(Answered(changes, taken="method.name" in changes))
        elif row.option is not None and row.option.verdict == "impossible":
            self.notify(clean_line(row.option.why_not), title="Cannot run here", severity="warning", markup=False)
        elif row.option is not None:
            # One that does not fit can be chosen: the ways to make it fit are offered then.
            advance = can_fit(row.option)
            self._moved = advance
            if row.option.verdict == "chosen":
                # What the option means is in force already; only the choice itself is kept.
                self.post_message(Answered({"method.name": row.option.method}, advance=advance))
            else:
                self.post_message(Answered(answers_of(row.option), advance=advance, taken=True))

    # --- length and batch ---------------------------------------------------------------------------------------------

    @on(Dials.Turned)
    def _turned(self, event: Dials.Turned) -> None:
        self.action_turn(event.path, event.by)

    @on(Dials.Wanted)
    def _wanted(self, event: Dials.Wanted) -> None:
        self.action_edit(event.path)

    def action_turn(self, path: str, by: int) -> None:
        """Take the next larger or smaller length or batch; the plan follows."""
        plan = self.facts.plan
        if plan is None or self._editing:
            return
        self._refused = ""
        if path == LENGTH:
            current = self.draft.value(LENGTH) or plan.recipe.training.max_length
            changed = next_length(plan, current, by) if current else None
        else:
            current = self.draft.value(BATCH) or plan.recipe.training.effective_batch
            changed = next_batch(current, by)
        if changed is not None and changed != current:
            self.post_message(Answered({path: changed}))

    def action_reset(self) -> None:
        """Take back the person's own length and batch."""
        self._close_editor()
        self.post_message(Answered({}, (LENGTH, BATCH)))

    def action_edit(self, path: str) -> None:
        """Ask for a length or a batch."""
        plan = self.facts.plan
        self._editing, self._refused = path, ""
        line = self.query_one("#editor-input", Input)
        line.value = ""
        now = (
            ""
            if plan is None
            else str(plan.recipe.training.max_length if path == LENGTH else plan.recipe.training.effective_batch)
        )
        line.placeholder = f"{now}   (enter sets, empty resets, esc leaves)"
        self.query_one("#editor-title", Static).update(Content(f" {_TITLES[path]} "))
        self.query_one("#method-question").display = False
        self.query_one("#editor").display = True
        line.focus()

    def _close_editor(self) -> None:
        self._editing, self._refused = "", ""
        self.query_one("#editor").display = False
        self.query_one("#method-question").display = True
        self.focus_start()
        self.show()

    @on(Input.Submitted, "#editor-input")
    def _set(self, event: Input.Submitted) -> None:
        event.stop()
        path, text = self._editing, event.value
        try:
            answer = Answered({path: self.backend.parse(path, text)}) if text.strip() else Answered({}, (path,))
        except ProblemError as error:
            # The title of the line says which number it is about, and the status has one line at 80 columns.
            message = error.problems[0].message
            self._refused = f"This{message.removeprefix(path)}" if message.startswith(path) else message
            self.query_one("#method-status", Static).update(self._status())
            return
        self._close_editor()
        self.post_message(answer)


def estimate_state(facts: Facts, width: int) -> Content:
    """Return on one line how deep the estimate of the plan went, and what is going on about it."""
    plan, state = facts.plan, facts.rehearsal
    if plan is None:
        return Content.styled("◌ Comparing the methods on this machine…", "$primary")
    chosen = chosen_option(plan)
    name = clean_line(chosen.title if chosen is not None else plan.recipe.method.name or "", max_chars=24)
    if "busy" in (facts.model_state.progress, facts.data_state.progress):
        reading = "model" if facts.model_state.progress == "busy" else "data"
        return Content.styled(f"◌ Reading the {reading} anew…", "$primary")
    if facts.plan_state.progress == "busy":
        return Content.styled("◌ Planning anew…", "$primary")
    if state.progress == "busy":
        text = f"◌ ~ is a formula. {name} is being rehearsed, which takes seconds…"
        return Content.styled(clean_line(text, max_chars=width), "$primary")
    if state.progress == "failed" and state.problems:
        text = f"! ~ is a formula, and stays one: {state.problems[0].message}"
        return Content.styled(clean_line(text, max_chars=width), "$warning")
    match plan.memory.depth:
        case "measured":
            text, style = f"✓ {name}: measured on this machine. ~ is a formula.", "$success"
        case "simulated":
            text, style = f"✓ {name}: simulated, rehearsed without the device. ~ is a formula.", "$success"
        case "formula":
            text, style = "~ is a formula.", "$text-muted"
    return Content.styled(clean_line(text, max_chars=width), style)
