"""The folder `tensorboard/` of a run: one event file, made anew from the event log at each start.

A run that is resumed goes back to its checkpoint and takes some steps again. The log knows which; writing the file anew
from it, without the steps that were taken back, is what keeps curves single.
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from engine.runs.directory import RunDirectory
from engine.runs.events import Event, EventReader, decode_chunk
from engine.tracking.event_file import EventFile
from engine.tracking.scalars import Scalar, ScalarReader

FOLDER = "tensorboard"


class TensorBoardFiles:
    """Writes the event file of a run as its events come.

    Args:
        run: The run; its log holds the events of earlier attempts.
    """

    name = "tensorboard"

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._file: EventFile | None = None
        self._reader = ScalarReader()

    def take(self, event: Event) -> None:
        """Write the points of an event of the log.

        Raises:
            OSError: The file cannot be written.
        """
        if event.type == "training.started" or self._file is None:
            points = list(ScalarReader().read(event))
            if event.type == "training.started" or points:
                self._begin(event)
            return
        self._file.write(self._reader.read(event))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self, event: Event) -> None:
        """Make the file anew from all events up to one, and remove older files."""
        self.close()
        folder = self._run.path / FOLDER
        folder.mkdir(exist_ok=True)
        old = sorted(folder.glob("*tfevents*"))
        self._file = EventFile(_free_name(folder, event.time))
        self._reader = ScalarReader()
        self._file.write(kept_points(self._run, self._reader, event.seq))
        for path in old:
            path.unlink(missing_ok=True)


def kept_points(run: RunDirectory, reader: ScalarReader, last_seq: int) -> Iterator[Scalar]:
    """Yield the points of a log up to an event, without steps that a later start took back.

    Args:
        run: Whose log.
        reader: Stands behind the last event afterwards.
        last_seq: Number of the last event.
    """
    # A start takes back what lies behind its step among the points before it; what counts is the lowest later start.
    starts = [
        (event.seq, int(event.payload["start_step"]))
        for event in _events(run, last_seq)
        if event.type == "training.started"
    ]
    lowest = list(itertools.accumulate((step for _, step in reversed(starts)), min))[::-1]
    passed = 0
    for event in _events(run, last_seq):
        while passed < len(starts) and starts[passed][0] <= event.seq:
            passed += 1
        for point in reader.read(event):
            if passed == len(starts) or point.step <= lowest[passed]:
                yield point


def _events(run: RunDirectory, last_seq: int) -> Iterator[Event]:
    for chunk in EventReader(run.events_file).chunks():
        for event in decode_chunk(chunk)[0]:
            if event.seq > last_seq:
                return
            yield event


def _free_name(folder: Path, seconds: float) -> Path:
    for second in itertools.count(int(seconds or time.time())):
        path = folder / f"events.out.tfevents.{second}.ftwizard"
        if not path.exists():
            return path
    raise AssertionError("unreachable")
