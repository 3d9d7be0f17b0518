"""The worker's hold on the event log: an event and its place in the picture are never torn by a signal."""

from collections.abc import Callable
from typing import Any

from engine.runs.picture import PictureWriter
from engine.tracking.trackers import Tracker, Trackers
from engine.training.interrupt import Interrupt


class EventLog:
    """Writes events; a signal that arrives in the middle of one waits until it is written."""

    def __init__(self, writer: PictureWriter, interrupt: Interrupt) -> None:
        self._writer = writer
        self._interrupt = interrupt
        self._trackers: Trackers | None = None

    def follow(self, makers: dict[str, Callable[[], Tracker]]) -> None:
        """Hand every event from here on to trackers as well."""
        self._trackers = Trackers(makers, self._notice)

    def write(self, event_type: str, /, **payload: Any) -> None:
        """Append one event."""
        with self._interrupt.shielded():
            event = self._writer.write(event_type, **payload)
            if event is not None and self._trackers is not None:
                self._trackers.take(event)

    def end_tracking(self) -> None:
        """Let trackers finish; what one of them could not do is in the log when this returns."""
        trackers, self._trackers = self._trackers, None
        if trackers is not None:
            trackers.close()

    def _notice(self, code: str, message: str) -> None:
        # From the thread of a tracker, where no signal arrives.
        self._writer.write("notice.raised", severity="warning", code=code, message=message)

    def close(self) -> None:
        """Make everything durable and close the log."""
        self.end_tracking()
        self._writer.close()
