"""Follow one run from its directory: the picture, the liveness and the end of the worker's output. No Textual here."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.runs.directory import RunDirectory
from engine.runs.events import Event, EventReader
from engine.runs.liveness import RunStatus, last_log_lines, status
from engine.runs.picture import ENDED_STATES, Picture, follow, open_picture

STATUS_EVERY_S = 1.0
_LOG_LINES = 200


@dataclass
class RunFollower:
    """What a viewer knows of a run. Everything comes from disk, so any number of viewers may follow.

    Attributes:
        run: Run directory.
        picture: Reduced picture of its events.
        status: State as the lock, the exit file and the log tell it together.
        on_event: Called with every event in order, after the picture has taken it in; past events too when it is set
            before the first poll, which then reads the whole log.
    """

    run: RunDirectory
    picture: Picture = field(default_factory=Picture)
    status: RunStatus = field(default_factory=lambda: RunStatus("created", alive=False))
    on_event: Callable[[Event], None] | None = None
    _reader: EventReader | None = None
    _status_due: float = 0.0

    @classmethod
    def of(cls, path: Path) -> "RunFollower":
        """Return a follower that has read nothing yet."""
        return cls(RunDirectory(path))

    def open(self) -> None:
        """Read what has happened so far; milliseconds with a side-car, up to a second without."""
        if self.on_event is None:
            self.picture, self._reader = open_picture(self.run)
        else:
            self.picture, self._reader = Picture(), EventReader(self.run.events_file)
        self.refresh_status()

    def poll(self) -> bool:
        """Read new events and, once a second, the liveness; return whether something changed.

        The status is read before the events: a worker that ends between the two is seen at the next poll, and its last
        events are never missed.
        """
        first = self._reader is None
        if first:
            self.open()
        before = self.status
        if time.monotonic() >= self._status_due:
            self.refresh_status()
        assert self._reader is not None
        seq = self.picture.seq
        if self.on_event is None:
            self.picture = follow(self.picture, self._reader)
        else:
            self._pass_on(self._reader.poll(), self.on_event)
        return first or self.picture.seq != seq or self.status != before

    def _pass_on(self, events: list[Event], on_event: Callable[[Event], None]) -> None:
        for event in events:
            self.picture.apply(event)
            on_event(event)

    def refresh_status(self) -> None:
        """Ask for the liveness now."""
        self.status = status(self.run)
        self._status_due = time.monotonic() + STATUS_EVERY_S

    @property
    def state(self) -> str:
        """State to show: the log's while the worker lives, else what liveness says."""
        return self.picture.state if self.status.alive else self.status.state

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen: finished, stopped, failed or crashed, and no worker alive."""
        return not self.status.alive and self.status.state in ENDED_STATES | {"crashed"}

    def log_tail(self) -> tuple[str, ...]:
        """Return the last lines of the worker's own output."""
        return last_log_lines(self.run, _LOG_LINES)
