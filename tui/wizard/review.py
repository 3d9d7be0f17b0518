"""Step 7: what will run, what it needs, where every value comes from; then start."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.recipe.problems import Problem
from tui.widgets.help_line import Explanation
from tui.widgets.labels import problem_label
from tui.widgets.segments import Segments
from tui.wizard.facts import step_problems
from tui.wizard.rail import StepRail
from tui.wizard.review_text import command_content, plan_content, recipe_content
from tui.wizard.step_view import Advanced, Explained, StepView
from tui.wizard.xray_text import short_headline

ROOMY_ROWS = 20
VIEWS = ("Plan", "Recipe", "Command")
_HELP = (
    Explanation("Plan", "What this machine will do. Nothing is written before the start."),
    Explanation("Recipe", "Every value and its source: default, preset, derived by the plan, or you."),
    Explanation("Command", "Save the recipe and run the same thing from a script or over SSH."),
)


class ReviewStep(StepView):
    """Three views of one plan."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "advance", "Start", id="review.start"),
        # The screen calls it Next, which it is on every other step.
        Binding("f4,ctrl+o", "advance", "Start", show=False, id="review.next"),
        Binding("s", "screen.save_recipe", "Save recipe", id="review.save"),
        Binding("x", "look", "X-ray", show=False, id="review.xray"),
        Binding("left", "turn(-1)", "View", show=False),
        Binding("right", "turn(1)", "View", show=False),
    ]

    def compose(self) -> ComposeResult:
        """Yield the names of the views and the open one."""
        yield Segments(VIEWS)
        with VerticalScroll(id="review-view"):
            yield Static(id="review-text")

    def on_mount(self) -> None:
        """Show the plan."""
        self.show()

    def on_resize(self) -> None:
        """Draw bars to the new width."""
        self.show()

    def focus_start(self) -> None:
        """Focus the open view."""
        self.query_one("#review-view").focus()
        self.post_message(Explained(_HELP[self.query_one(Segments).index]))

    def show(self) -> None:
        """Show the open view."""
        self.query_one("#review-text", Static).update(self._content())

    def _content(self) -> Content:
        plan, state = self.facts.plan, self.facts.plan_state
        problems = self._problems()
        if plan is None or state.progress != "done":
            return self._waiting() if state.progress != "failed" else Content("\n").join(map(problem_label, problems))
        view = self.query_one(Segments).index
        width = max(40, self.size.width - 4)
        if view == 0:
            return plan_content(plan, problems, width, xray=self._xray(), roomy=self.size.height >= ROOMY_ROWS)
        if view == 1:
            return recipe_content(plan, width)
        return command_content(plan, self.backend.recipe_text(self.draft.layered.tree))

    def _problems(self) -> list[Problem]:
        """Return what speaks against the run, also what the X-ray found, once each."""
        found = step_problems("review", self.draft, self.facts)
        said = {problem.message for problem in found}
        seen = [problem for problem in step_problems("xray", self.draft, self.facts) if problem.message not in said]
        return sorted([*found, *seen], key=lambda problem: ("error", "warning", "note").index(problem.severity))

    def _xray(self) -> str:
        xray = self.facts.xray
        if xray.whole is not None:
            return short_headline(xray.whole)
        return "not to be seen here; the run makes its checks" if xray.state.progress == "failed" else "being read…"

    def _waiting(self) -> Content:
        facts = self.facts
        if facts.data_state.progress == "failed" or facts.model_state.progress == "failed":
            problems = [*facts.model_state.problems, *facts.data_state.problems]
            return Content("\n").join(map(problem_label, problems))
        doing = "Making the plan…"
        if facts.model_state.progress == "busy":
            doing = "Reading the model…"
        elif facts.data_state.progress == "busy":
            doing = "Reading the data…"
        return Content.styled(f"◌ {doing}", "$primary")

    @on(Segments.Chosen)
    def _chosen_view(self, event: Segments.Chosen) -> None:
        self._turn_to(event.index)

    def action_turn(self, by: int) -> None:
        """Open the next or the previous view."""
        self._turn_to(self.query_one(Segments).index + by)

    def _turn_to(self, index: int) -> None:
        self.query_one(Segments).point(index)
        self.query_one("#review-view", VerticalScroll).scroll_home(animate=False)
        self.show()
        self.focus_start()

    def action_look(self) -> None:
        """Open the X-ray."""
        self.post_message(StepRail.Wanted("xray"))

    def action_advance(self) -> None:
        """Start the run."""
        self.post_message(Advanced())
