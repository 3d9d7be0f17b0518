"""What the wizard finds out in the background: machine, model, data, plans. Results come back as facts.

Every reading carries the key of the answers it was made for; a result for older answers is thrown away.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.worker import Worker

from engine.recipe.problems import Problem, ProblemError
from tui.backend import WorkProgress
from tui.wizard.draft import Draft
from tui.wizard.facts import (
    HubFacts,
    Inspected,
    XrayFacts,
    data_key,
    inspection_tree,
    model_key,
    model_ready,
    plan_key,
)
from tui.wizard.option_words import chosen_option
from tui.wizard.xray_readings import XrayReadings

if TYPE_CHECKING:
    from engine.planning.plan import Plan
    from tui.wizard.screen import WizardScreen

DATA_PAUSE_S = 0.03
"""As with plans: a switch of a check that is turned on goes through answers that nobody wants read."""
PLAN_PAUSE_S = 0.03
"""A key that is held down repeats every 30 ms: only where it stops a plan is made."""
REHEARSAL_PAUSE_S = 0.7
"""A rehearsal takes seconds of a processor: it begins when the answers have been at rest for this long."""
_PLANNED_STEPS = ("method", "settings", "review")


def problems_of(error: Exception, *, code: str, path: str = "") -> tuple[Problem, ...]:
    """Return the findings that an error carries; an unexpected one becomes a finding of its own.

    Every reading ends here, whatever went wrong: one that dies without a word leaves its step waiting for ever.
    """
    if isinstance(error, ProblemError):
        return error.problems
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (Problem(code, text, "Change the answer, or go back and forth to try again.", path),)


class Readings:
    """Starts readings when the answers they depend on change, and never two of a kind."""

    def __init__(self, screen: "WizardScreen") -> None:
        self.screen = screen
        self._model: Worker[None] | None = None
        self._search: Worker[None] | None = None
        self._data: Worker[None] | None = None
        self._plan: Worker[None] | None = None
        self._rehearsal: Worker[None] | None = None
        self._checked: Draft | None = None
        self.xray = XrayReadings(screen)

    def _work(self, work: Coroutine[Any, Any, None], group: str) -> Worker[None]:
        return self.screen.run_worker(work, group=group, exit_on_error=False, exclusive=True)

    def start(self) -> None:
        """Read the machine and warm up the worker."""
        self._work(self._read_machine(), "machine")
        self._work(self._warm_up(), "warm-up")
        self.look()

    def stop(self) -> None:
        """Give up everything that is being read."""
        for worker in (self._model, self._search, self._data, self._plan, self._rehearsal):
            if worker is not None:
                worker.cancel()
        self.xray.stop()

    def look(self) -> None:
        """Start the readings that the draft needs and that are not there or under way."""
        self._look_at_answers()
        self._look_at_model()
        self._look_at_data()
        self.xray.look()
        self._look_at_plan()
        self._look_at_rehearsal()

    def answer(self, request: str) -> None:
        """Do what a step asks for."""
        if request == "cancel" and self._data is not None:
            self._data.cancel()
            problem = Problem(
                "data.cancelled", "Reading was cancelled.", "Press enter to read the data again.", "data.source"
            )
            self._take_data(data_key(self.screen.draft), "failed", (problem,))
        elif request == "cancel-model" and self._model is not None:
            self._model.cancel()
            message, fix = "Reading the model was cancelled.", "Choose it again, or another one."
            problem = Problem("model.cancelled", message, fix, "model.base")
            self.screen.take_facts(
                model=None, model_state=Inspected(model_key(self.screen.draft), "failed", (problem,))
            )
        elif request == "cancel-hub":
            self._give_up_search()
        elif request == "inspect-model":
            self.screen.take_facts(model=None, model_state=Inspected())
        elif request == "xray":
            self.screen.take_facts(xray=XrayFacts())
        elif request == "cancel-xray":
            self.xray.cancel()
        elif request == "inspect":
            self.screen.take_facts(data_state=Inspected())

    def search_hub(self, words: str) -> None:
        """Search the hub for words; a newer search takes the place of one under way."""
        self.screen.take_facts(hub=HubFacts(words, Inspected(words, "busy")))
        self._search = self._work(self._search_hub(words), "hub")

    async def _search_hub(self, words: str) -> None:
        objective = self.screen.draft.value("objective", "chat")
        try:
            answer = await self.screen.backend.search_hub(words, objective)
        except Exception as error:  # noqa: BLE001 - see problems_of
            found = problems_of(error, code="model.search_failed", path="model.base")
            self._take_search(words, HubFacts(words, Inspected(words, "failed", found)))
            return
        self._take_search(words, HubFacts(words, Inspected(words, "done"), answer))

    def _take_search(self, words: str, found: HubFacts) -> None:
        if self.screen.facts.hub.state == Inspected(words, "busy"):
            self.screen.take_facts(hub=found)

    def _give_up_search(self) -> None:
        if self._search is not None:
            self._search.cancel()
            self._search = None
        self.screen.take_facts(hub=HubFacts())

    async def _read_machine(self) -> None:
        machine = await asyncio.to_thread(self.screen.backend.machine)
        self.screen.take_facts(machine=machine)

    async def _warm_up(self) -> None:
        await asyncio.to_thread(self.screen.backend.warm_up)

    def _look_at_answers(self) -> None:
        draft = self.screen.draft
        if draft is self._checked:
            return
        self._checked = draft
        self.screen.take_facts(answer_problems=tuple(self.screen.backend.check(draft.layered)))

    def _look_at_model(self) -> None:
        key = model_key(self.screen.draft)
        if not key or self.screen.facts.model_state.key == key:
            return
        self.screen.take_facts(model=None, model_state=Inspected(key, "busy"))
        self._model = self._work(self._read_model(key), "model")

    async def _read_model(self, key: str) -> None:
        draft = self.screen.draft
        try:
            profile = await self.screen.backend.model_profile(draft.value("model.base"), draft.value("model.revision"))
        except Exception as error:  # noqa: BLE001 - see problems_of
            found = problems_of(error, code="model.unreadable", path="model.base")
            if model_key(self.screen.draft) == key:
                self.screen.take_facts(model=None, model_state=Inspected(key, "failed", found))
            return
        if model_key(self.screen.draft) == key:
            self.screen.take_facts(model=profile, model_state=Inspected(key, "done"))

    def _look_at_data(self) -> None:
        facts, key = self.screen.facts, data_key(self.screen.draft)
        if not key or facts.data_state.key == key or not model_ready(self.screen.draft, facts):
            return
        self.screen.take_facts(
            data=None,
            data_look=None,
            data_work=None,
            data_state=Inspected(key, "busy"),
        )
        self._data = self._work(self._read_data(key), "data")

    async def _read_data(self, key: str) -> None:
        tree = inspection_tree(self.screen.draft)
        folder = self.screen.facts.model.folder if self.screen.facts.model is not None else None
        await asyncio.sleep(DATA_PAUSE_S)
        try:
            await self._look_at_shape(key, tree)
            profile = await self.screen.backend.profile_data(tree, folder, partial(self._data_went_on, key))
        except Exception as error:  # noqa: BLE001 - see problems_of
            self._take_data(key, "failed", problems_of(error, code="data.unreadable", path="data.source"))
            return
        if data_key(self.screen.draft) == key:
            self.screen.take_facts(data=profile, data_work=None, data_state=Inspected(key, "done"))

    async def _look_at_shape(self, key: str, tree: dict[str, Any]) -> None:
        """Say what the first rows look like; what is wrong with them is told by the reading of all, which follows."""
        try:
            look = await self.screen.backend.shape_look(tree, partial(self._data_went_on, key))
        except ProblemError:
            return
        if data_key(self.screen.draft) == key:
            self.screen.take_facts(data_look=look, data_work=None)

    def _data_went_on(self, key: str, progress: WorkProgress) -> None:
        facts = self.screen.facts
        if data_key(self.screen.draft) == key and facts.data_state == Inspected(key, "busy"):
            # A finding is said once and stays true.
            found = progress.found or (facts.data_work.found if facts.data_work is not None else "")
            self.screen.take_facts(data_work=replace(progress, found=found))

    def _take_data(self, key: str, progress: Any, problems: tuple[Problem, ...]) -> None:
        if data_key(self.screen.draft) == key:
            self.screen.take_facts(data=None, data_work=None, data_state=Inspected(key, progress, problems))

    def _look_at_plan(self) -> None:
        draft, facts = self.screen.draft, self.screen.facts
        key = plan_key(draft, facts)
        if not key or draft.step not in _PLANNED_STEPS or facts.plan_state.key == key:
            return
        self._give_up_rehearsal()
        self.screen.take_facts(plan_state=Inspected(key, "busy"), rehearsal=Inspected())
        self._plan = self._work(self._make_plan(key), "plan")

    async def _make_plan(self, key: str) -> None:
        draft, facts = self.screen.draft, self.screen.facts
        if facts.model is None or facts.data is None:
            return
        await asyncio.sleep(PLAN_PAUSE_S)
        make = self.screen.backend.plan
        try:
            plan = await asyncio.to_thread(make, draft.layered, facts.model, facts.data)
            undecided = plan
            if draft.taken or draft.value("method.name"):
                free = draft.untaken().unanswered("method.name")
                undecided = await asyncio.to_thread(make, free.layered, facts.model, facts.data)
        except Exception as error:  # noqa: BLE001 - see problems_of
            found = problems_of(error, code="plan.failed")
            self._take_plan(key, plan=None, plan_state=Inspected(key, "failed", found))
            return
        self._take_plan(key, plan=plan, automatic=chosen_option(undecided), plan_state=Inspected(key, "done"))

    def _take_plan(self, key: str, **changes: Any) -> None:
        if plan_key(self.screen.draft, self.screen.facts) == key:
            self.screen.take_facts(**changes)

    def _look_at_rehearsal(self) -> None:
        draft, facts = self.screen.draft, self.screen.facts
        if draft.step not in _PLANNED_STEPS:
            if facts.rehearsal.progress == "busy":
                self._give_up_rehearsal()
                self.screen.take_facts(rehearsal=Inspected())
            return
        key, plan = plan_key(draft, facts), facts.plan
        if not key or plan is None or facts.plan_state.key != key or facts.plan_state.progress != "done":
            return
        if facts.rehearsal.key == key or plan.memory.depth != "formula":
            return
        self.screen.take_facts(rehearsal=Inspected(key, "busy"))
        self._rehearsal = self._work(self._rehearse(key, plan), "rehearsal")

    def _give_up_rehearsal(self) -> None:
        if self._rehearsal is not None:
            self._rehearsal.cancel()
            self._rehearsal = None

    async def _rehearse(self, key: str, plan: "Plan") -> None:
        await asyncio.sleep(REHEARSAL_PAUSE_S)
        try:
            deeper = await self.screen.backend.rehearse(plan)
        except Exception as error:  # noqa: BLE001 - see problems_of
            found = problems_of(error, code="rehearsal.failed")
            self._take_plan(key, rehearsal=Inspected(key, "failed", found))
            return
        self._take_plan(key, plan=deeper, rehearsal=Inspected(key, "done"))

    def launch(self, draft: Draft, plan: "Plan") -> None:
        """Create and start the run, then tell the screen; a rehearsal would only slow it down now."""
        self._give_up_rehearsal()
        self._work(self._launch(draft, plan), "launch")

    async def _launch(self, draft: Draft, plan: "Plan") -> None:
        try:
            run_path: Path = await asyncio.to_thread(self.screen.backend.launch, draft.layered.tree, plan)
        except Exception as error:  # noqa: BLE001 - see problems_of
            self.screen.launch_failed(str(error))
            return
        self.screen.launched(run_path)
