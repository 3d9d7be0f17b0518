"""One run, live or ended: chart, numbers, evaluation, samples, memory and log, rebuilt from the run directory."""

import os
import socket
import time
from pathlib import Path
from typing import Any, ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Container
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from engine.planning.plan import MemoryEstimate
from engine.recipe.problems import ProblemError
from engine.runs.references import base_words
from engine.text import clean_line
from tui.monitor.chart import chart_data, charts_of
from tui.monitor.follower import RunFollower
from tui.monitor.memory import MemoryReading, MemorySampler, memory_lines
from tui.monitor.panels import alarm_line, evaluation_lines, log_lines, numbers_line, sample_lines, status_line
from tui.terminal import utf8_locale
from tui.widgets.bars import TopBar
from tui.widgets.confirm import ConfirmScreen, Option
from tui.widgets.key_footer import KeyFooter
from tui.widgets.loss_chart import LossChart
from tui.widgets.panel import Panel, PanelTabs
from tui.worker_errors import SpokenErrors

# A little over three looks a second: at most four redraws a second reach the terminal.
POLL_S = 0.3
SLOW_POLL_S = 1.0
LEAVE_AFTER_S = 3.0

_PANELS = (("evaluation", "Evaluation"), ("samples", "Samples"), ("memory", "Memory"), ("log", "Log"))
_REFUSABLE_KEYS = {
    "p": "toggle_pause",
    "c": "checkpoint",
    "e": "evaluate",
    "s": "stop",
    "r": "resume",
    "enter": "result",
}
_WORDS = {"pause": "pause", "resume": "go on", "checkpoint": "checkpoint", "evaluate": "evaluation", "stop": "stop"}


def _monitor_commands() -> type[Provider]:
    from tui.monitor.commands import MonitorCommands

    return MonitorCommands


class MonitorScreen(SpokenErrors, Screen[None]):
    """Follows a run and passes requests to it. Closing it changes nothing for the run.

    Args:
        run_path: Run directory.
        leave_when_done: Leave by itself a moment after the run has ended, unless a key is pressed.
    """

    CSS_PATH = "monitor.tcss"
    COMMANDS: ClassVar[set[Any]] = {_monitor_commands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "toggle_pause", "Pause", id="monitor.pause"),
        Binding("c", "checkpoint", "Checkpoint", id="monitor.checkpoint"),
        Binding("e", "evaluate", "Evaluate", id="monitor.evaluate"),
        Binding("s", "stop", "Stop", id="monitor.stop"),
        Binding("r", "resume", "Resume", id="monitor.resume"),
        Binding("enter", "result", "Result", id="monitor.result"),
        Binding("d,escape,q", "detach", "Detach", id="monitor.detach"),
        Binding("ctrl+c", "interrupt", show=False, priority=True, id="monitor.interrupt"),
        Binding("1", "panel('evaluation')", "Evaluation", show=False),
        Binding("2", "panel('samples')", "Samples", show=False),
        Binding("3", "panel('memory')", "Memory", show=False),
        Binding("4", "panel('log')", "Log", show=False),
        Binding("tab", "next_panel", "Next panel", show=False),
        Binding("left", "page(-1)", "Earlier prompt", show=False),
        Binding("right", "page(1)", "Next prompt", show=False),
        Binding("g", "next_chart", "Next chart", show=False, id="monitor.chart"),
        Binding("m", "toggle_smoothing", "Smoothing on or off", show=False, id="monitor.smooth"),
        Binding("y", "toggle_log", "Logarithmic axis on or off", show=False, id="monitor.log_axis"),
    ]

    def __init__(self, run_path: Path, *, leave_when_done: bool = False) -> None:
        super().__init__()
        self.follower = RunFollower.of(run_path)
        self._leave_when_done = leave_when_done
        self._leave_at: float | None = None
        self._estimate: MemoryEstimate | None = None
        self._sampler = MemorySampler()
        self._reading: MemoryReading | None = None
        self._reading_due = 0.0
        self._busy = True
        self._resuming = False
        self._pending: dict[str, str] = {}
        self._panel = "evaluation"
        self._prompt = 0
        self._chart = 0
        self._smooth = True
        self._log_axis = False
        self._log_tail: tuple[str, ...] = ()
        self._keys: tuple[bool, str] | None = None

    def compose(self) -> ComposeResult:
        """Yield the rows from top to bottom."""
        yield TopBar(self.follower.run.folder_name)
        yield Static(id="status")
        yield Static(id="numbers")
        yield Static(id="alarm")
        yield LossChart(id="chart", ascii_only=not utf8_locale(), empty="The curve begins with the first step.")
        yield PanelTabs(_PANELS, id="tabs")
        with Container(id="panels"):
            for name, title in _PANELS:
                yield Panel(title, id=f"panel-{name}")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the past in a thread, then follow."""
        if self._torn_down:
            return
        self.action_panel(self._panel)
        self.query_one("#status", Static).update(Content("Reading the run ..."))
        self._open()

    # --- following --------------------------------------------------------------------------------------------------

    @work(thread=True, exit_on_error=False, group="monitor-open")
    def _open(self) -> None:
        try:
            self.follower.open()
            self._estimate = self.follower.run.read_plan().memory
        except (ProblemError, OSError, ValueError) as error:
            self.app.call_from_thread(self._show_unreadable, str(error))
            return
        self.app.call_from_thread(self._opened)

    def work_failed(self, group: str) -> None:
        """Wait no longer for what ended in an unexpected error."""
        if group == "monitor-open":
            self._show_unreadable("The run cannot be read.")
        elif group == "monitor-resume":
            self._resuming = False
            self._show()

    @property
    def _torn_down(self) -> bool:
        """Whether the app is leaving and has taken the widgets away already."""
        return not self.query(PanelTabs)

    def _show_unreadable(self, text: str) -> None:
        if self._torn_down:
            return
        self.query_one("#status", Static).update(Content.styled(clean_line(text), "$error"))

    def _opened(self) -> None:
        if self._torn_down:
            return
        self._busy = False
        picture = self.follower.picture
        facts = [picture.method, base_words(picture.base), str(picture.worker.get("device") or "")]
        self.query_one(TopBar).show_fact(" · ".join(fact for fact in facts if fact))
        self._show()
        self.set_interval(POLL_S, self._tick)

    def _tick(self) -> None:
        """Look for news; a tick that comes while another is at work is skipped."""
        if self._busy:
            return
        self._busy = True
        try:
            changed = self.follower.poll()
        except (ProblemError, OSError) as error:
            self._show_unreadable(str(error))
            return
        finally:
            self._busy = False
        now = time.monotonic()
        slow = now >= self._reading_due
        if slow:
            self._reading_due = now + SLOW_POLL_S
            self._read_slowly()
        if changed or slow:
            self._show()
        self._leave_in_time(now)

    @work(thread=True, exclusive=True, exit_on_error=False, group="monitor-memory")
    def _read_slowly(self) -> None:
        self._reading = self._sampler.sample(self.follower.status.pid)
        self._log_tail = self.follower.log_tail()

    def _leave_in_time(self, now: float) -> None:
        if not (self._leave_when_done and self.follower.ended):
            return
        if self._leave_at is None:
            self._leave_at = now + LEAVE_AFTER_S
        elif now >= self._leave_at:
            self._leave_when_done = False
            self.app.leave_screen()  # type: ignore[attr-defined]

    def on_key(self, event: events.Key) -> None:
        """Stay when a key says that somebody is reading; say why a key makes no sense now."""
        self._leave_when_done = False
        action = _REFUSABLE_KEYS.get(event.key)
        if action is not None and not self._busy and not self.check_action(action, ()):
            self.notify(self._why_not(action), severity="warning", markup=False)

    # --- showing ----------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        follower, picture = self.follower, self.follower.picture
        self._settle_requests()
        width = self.size.width - 2
        self._set("#status", status_line(picture, follower.state, time.time(), width))
        self._set("#numbers", self._banner() or numbers_line(picture))
        alarm = None if follower.ended else alarm_line(picture)
        self.query_one("#alarm").display = alarm is not None
        self._set("#alarm", alarm or Content(""))
        charts = charts_of(picture)
        chart = charts[self._chart % len(charts)]
        self.query_one(LossChart).show(chart_data(picture, chart, smooth=self._smooth, log_y=self._log_axis))
        for name, _ in _PANELS:
            panel = self.query_one(f"#panel-{name}", Panel)
            if panel.display:
                panel.show(self._lines(name, panel.content_size.width))
        self._refresh_keys()

    def _refresh_keys(self) -> None:
        keys = (self.follower.ended, self.follower.status.state)
        if keys != self._keys:
            self._keys = keys
            self.refresh_bindings()

    def _lines(self, name: str, width: int) -> list[Content]:
        picture = self.follower.picture
        match name:
            case "evaluation":
                return evaluation_lines(picture, width)
            case "samples":
                return sample_lines(picture, self._prompt)
            case "memory":
                return memory_lines(picture, self._reading, self._estimate, width)
            case _:
                return log_lines(picture, self._log_tail)

    def _set(self, selector: str, content: Content) -> None:
        widget = self.query_one(selector, Static)
        if widget.content != content:
            widget.update(content, layout=False)

    def _banner(self) -> Content | None:
        """Return what matters more than numbers: a request under way, an end, a crash."""
        if self._resuming:
            return Content.styled("Starting the worker again ...", "$accent")
        if self._pending:
            words = ", ".join(_WORDS[action] for action in self._pending.values())
            return Content.styled(f"Asked for: {words} ...", "$accent")
        if not self.follower.ended:
            return None
        match self.follower.status.state:
            case "finished":
                leaving = " Leaving in a moment; any key stays." if self._leave_when_done else ""
                return Content.styled(f"Finished. Enter shows the result.{leaving}", "bold $success")
            case "stopped":
                return Content.styled("Saved and stopped. Press r to go on from the last checkpoint.", "$warning")
            case "failed":
                reason = (self.follower.picture.failure or {}).get("message") or self.follower.status.reason
                return Content.styled(f"Failed: {clean_line(reason)} Panel 4 tells more.", "$error")
            case _:
                return Content.styled(
                    f"Crashed: {clean_line(self.follower.status.reason)} Press r to go on from the last checkpoint.",
                    "$error",
                )

    # --- requests ---------------------------------------------------------------------------------------------------

    def _settle_requests(self) -> None:
        for request_id in [r for r in self._pending if r in self.follower.picture.acknowledged]:
            action = self._pending.pop(request_id)
            result = self.follower.picture.acknowledged[request_id].get("result")
            self.notify(f"{_WORDS[action]}: {clean_line(result)}", markup=False)
        if self.follower.ended:
            self._pending.clear()

    def _request(self, action: str) -> None:
        from engine.runs.control import request

        refusal = self._refusal(action)
        if refusal:
            self.notify(refusal, severity="warning", markup=False)
            return
        try:
            request_id = request(self.follower.run, action, f"{os.getpid()}@{socket.gethostname()}")
        except ProblemError as error:
            self.notify(clean_line(error), severity="error", markup=False)
            return
        self._pending[request_id] = action
        self._show()

    def _refusal(self, action: str) -> str:
        """Return why a request makes no sense now; empty when it does."""
        state = self.follower.state
        if not self.follower.status.alive:
            return f"The run is {clean_line(state)}; nothing is at work that could {_WORDS[action]}."
        if action in ("pause", "checkpoint", "evaluate") and state not in ("training", "paused", "evaluating"):
            return f"The run is {clean_line(state)}; this works once training has begun."
        return ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keep keys out of the footer that belong to the other half of a run's life."""
        ended = self.follower.ended
        if action in ("toggle_pause", "checkpoint", "evaluate", "stop"):
            return not ended
        if action == "resume":
            return ended and self.follower.status.resumable
        if action == "result":
            return ended and self.follower.status.state == "finished"
        return True

    def _why_not(self, action: str) -> str:
        """Return why a key of the other half of a run's life does nothing now."""
        state = clean_line(self.follower.state)
        if action == "result":
            return f"The run is {state}; the result comes when it is finished."
        if action != "resume":
            return f"The run is {state}; nothing is at work."
        if not self.follower.ended:
            return f"The run is {state}; there is nothing to resume."
        return f"The run is {state} and cannot be resumed."

    def action_toggle_pause(self) -> None:
        """Pause, or go on."""
        self._request("resume" if self.follower.state == "paused" else "pause")

    def action_checkpoint(self) -> None:
        """Ask for a checkpoint now."""
        self._request("checkpoint")

    def action_evaluate(self) -> None:
        """Ask for an evaluation now."""
        self._request("evaluate")

    def action_stop(self) -> None:
        """Ask whether to save and stop."""
        refusal = self._refusal("stop")
        if refusal:
            self.notify(refusal, severity="warning", markup=False)
            return
        options = (Option("stop", "Save and stop", "it can be resumed"), Option("", "Go on training", ""))
        self.app.push_screen(ConfirmScreen("Stop this run?", options), self._answered)

    def action_interrupt(self) -> None:
        """Ask what ctrl+c should do; the run itself is never touched by it."""
        if self.follower.ended:
            self.action_detach()
            return
        options = (
            Option("detach", "Detach", "the run goes on; `ftwizard attach` comes back"),
            Option("stop", "Save and stop", "it can be resumed"),
            Option("", "Stay", ""),
        )
        self.app.push_screen(ConfirmScreen("Leave this run?", options), self._answered)

    def _answered(self, answer: str | None) -> None:
        if answer == "stop":
            self._request("stop")
        elif answer == "detach":
            self.action_detach()

    def action_resume(self) -> None:
        """Continue the run from its last whole checkpoint."""
        if not self._resuming:
            self._resuming = True
            self._show()
            self._resume()

    @work(thread=True, exit_on_error=False, group="monitor-resume")
    def _resume(self) -> None:
        from engine.runs.launch import resume

        problem = ""
        try:
            resume(self.follower.run)
        except (ProblemError, OSError) as error:
            problem = str(error)
        self.app.call_from_thread(self._resumed, problem)

    def _resumed(self, problem: str) -> None:
        self._resuming = False
        if problem:
            self.notify(clean_line(problem), severity="error", markup=False, timeout=15)
        self.follower.refresh_status()
        self._show()

    def action_result(self) -> None:
        """Open the result."""
        self.app.open_result(self.follower.run.path)  # type: ignore[attr-defined]

    def action_detach(self) -> None:
        """Leave the screen; the run goes on."""
        self.app.leave_screen()  # type: ignore[attr-defined]

    # --- panels -----------------------------------------------------------------------------------------------------

    def action_panel(self, name: str) -> None:
        """Show one panel where there is room for one only."""
        self._panel = name
        self.query_one(PanelTabs).mark(name)
        for other, _ in _PANELS:
            self.query_one(f"#panel-{other}").set_class(other == name, "-chosen")
        if not self._busy:
            self.call_after_refresh(self._show)

    def action_next_panel(self) -> None:
        """Show the next panel."""
        names = [name for name, _ in _PANELS]
        self.action_panel(names[(names.index(self._panel) + 1) % len(names)])

    def on_panel_tabs_chosen(self, message: PanelTabs.Chosen) -> None:
        """Show the panel whose tab was clicked."""
        self.action_panel(message.name)

    def action_page(self, by: int) -> None:
        """Show the answers to another prompt."""
        self._prompt += by
        if self._panel != "samples" and not self.query_one("#panel-samples").display:
            self.action_panel("samples")
        self._show()

    def action_next_chart(self) -> None:
        """Show the next chart: loss, learning rate, gradient norm, speed, memory."""
        self._chart = (self._chart + 1) % len(charts_of(self.follower.picture))
        self._show()

    def action_toggle_smoothing(self) -> None:
        """Turn the running mean on or off."""
        self._smooth = not self._smooth
        self._show()

    def action_toggle_log(self) -> None:
        """Turn the logarithmic axis on or off."""
        self._log_axis = not self._log_axis
        self._show()

    @work(thread=True, exit_on_error=False, group="monitor-kill")
    def action_kill(self) -> None:
        """End the worker without saving."""
        import signal

        from engine.runs.liveness import terminate

        problem = ""
        try:
            if not terminate(self.follower.run, signal.SIGKILL):
                problem = "The worker was told to end and is still there."
        except (ProblemError, OSError) as error:
            problem = clean_line(error)
        if problem:
            self.app.call_from_thread(self.notify, problem, severity="error", markup=False)
