"""Viewers' requests on the worker's side: each answered once, a stop noticed in every stage."""

from collections import deque
from typing import Protocol

from engine.runs.control import ControlReader, ControlRequest
from engine.training.interrupt import StopRequested


class EventSink(Protocol):
    """Where events go."""

    def write(self, event_type: str, /, **payload: object) -> object:
        """Append one event."""


class RequestDesk:
    """Keeps requests until a stage can answer them."""

    def __init__(self, reader: ControlReader, events: EventSink) -> None:
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

    def stop_asked(self) -> bool:
        """Return whether a stop is among the requests; all of them go on waiting."""
        self._waiting.extend(self._reader.poll())
        return any(request.action in ("stop", "kill") for request in self._waiting)

    def acknowledge(self, request: ControlRequest, result: str) -> None:
        """Write the answer to a request."""
        self._events.write("control.acknowledged", id=request.id, action=request.action, result=result)

    def check_stop(self) -> None:
        """Answer a waiting stop.

        Raises:
            StopRequested: One was waiting.
        """
        for request in list(self._waiting):
            if request.action in ("stop", "kill"):
                self._waiting.remove(request)
                self.acknowledge(request, "stopping")
                raise StopRequested("a viewer asked to stop", save=request.action == "stop")
