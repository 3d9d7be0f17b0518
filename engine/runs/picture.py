"""The picture of a run as viewers attach to it and as the worker keeps it: side-car first, log after that."""

import threading
import time
from typing import Any

from engine.runs import sidecar
from engine.runs.directory import RunDirectory
from engine.runs.events import Event, EventReader, EventWriter, is_lifecycle, numbers_to_words, word_to_number
from engine.runs.reducer import ENDED_STATES, Picture
from engine.runs.replay import replay_chunk

__all__ = ["ENDED_STATES", "Picture", "PictureWriter", "follow", "open_picture", "read_head"]


def open_picture(run: RunDirectory) -> tuple[Picture, EventReader]:
    """Return the picture of a run and the reader that goes on from there.

    The side-car `picture.json` is taken when it fits the log, which makes this a matter of milliseconds at any length;
    without one the log is replayed.

    Raises:
        ProblemError: The log cannot be read.
    """
    picture, offset = Picture(), 0
    saved = sidecar.read_sidecar(run)
    if saved is not None:
        try:
            picture, offset = Picture.from_json(saved.body), saved.offset
        except (KeyError, TypeError, ValueError, AttributeError):
            picture, offset = Picture(), 0
    reader = EventReader(run.events_file, offset)
    follow(picture, reader)
    return picture, reader


def follow(picture: Picture, reader: EventReader) -> Picture:
    """Apply what was appended since the last poll; returns a new picture when the log was replaced, else the same.

    Args:
        picture: Picture of the events read so far.
        reader: Reader that stands behind them.
    """
    restarts = reader.restarts
    for chunk in reader.chunks():
        if reader.restarts != restarts:
            restarts = reader.restarts
            picture = Picture()
        reader.bad_lines += replay_chunk(picture, chunk)
    # A log that was emptied has no lines to begin a new picture with.
    return picture if reader.restarts == restarts else Picture()


def read_head(run: RunDirectory) -> dict[str, Any]:
    """Return `Picture.head` of a run from the first line of its side-car, else from its log.

    Raises:
        ProblemError: The log cannot be read.
    """
    head = sidecar.read_sidecar_head(run)
    if head is None:
        head = open_picture(run)[0].head()
    return {name: word_to_number(value) if name in ("loss", "eval_loss") else value for name, value in head.items()}


class PictureWriter:
    """The worker's event log: writes an event, applies it, and keeps the side-car fresh.

    The side-car is written at lifecycle events, and else at most once a second and at most 0.5 % of the time.
    """

    def __init__(self, run: RunDirectory) -> None:
        """Open the log for appending.

        Raises:
            ProblemError: The log cannot be opened.
        """
        self.run = run
        self.events = EventWriter(run.events_file)
        self.picture, _ = open_picture(run)
        self._lock = threading.Lock()
        self._next_save = 0.0

    def write(self, event_type: str, /, **payload: Any) -> Event | None:
        """Append one event as `EventWriter.write` does, and keep the picture."""
        with self._lock:
            before = self.events.seq
            event = self.events.write(event_type, **payload)
            if event is None:
                return None
            if event.seq == before + 1:
                self.picture.apply(event)
            else:
                # A notice about dropped events went first; the log has both.
                self.picture, _ = open_picture(self.run)
            if is_lifecycle(event_type) or time.monotonic() >= self._next_save:
                self._save()
            return event

    def close(self) -> None:
        """Write the side-car and close the log."""
        with self._lock:
            self._save()
            self.events.close()

    def _save(self) -> None:
        started = time.monotonic()
        body = self.picture.to_json()
        sidecar.write_sidecar(self.run, numbers_to_words(self.picture.head()), body, self.events.offset)
        spent_s = time.monotonic() - started
        self._next_save = started + max(1.0, 200 * spent_s)
