"""The wizard: one screen that mounts one step at a time from the draft.

One direction only: a step posts an answer, the screen reduces the draft, `tui.wizard.readings` finds out what it means,
draft and facts are pushed down. Every change of step saves the draft.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Vertical
from textual.screen import Screen

from engine.runs.directory import plain_name
from engine.text import clean_line
from tui.backend import Backend
from tui.widgets.bars import TopBar
from tui.widgets.help_line import HelpLine
from tui.widgets.key_footer import KeyFooter
from tui.wizard.draft import STEPS, Draft, StepName, forget_draft, save_draft
from tui.wizard.facts import Facts, blocked_reason, first_open_step, forget_stale, seen_now
from tui.wizard.rail import NavBar, StepRail
from tui.wizard.readings import Readings
from tui.wizard.step_view import (
    Advanced,
    Answered,
    Asked,
    Explained,
    HubWanted,
    PageWanted,
    StepContext,
    StepView,
)
from tui.wizard.steps import build_step
from tui.worker_errors import SpokenErrors

if TYPE_CHECKING:
    from tui.app import FtwizardApp

STARTING = "Starting the run…"
RUN_NAME_CHARS = 40


def _wizard_commands() -> type[Provider]:
    from tui.wizard.commands import WizardCommands

    return WizardCommands


class WizardScreen(SpokenErrors, Screen[None]):
    """Seven steps to a run."""

    app: "FtwizardApp"
    COMMANDS: ClassVar[set[Any]] = {_wizard_commands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="wizard.back"),
        Binding("f3", "previous_step", "Back", id="wizard.previous", show=False),
        Binding("f4,ctrl+o", "next_step", "Next", id="wizard.next"),
    ]

    def __init__(self, backend: Backend, draft: Draft) -> None:
        super().__init__()
        self.backend = backend
        self.draft = draft
        self.facts = Facts()
        self.readings = Readings(self)
        self._launching = False
        self._swapping = 0
        self._advance_from: StepName | None = None

    def compose(self) -> ComposeResult:
        """Yield bar, rail, the place of the step, way on, explanation and keys."""
        yield TopBar(self._place())
        yield StepRail()
        yield Vertical(id="body")
        yield NavBar()
        yield HelpLine(id="wizard-help")
        yield KeyFooter()

    def _place(self) -> str:
        if self.draft.follows:
            return f"Next run, from {clean_line(plain_name(self.draft.follows), max_chars=RUN_NAME_CHARS)}"
        return f"New run from preset {self.draft.preset}" if self.draft.preset else "New run"

    async def on_mount(self) -> None:
        """Open the draft's step and start what takes time."""
        await self._open(self.draft.step)
        self.readings.start()

    @property
    def step(self) -> StepView:
        """The step that is open."""
        return self.query_one("#step", StepView)

    async def _open(self, step: StepName) -> None:
        self._advance_from = None
        self.draft = self.draft.at_step(step)
        self._save()
        await self._swap(step)
        if not self.query("#step"):
            return  # The person quit while the step was being built.
        self.step.push_down(self.draft, self.facts)
        self.step.focus_start()
        self.readings.look()
        self.facts = seen_now(self.draft, self.facts)
        self._show_frame()

    async def _swap(self, step: StepName) -> None:
        """Put another step in the place of the open one; facts that come meanwhile find no widgets and wait."""
        body = self.query_one("#body", Vertical)
        self._swapping += 1
        try:
            await body.remove_children()
            await body.mount(build_step(step, StepContext(self.backend, self.draft, self.facts)))
        finally:
            self._swapping -= 1

    def _save(self) -> None:
        if self.draft.is_empty:
            return
        try:
            save_draft(self.draft, self.backend.drafts_folder)
        except OSError as error:
            self.notify(f"The draft cannot be saved: {clean_line(error)}", severity="warning", markup=False)

    def _show_frame(self) -> None:
        self.query_one(StepRail).mark(self.draft, self.facts)
        reason = STARTING if self._launching else blocked_reason(self.draft.step, self.draft, self.facts)
        self.query_one(NavBar).point(self.draft.step, reason)
        machine = self.facts.machine
        if machine is not None:
            self.query_one(TopBar).show_fact(machine.headline)

    def take_facts(self, **changes: Any) -> None:
        """Put new facts in place and show them everywhere."""
        self.facts = replace(self.facts, **changes)
        self._push_down()
        self.readings.look()
        if self._advance_from is not None:
            self.call_next(self._advance_late)

    async def _advance_late(self) -> None:
        """Go on once what the chosen answer needed was read; not when the person did something else meanwhile."""
        step, facts = self._advance_from, self.facts
        if step is None or facts.model_state.progress == "busy":
            return
        self._advance_from = None
        if step == self.draft.step and not blocked_reason(step, self.draft, facts):
            await self._advance()

    def _push_down(self) -> None:
        self.facts = seen_now(self.draft, self.facts)
        if self.is_mounted and not self._swapping and self.query("#step"):
            self.step.push_down(self.draft, self.facts)
            self._show_frame()

    @on(Answered)
    async def _reduce(self, message: Answered) -> None:
        if self._busy_starting():
            return
        draft = self.draft.without(*message.cleared)
        draft = draft.taking(message.changes) if message.taken else draft.with_values(message.changes)
        self.draft = draft
        self.facts = forget_stale(draft, self.facts)
        self._save()
        self.readings.look()
        self._push_down()
        if message.advance:
            await self._advance(explain=False)

    @on(Explained)
    def _explain(self, message: Explained) -> None:
        self.query_one(HelpLine).explain(message.explanation)

    @on(Asked)
    def _asked(self, message: Asked) -> None:
        self.readings.answer(message.request)

    def take_xray(self, **changes: Any) -> None:
        """Put new facts of the X-ray in place."""
        self.take_facts(xray=replace(self.facts.xray, **changes))

    @on(HubWanted)
    def _hub_wanted(self, message: HubWanted) -> None:
        self.readings.search_hub(message.words)

    @on(PageWanted)
    def _page_wanted(self, message: PageWanted) -> None:
        self.readings.xray.turn(message.order, message.start)

    @on(StepRail.Wanted)
    async def _wanted(self, message: StepRail.Wanted) -> None:
        await self.open_step(message.step)

    async def open_step(self, wanted: StepName) -> None:
        """Open a step, or the one before it that still needs an answer, and say which."""
        if self._busy_starting():
            return
        step, reason = first_open_step(self.draft, self.facts, wanted)
        if step != self.draft.step:
            await self._open(step)
        if reason:
            self._say(reason)

    def _say(self, reason: str) -> None:
        self.notify(clean_line(reason), title="Not yet", severity="warning", markup=False, timeout=4)

    @on(NavBar.Next)
    @on(Advanced)
    async def _next_pressed(self) -> None:
        await self._advance()

    async def action_next_step(self) -> None:
        """Open the next step, or start the run on the last one."""
        await self._advance()

    def _busy_starting(self) -> bool:
        """Whether a run is being started, which takes seconds: until then nothing else may be begun or left."""
        if self._launching:
            self._say(STARTING)
        return self._launching

    async def _advance(self, *, explain: bool = True) -> None:
        if self._busy_starting():
            return
        reason = blocked_reason(self.draft.step, self.draft, self.facts)
        if reason:
            if explain:
                self._say(reason)
            else:
                self._advance_from = self.draft.step
            return
        if self.draft.step == "review":
            self._launch()
            return
        await self._open(STEPS[STEPS.index(self.draft.step) + 1])

    @on(NavBar.Back)
    async def _back_pressed(self) -> None:
        await self.action_previous_step()

    async def action_back(self) -> None:
        """Leave what is open inside the step; otherwise go back one step."""
        if not self.step.leave_transient():
            await self.action_previous_step()

    async def action_previous_step(self) -> None:
        """Go back one step, or home from the first one; the draft is kept."""
        if self._busy_starting():
            return
        index = STEPS.index(self.draft.step)
        if index:
            await self._open(STEPS[index - 1])
            return
        self.leave()

    def leave(self) -> None:
        """Go home; the draft is kept."""
        if self._busy_starting():
            return
        self._save()
        self.readings.stop()
        self.app.pop_screen()

    def action_save_recipe(self) -> None:
        """Ask for a file and write the recipe to it."""
        from tui.wizard.save_recipe import SaveRecipeScreen, suggested_file

        text = self.backend.recipe_text(self.draft.layered.tree)
        name = str(self.draft.value("name") or self.draft.value("objective") or "recipe")
        self.app.push_screen(SaveRecipeScreen(text, suggested_file(name)), self._saved_recipe)

    def _saved_recipe(self, path: Path | None) -> None:
        if path is not None:
            self.notify(f"Saved as {clean_line(path)}", title="Recipe", markup=False)

    def on_unmount(self) -> None:
        """Save the draft when the app ends with the wizard open."""
        if not self._launching:
            self._save()

    def _launch(self) -> None:
        if self._launching or self.facts.plan is None:
            return
        self._launching = True
        self._show_frame()
        self.readings.launch(self.draft, self.facts.plan)

    def launched(self, run_path: Path) -> None:
        """Forget the draft and show the run."""
        forget_draft(self.draft, self.backend.drafts_folder)
        while self.app.screen is not self:  # A question or the palette may have been opened meanwhile.
            self.app.pop_screen()
        self.app.open_monitor(run_path, replacing=True)

    def launch_failed(self, message: str) -> None:
        """Say why no run was started; everything is as before."""
        self._launching = False
        self._show_frame()
        self.notify(clean_line(message), title="Not started", severity="error", markup=False, timeout=15)
