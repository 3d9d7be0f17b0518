"""A download as viewers see it: a note at both ends, how far it is in between, and stops noticed on the way."""

import time
from collections.abc import Callable
from pathlib import Path

from engine.models.hub import resolve_model
from engine.planning.plan import Plan
from engine.text import clean_line, human_bytes
from engine.training.requests import EventSink, RequestDesk

TELL_EVERY_S = 1.0


class DownloadTold:
    """Turns bytes into events, at most one a second."""

    def __init__(
        self, base: str, events: EventSink, desk: RequestDesk, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._base = clean_line(base, max_chars=120)
        self._events = events
        self._desk = desk
        self._clock = clock
        self._told_s: float | None = None
        self._total_bytes = 0

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        """Take note of progress.

        Raises:
            StopRequested: A viewer asked for a stop; what has arrived stays.
        """
        now = self._clock()
        if self._told_s is None:
            self._total_bytes = total_bytes
            self._note(f"Downloading {human_bytes(total_bytes)} of weights of {self._base}.")
        elif now - self._told_s < TELL_EVERY_S:
            return
        self._told_s = now
        if self._desk.stop_asked():
            self._desk.check_stop()
        reason = f"downloading {human_bytes(done_bytes)} of {human_bytes(total_bytes)}"
        self._events.write("state.changed", state="preparing", reason=reason)

    def end(self) -> None:
        """Say that it is complete, if there was anything to download."""
        if self._told_s is None:
            return
        self._note(f"{self._base} is complete and checked: {human_bytes(self._total_bytes)} downloaded.")
        self._events.write("state.changed", state="preparing", reason="")

    def _note(self, message: str) -> None:
        self._events.write("notice.raised", severity="note", code="model.download", message=message)


def fetch_model(plan: Plan, events: EventSink, desk: RequestDesk) -> tuple[Plan, Path]:
    """Return the plan with its base model pinned to what was fetched, and the folder of the model.

    Args:
        plan: Names model and commit; a plan that was made without the hub names no commit.
        events: Told how far the download is.
        desk: Asked for stops meanwhile.

    Raises:
        ProblemError: The model cannot be had.
        StopRequested: A viewer asked for a stop.
    """
    source = plan.recipe.model
    told = DownloadTold(source.base, events, desk)
    revision = plan.model.revision or source.revision
    resolved = resolve_model(source.base, revision, allow_code=source.trust_remote_code, progress=told)
    told.end()
    pinned = source.model_copy(update={"revision": resolved.revision or source.revision})
    recipe = plan.recipe.model_copy(update={"model": pinned})
    return plan.model_copy(update={"recipe": recipe}), resolved.folder
