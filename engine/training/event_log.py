"""The worker's hold on the event log: an event and its place in the picture are never torn by a signal."""

from typing import Any

from engine.runs.picture import PictureWriter
from engine.training.interrupt import Interrupt


class EventLog:
    """Writes events; a signal that arrives in the middle of one waits until it is written."""

    def __init__(self, writer: PictureWriter, interrupt: Interrupt) -> None:
        self._writer = writer
        self._interrupt = interrupt

    def write(self, event_type: str, /, **payload: Any) -> None:
        """Append one event."""
        with self._interrupt.shielded():
            self._writer.write(event_type, **payload)

    def close(self) -> None:
        """Make everything durable and close the log."""
        self._writer.close()
