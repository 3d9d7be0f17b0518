"""The search for a learning rate, live: a curve that grows, then a suggestion that one key takes."""

from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.planning.rate_curve import SWEEP_STEPS, RateAdvice, RatePoint, advise, sweep_rates
from engine.planning.training_choices import usual_rates
from engine.recipe.problems import ProblemError
from engine.text import short_number
from tui.backend import Backend, RateSweep
from tui.terminal import utf8_locale
from tui.widgets.rate_chart import advice_lines, content_of, sweep_rows

if TYPE_CHECKING:
    from engine.planning.plan import Plan

CHART_HEIGHT = 10


class RateScreen(ModalScreen[float | None]):
    """Sweeps over learning rates; enter takes the suggestion, escape ends the sweep and takes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take it"),
        Binding("escape", "leave", "Cancel"),
    ]

    class PointMeasured(Message):
        """A step of the sweep was taken."""

        def __init__(self, point: RatePoint) -> None:
            super().__init__()
            self.point = point

    class SweepEnded(Message):
        """The sweep is over; `problem` says why there is no curve, and is empty otherwise."""

        def __init__(self, problem: str = "") -> None:
            super().__init__()
            self.problem = problem

    def __init__(self, backend: Backend, plan: "Plan") -> None:
        super().__init__()
        self._backend = backend
        self._plan = plan
        self._points: list[RatePoint] = []
        self._advice: RateAdvice | None = None
        self._sweep: RateSweep | None = None
        self._left = False

    def compose(self) -> ComposeResult:
        """Yield the curve and what it says."""
        with Vertical(id="dialog"):
            yield Static(Content("Looking for a learning rate"), classes="question")
            yield Static(id="rate-chart")
            yield Static(id="rate-words")
            yield Static(id="dialog-note")

    def on_mount(self) -> None:
        """Start the sweep."""
        self._say("The model is loaded in a process of its own; nothing of it stays.", "esc cancels")
        self._run()

    def on_resize(self) -> None:
        """Draw for the new width."""
        self._draw()

    def on_unmount(self) -> None:
        """End the sweep, however the screen was left."""
        self._left = True
        if self._sweep is not None:
            self._sweep.cancel()

    @work(thread=True, group="rate", exit_on_error=False)
    def _run(self) -> None:
        try:
            self._sweep = self._backend.sweep_rates(self._plan)
            if self._left:
                self._sweep.cancel()
                return
            for point in self._sweep.points():
                self.post_message(self.PointMeasured(point))
        except ProblemError as error:
            self.post_message(self.SweepEnded(error.problems[0].sentence()))
            return
        self.post_message(self.SweepEnded())

    def on_rate_screen_point_measured(self, message: PointMeasured) -> None:
        """Draw the curve on."""
        self._points.append(message.point)
        self._say(f"Step {len(self._points)} of at most {SWEEP_STEPS}.", "esc cancels")
        self._draw()

    def on_rate_screen_sweep_ended(self, message: SweepEnded) -> None:
        """Say what the curve says."""
        if message.problem:
            self._say(message.problem, "esc leaves")
            return
        self._advice = advise(self._points)
        words = advice_lines(self._advice, self._planned, usual_rates(self._plan))
        rate = self._advice.rate
        self._say("\n".join(words), "esc leaves" if rate is None else f"enter takes {short_number(rate)} · esc leaves")
        self._draw()

    @property
    def _planned(self) -> float:
        return self._plan.recipe.training.learning_rate or 0.0

    def _draw(self) -> None:
        rates = sweep_rates(self._planned)
        chart = self.query_one("#rate-chart", Static)
        rows = sweep_rows(
            self._points,
            self._advice,
            (rates[0], rates[-1]),
            max(0, chart.content_size.width),
            CHART_HEIGHT,
            ascii_only=not utf8_locale(),
        )
        chart.update(content_of(rows))

    def _say(self, words: str, keys: str) -> None:
        self.query_one("#rate-words", Static).update(Content(words))
        self.query_one("#dialog-note", Static).update(Content(keys))

    def action_take(self) -> None:
        """Take the suggestion, where there is one."""
        if self._advice is not None and self._advice.rate is not None:
            self.dismiss(self._advice.rate)

    def action_leave(self) -> None:
        """Take nothing."""
        self.dismiss(None)
