"""Step 4: the X-ray. Sequences token by token as the trainer will draw them, before anything is spent on training."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from engine.catalog.objectives import OBJECTIVES
from engine.text import clean_line
from tui.backend import XrayOrder, XrayPage, XraySequence
from tui.widgets.confirm import ConfirmScreen, Option
from tui.widgets.help_line import Explanation
from tui.widgets.labels import problem_label
from tui.widgets.token_view import TokenView
from tui.wizard.facts import ALLOW_ALL_TRAINED, all_trained_problem, step_problems, xray_ready
from tui.wizard.step_view import Advanced, Answered, Asked, Explained, PageWanted, StepView
from tui.wizard.xray_readings import PAGE_COUNT
from tui.wizard.xray_text import (
    HIDDEN_WORDS,
    NONE_OF,
    UNTRAINED,
    heading_content,
    help_words,
    legend_content,
    summary_content,
    work_content,
)

_WHY_ASKED = "A chat learns answers to questions. Train on everything although no question stands before an answer?"


class XrayStep(StepView):
    """One sequence at a time under what is true of all; letters choose the order, arrows turn and scroll."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "order('longest')", "Longest", id="xray.longest"),
        Binding("c", "order('cut')", "Cut", id="xray.cut"),
        Binding("o", "order('odd')", "Odd", id="xray.odd"),
        Binding("f", "order('file')", "File order", show=False, id="xray.file"),
        Binding("right,n", "turn(1)", "Next sequence", show=False, id="xray.forward"),
        Binding("left,p", "turn(-1)", "Sequence before", show=False, id="xray.backward"),
        Binding("g", "go_to", "Go to a number", show=False, id="xray.go"),
        Binding("y", "answer", "Answer the question", show=False, id="xray.answer"),
        Binding("enter", "advance", "Next", show=False, id="xray.advance"),
    ]

    def compose(self) -> ComposeResult:
        """Yield the headline, the legend, the sequence and the line for a number."""
        yield Static(id="xray-summary", classes="facts")
        yield Static(id="xray-heading", classes="facts")
        yield TokenView(id="xray-tokens")
        yield Static(id="xray-legend", classes="facts")
        yield Input(id="xray-number", compact=True, placeholder="Number of a sequence", type="integer")

    def on_mount(self) -> None:
        """Begin with the first sequence of the file order."""
        self._order: XrayOrder = "file"
        self._place = 0
        self._shown_key = ""
        self.query_one("#xray-number").display = False
        legend = legend_content(marked=self.app.native_ansi_color, trained=self._learnt not in UNTRAINED)
        self.query_one("#xray-legend", Static).update(legend)
        self.show()

    # --- what shows --------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Bring the parts in line with the facts."""
        xray = self.facts.xray
        if xray.state.key != self._shown_key:
            self._shown_key = xray.state.key
            self._order, self._place = "file", 0
        ready = xray_ready(self.draft, self.facts) and xray.whole is not None
        for part in ("#xray-heading", "#xray-tokens", "#xray-legend"):
            self.query_one(part).display = ready
        self.query_one("#xray-summary", Static).update(self._summary())
        if ready:
            self._show_sequence()

    def _summary(self) -> Content:
        xray = self.facts.xray
        problems = step_problems("xray", self.draft, self.facts)
        if xray.state.progress == "failed":
            lines = [problem_label(problem) for problem in problems[:4]]
            again = Content.styled("enter goes on; the run repeats the checks before its first step.", "$text-muted")
            if any(problem.severity == "error" for problem in problems):
                again = Content.styled("r reads again; esc goes back.", "$text-muted")
            return Content("\n").join([*lines, again])
        if xray.whole is None:
            return work_content(xray.work)
        asks = all_trained_problem(self.draft, self.facts) is not None
        return summary_content(xray.whole, problems, asks=asks)

    def _show_sequence(self) -> None:
        heading = self.query_one("#xray-heading", Static)
        sequence, page = self._sequence(), self._page()
        turning = self.facts.xray.turning
        if sequence is not None and page is not None:
            heading.update(heading_content(sequence, self._place, page.total, self._order))
        elif turning.progress == "failed":
            heading.update(Content("\n").join([problem_label(problem) for problem in turning.problems[:2]]))
        elif page is not None:
            heading.update(Content.styled(f"○ {NONE_OF[self._order]} f shows the file order.", "$text-muted"))
        else:
            heading.update(Content.styled("◌ Reading…", "$primary"))
        self.query_one(TokenView).show(sequence)

    def _page(self) -> XrayPage | None:
        xray = self.facts.xray
        return xray.page if xray.order == self._order else None

    def _sequence(self) -> XraySequence | None:
        page = self._page()
        if page is None or not 0 <= self._place - page.start < len(page.sequences):
            return None
        return page.sequences[self._place - page.start]

    def focus_start(self) -> None:
        """Focus the tokens."""
        self.query_one("#xray-tokens").focus()
        self.post_message(Explained(Explanation("X-ray", help_words(self._learnt))))

    @property
    def _learnt(self) -> str:
        """What the loss is taken from, hidden words told apart from text that goes on."""
        goal = next((goal for goal in OBJECTIVES if goal.name == self.draft.value("objective")), None)
        if goal is None:
            return "answers"
        model = self.facts.model
        return HIDDEN_WORDS if model is not None and goal.head_of(model.kind) == "masked-lm" else goal.signal

    def leave_transient(self) -> bool:
        """Leave the line for a number, or cancel the reading."""
        line = self.query_one("#xray-number", Input)
        if line.display:
            line.display = False
            self.focus_start()
            return True
        if self.facts.xray.state.progress == "busy":
            self.post_message(Asked("cancel-xray"))
            return True
        return False

    # --- turning -----------------------------------------------------------------------------------------------------

    def _turn_to(self, order: XrayOrder, place: int) -> None:
        self._order, self._place = order, place
        page = self._page()
        if self._sequence() is None and (page is None or page.total):
            self.post_message(PageWanted(order, place - place % PAGE_COUNT))
        self.show()

    def action_order(self, order: XrayOrder) -> None:
        """Show the sequences of another order, or say that there are none."""
        whole = self.facts.xray.whole
        if whole is None:
            return
        totals = {"cut": whole.num_cut, "odd": whole.num_odd}
        if totals.get(order, whole.num_sequences) == 0:
            self.notify(NONE_OF[order], markup=False, timeout=4)
            return
        self._turn_to(order, 0)

    def action_turn(self, by: int) -> None:
        """Show the next sequence or the one before."""
        page = self._page()
        if page is None:
            return
        place = self._place + by
        if not 0 <= place < page.total:
            end = "last" if by > 0 else "first"
            self.notify(f"This is the {end} sequence of this order.", markup=False, timeout=3)
            return
        self._turn_to(self._order, place)

    def action_go_to(self) -> None:
        """Ask for the number of a sequence."""
        if self.facts.xray.whole is None:
            return
        line = self.query_one("#xray-number", Input)
        line.value = ""
        line.display = True
        line.focus()

    @on(Input.Submitted, "#xray-number")
    def _go_to(self, event: Input.Submitted) -> None:
        event.stop()
        page = self._page()
        total = page.total if page is not None else 0
        text = event.value.strip()
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
        if not 1 <= number <= total:
            self.notify(f"Type a number from 1 to {total:,}, not {clean_line(text, max_chars=20)}.", markup=False)
            return
        self.leave_transient()
        self._turn_to(self._order, number - 1)

    # --- the way on --------------------------------------------------------------------------------------------------

    def key_r(self) -> None:
        """Read again what could not be read."""
        if self.facts.xray.state.progress == "failed":
            self.post_message(Asked("xray"))

    def action_advance(self) -> None:
        """Ask the question where there is one; otherwise go on."""
        if all_trained_problem(self.draft, self.facts) is not None:
            self.action_answer()
        else:
            self.post_message(Advanced())

    def action_answer(self) -> None:
        """Ask whether everything is to be trained."""
        if all_trained_problem(self.draft, self.facts) is None:
            self.notify("There is no question to answer.", markup=False, timeout=3)
            return
        options = (
            Option("yes", "Yes, train on everything", "data.allow_all_trained"),
            Option("no", "No", "go back and look at data or template"),
        )
        self.app.push_screen(ConfirmScreen(_WHY_ASKED, options), self._answered)

    def _answered(self, answer: str | None) -> None:
        if answer == "yes":
            self.post_message(Answered({ALLOW_ALL_TRAINED: True}))
