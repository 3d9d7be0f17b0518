"""Reads X-ray pages in the background: the first of the answers given, and every page that is turned to."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.worker import Worker

from engine.recipe.problems import Problem, ProblemError
from tui.backend import WorkProgress, XrayOrder, XrayPage
from tui.wizard.facts import Inspected, XrayFacts, xray_key, xray_tree

if TYPE_CHECKING:
    from tui.wizard.screen import WizardScreen

PAGE_COUNT = 5
XRAY_PAUSE_S = 0.03
XRAY_STEPS = ("xray", "review")
"""Where an X-ray is needed: not while settings are turned, each of which would have it read again."""


class XrayReadings:
    """Starts readings of X-rays, and never two of a kind."""

    def __init__(self, screen: "WizardScreen") -> None:
        self.screen = screen
        self._first: Worker[None] | None = None
        self._page: Worker[None] | None = None

    def look(self) -> None:
        """Read the X-ray that the draft needs, unless it is there or under way; give up one of other answers."""
        draft, facts = self.screen.draft, self.screen.facts
        key = xray_key(draft, facts)
        if key == facts.xray.state.key and key:
            return
        self.stop()
        if key and draft.step in XRAY_STEPS:
            self.screen.take_facts(xray=XrayFacts(Inspected(key, "busy"), seen=facts.xray.seen))
            self._first = self._work(self._read_first(key), "xray")

    def stop(self) -> None:
        """Give up what is being read."""
        for worker in (self._first, self._page):
            if worker is not None:
                worker.cancel()
        self._first = self._page = None

    def cancel(self) -> None:
        """Give up the reading under way because the person said so; it is not begun again by itself."""
        state = self.screen.facts.xray.state
        if state.progress != "busy":
            return
        self.stop()
        problem = Problem("xray.cancelled", "The X-ray was cancelled.", "Press r to read it again.", "data.source")
        self.screen.take_xray(state=Inspected(state.key, "failed", (problem,)), work=None)

    def turn(self, order: XrayOrder, start: int) -> None:
        """Read the page that begins at `start` of an order."""
        key = self.screen.facts.xray.state.key
        if self.screen.facts.xray.state.progress != "done":
            return
        self.screen.take_xray(turning=Inspected(f"{order} {start}", "busy"))
        self._page = self._work(self._read_page(key, order, start), "xray-page")

    def _work(self, work: Coroutine[Any, Any, None], group: str) -> Worker[None]:
        return self.screen.run_worker(work, group=group, exit_on_error=False, exclusive=True)

    def _went_on(self, key: str, work: WorkProgress) -> None:
        if self.screen.facts.xray.state == Inspected(key, "busy"):
            self.screen.take_xray(work=work)

    async def _ask(self, order: XrayOrder, start: int, key: str) -> XrayPage:
        model = self.screen.facts.model
        folder = model.folder if model is not None else None
        tree = xray_tree(self.screen.draft)
        return await self.screen.backend.xray(tree, folder, start, PAGE_COUNT, order, partial(self._went_on, key))

    async def _read_first(self, key: str) -> None:
        from tui.wizard.readings import problems_of

        await asyncio.sleep(XRAY_PAUSE_S)
        try:
            page = await self._ask("file", 0, key)
        except Exception as error:  # noqa: BLE001 - see problems_of
            found = problems_of(error, code="xray.unreadable")
            self._take(key, state=Inspected(key, "failed", found), work=None)
            return
        self._take(key, state=Inspected(key, "done"), whole=page, page=page, order="file", work=None)

    async def _read_page(self, key: str, order: XrayOrder, start: int) -> None:
        from tui.wizard.readings import problems_of

        try:
            page = await self._ask(order, start, key)
        except Exception as error:  # noqa: BLE001 - see problems_of
            found = problems_of(error, code="xray.page_unreadable")
            self._take(key, turning=Inspected(f"{order} {start}", "failed", found))
            if not isinstance(error, ProblemError):
                self.screen.log.error(f"X-ray page: {error!r}")
            return
        self._take(key, page=page, order=order, turning=Inspected(f"{order} {start}", "done"))

    def _take(self, key: str, **changes: object) -> None:
        if self.screen.facts.xray.state.key == key:
            self.screen.take_xray(**changes)
