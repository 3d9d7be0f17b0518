"""Viewers' requests on the worker's side: each answered once, a stop noticed in every stage."""

from collections import deque
from typing import Literal, Protocol

from engine.runs.control import ControlReader, ControlRequest
from engine.training.interrupt import StopRequested

STOPS = ("stop", "kill")


class EventSink(Protocol):
    """Where events go."""

    def write(self, event_type: str, /, **payload: object) -> object:
        """Append one event."""


Phase = Literal["before", "training", "after"]

_ANSWERS: dict[Phase, dict[str, str]] = {
    "before": {
        "checkpoint": "nothing to save: training has not begun",
        "evaluate": "not yet: training has not begun, ask again then",
    },
    "after": {
        "pause": "training is over, there is nothing to pause",
        "resume": "training is over, it was not paused",
        "checkpoint": "training is over, there is nothing new to save",
        "evaluate": "training is over, its evaluation is part of the run",
    },
}
"""What is answered where a request cannot be carried out."""


class RequestDesk:
    """Keeps requests until a stage can answer them.

    Attributes:
        phase: Where the run stands. While it trains, the look-out carries requests out; before and after, everything
            but a stop is answered here with what can be said.
        pause_asked: A pause was asked for before training; the look-out begins with it.
    """

    def __init__(self, reader: ControlReader, events: EventSink) -> None:
        self.phase: Phase = "before"
        self.pause_asked = False
        self._reader = reader
        self._events = events
        self._waiting: deque[ControlRequest] = deque()
        for request in reader.expired:
            self.acknowledge(request, "expired with the attempt that it was made to")

    def take(self) -> list[ControlRequest]:
        """Return the requests that wait for an answer, in order."""
        self._waiting.extend(self._reader.poll())
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def attend(self) -> None:
        """Answer what can be answered outside training; called between the parts of a stage.

        Raises:
            StopRequested: A stop was asked for.
        """
        if self.stop_asked():
            self.check_stop()

    def stop_asked(self) -> bool:
        """Return whether a stop is among the requests; it goes on waiting, and while training so do the others."""
        self._waiting.extend(self._reader.poll())
        if self.phase != "training":
            self._answer_idle()
        return any(request.action in STOPS for request in self._waiting)

    def acknowledge(self, request: ControlRequest, result: str) -> None:
        """Write the answer to a request."""
        self._events.write("control.acknowledged", id=request.id, action=request.action, result=result)

    def check_stop(self) -> None:
        """Answer a waiting stop.

        Raises:
            StopRequested: One was waiting.
        """
        for request in list(self._waiting):
            if request.action in STOPS:
                self._settle(request, "stopping")
                raise StopRequested(f"a viewer asked to {request.action} the run", save=request.action == "stop")

    def close(self, state: str) -> None:
        """Answer whatever is left when the run ends."""
        for request in self.take():
            done = request.action in STOPS and state == "stopped"
            self.acknowledge(request, "stopped" if done else f"too late: the run is {state}")

    def _answer_idle(self) -> None:
        for request in list(self._waiting):
            if request.action not in STOPS:
                self._settle(request, self._idle_answer(request.action))

    def _settle(self, request: ControlRequest, result: str) -> None:
        try:
            self.acknowledge(request, result)
        finally:
            # Also when a signal ends the stage right behind the answer: none is given twice.
            self._waiting.remove(request)

    def _idle_answer(self, action: str) -> str:
        if self.phase == "before" and action in ("pause", "resume"):
            was_asked, self.pause_asked = self.pause_asked, action == "pause"
            if self.pause_asked:
                return "will pause before the first step"
            return "will not pause" if was_asked else "was not paused"
        return _ANSWERS[self.phase][action]
