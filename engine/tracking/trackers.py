"""Trackers behind queues: each has a thread of its own, and none can stop or slow the run."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.runs.events import Event
from engine.text import clean_line

QUEUE_EVENTS = 10_000
CLOSE_WITHIN_S = 20.0
Notice = Callable[[str, str], None]
"""Called with a code and a sentence."""


class Tracker(Protocol):
    """Something that takes events."""

    name: str

    def take(self, event: Event) -> None:
        """Take one event; may raise whatever it likes."""

    def close(self) -> None:
        """Send what is left."""


class _Lane:
    """One tracker with its queue and its thread."""

    def __init__(self, make: Callable[[], Tracker], name: str, notice: Notice) -> None:
        self.name = name
        self._make = make
        self._notice = notice
        self._queue: queue.Queue[Event | None] = queue.Queue(QUEUE_EVENTS)
        self._broken = False
        self._told = False
        # A daemon: a service that never answers must not keep the worker alive.
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        if self._broken:
            return
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._fail("it is slower than the run")

    def end(self) -> None:
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self._broken = True

    def wait(self, seconds: float) -> None:
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            self._fail("it did not finish in time")

    def _fail(self, reason: str) -> None:
        self._broken = True
        if not self._told:
            self._told = True
            message = f"{self.name} gets no more numbers of this run: {clean_line(reason, max_chars=200)}."
            self._notice(f"tracking.{self.name}", message)

    def _run(self) -> None:
        tracker: Tracker | None = None
        try:
            tracker = self._make()
            while not self._broken and (event := self._queue.get()) is not None:
                tracker.take(event)
            tracker.close()
        except BaseException as error:  # Libraries exit, too; only this thread may end by it.
            self._fail(type(error).__name__ if tracker is not None else f"{type(error).__name__} at its start")


class Trackers:
    """All trackers of a run.

    Args:
        makers: `{name: makes the tracker}`; each is called in the thread of its tracker.
        notice: Told once of each tracker that fails. Texts of libraries stay out of it: they may hold a token.
    """

    def __init__(self, makers: dict[str, Callable[[], Tracker]], notice: Notice) -> None:
        self._lanes: Sequence[_Lane] = [_Lane(make, name, notice) for name, make in makers.items()]

    def take(self, event: Event) -> None:
        """Hand an event to every tracker; returns at once."""
        for lane in self._lanes:
            lane.put(event)

    def close(self, within_s: float = CLOSE_WITHIN_S) -> None:
        """Let all finish, at most for a while."""
        deadline = time.monotonic() + within_s
        for lane in self._lanes:
            lane.end()
        for lane in self._lanes:
            lane.wait(deadline - time.monotonic())
        self._lanes = ()
