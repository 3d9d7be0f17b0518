"""The event log of a run: one JSON object per line, one writer, any number of readers.

Not-a-number and the infinities are no JSON. They are written as the strings `"NaN"`, `"Infinity"` and `"-Infinity"` and
read back as floats in the fields that hold nothing but numbers (`NUMBER_FIELDS`, `NUMBER_TABLES`): a generated text may
well be the word NaN.
"""

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.recipe.problems import ProblemError
from engine.runs.disk import PRIVATE_FILE_MODE, disk_problem

LIFECYCLE_TYPES = frozenset({"run.created", "state.changed", "checkpoint.committed", "run.ended"})
"""Types that are made durable with fsync as they are written; so is every `worker.` type."""

NUMBER_FIELDS = frozenset(
    {"loss", "learning_rate", "grad_norm", "tokens_per_s", "elapsed_s", "epoch", "trained_token_share"}
)
NUMBER_TABLES = frozenset({"metrics", "extra"})
_NUMBER_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_BATCH_LINES = 64
_READ_BYTES = 1024 * 1024
_TAIL_BYTES = 64 * 1024


@dataclass(slots=True)
class Event:
    """One line of the log.

    Attributes:
        seq: Number that strictly grows over all attempts of a run.
        time: Unix seconds; for display, never for durations.
        type: `noun.verb_past`.
        payload: The other keys.
    """

    seq: int
    time: float
    type: str
    payload: dict[str, Any]


def is_lifecycle(event_type: str) -> bool:
    """Return whether events of this type are made durable as they are written."""
    return event_type in LIFECYCLE_TYPES or event_type.startswith("worker.")


def encode_event(event: Event) -> bytes:
    """Return the line of an event, newline last."""
    record = {"seq": event.seq, "time": event.time, "type": event.type, **event.payload}
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        record = numbers_to_words(record)
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate from broken data has no UTF-8 form; escaped it keeps the line valid.
        return json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def numbers_to_words(value: Any) -> Any:
    """Return JSON values in which floats that are not finite are words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: numbers_to_words(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [numbers_to_words(item) for item in value]
    return value


def word_to_number(value: Any) -> Any:
    """Return the float of `NaN`, `Infinity` or `-Infinity`; anything else unchanged."""
    return _NUMBER_WORDS.get(value, value) if isinstance(value, str) else value


def _words_to_numbers(payload: dict[str, Any]) -> None:
    for key, value in payload.items():
        if key in NUMBER_FIELDS:
            payload[key] = word_to_number(value)
        elif key in NUMBER_TABLES and isinstance(value, dict):
            payload[key] = {name: word_to_number(number) for name, number in value.items()}


def _event_of(record: Any) -> Event | None:
    """Return the event of a parsed line; None when it is no event."""
    if type(record) is not dict:
        return None
    seq, moment, event_type = record.pop("seq", None), record.pop("time", None), record.pop("type", None)
    if type(seq) is int and type(event_type) is str and type(moment) in (float, int):
        return Event(seq, moment, event_type, record)
    return None


def decode_lines(lines: list[bytes]) -> tuple[list[Event], int]:
    """Return the events of whole lines, and how many lines were none.

    Lines are parsed by the dozen, which costs half of parsing each; a group that does not parse into exactly one
    value per line is read again line by line, so that one bad line costs only itself.
    """
    events: list[Event] = []
    bad = 0
    for start in range(0, len(lines), _BATCH_LINES):
        group = lines[start : start + _BATCH_LINES]
        joined = b"[" + b",".join(group) + b"]"
        records = _parse(joined)
        if not isinstance(records, list) or len(records) != len(group):
            records = [_parse(line) for line in group]
        found = [event for event in map(_event_of, records) if event is not None]
        bad += len(group) - len(found)
        if b'NaN"' in joined or b'Infinity"' in joined:
            for event in found:
                _words_to_numbers(event.payload)
        events += found
    return events, bad


def decode_chunk(chunk: bytes) -> tuple[list[Event], int]:
    """Return the events of a piece of a log that ends with a newline, and how many of its lines were none."""
    return decode_lines([line for line in chunk.split(b"\n") if line])


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# --- writing --------------------------------------------------------------------------------------------------------


class EventWriter:
    """Append events; the worker holds the only one of a run.

    A disk that cannot take an event never stops training: the event is dropped and counted, and a `notice.raised`
    says so as soon as there is space again.
    """

    def __init__(self, path: Path) -> None:
        """Open the log and heal what a killed writer left at its end.

        Raises:
            ProblemError: The file cannot be opened or healed.
        """
        self.path = path
        self.dropped_events = 0
        self.last_write_error: OSError | None = None
        self._dropped_since_notice = 0
        self._lock = threading.Lock()
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, PRIVATE_FILE_MODE)
            heal_tail(self._descriptor)
            self.offset = os.fstat(self._descriptor).st_size
            self.seq = _last_seq(self._descriptor, self.offset)
        except OSError as error:
            raise ProblemError(disk_problem(error, path, "open the event log")) from error

    def write(self, event_type: str, /, **payload: Any) -> Event | None:
        """Append one event and return it; None when the disk could not take it.

        Args:
            event_type: `noun.verb_past`, as in docs/architecture.md.
            payload: The event's other keys; JSON values, and floats that are not finite.
        """
        with self._lock:
            if self._dropped_since_notice:
                self._report_dropped()
            return self._append(event_type, payload)

    def close(self) -> None:
        """Make what was written durable and close the file."""
        with self._lock:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                self.last_write_error = error
            os.close(self._descriptor)

    def _append(self, event_type: str, payload: dict[str, Any]) -> Event | None:
        event = Event(self.seq + 1, round(time.time(), 3), event_type, payload)
        line = encode_event(event)
        if not self._put(line, durable=is_lifecycle(event_type)):
            self.dropped_events += 1
            self._dropped_since_notice += 1
            return None
        self.seq = event.seq
        self.offset += len(line)
        return event

    def _put(self, line: bytes, *, durable: bool) -> bool:
        try:
            taken = os.write(self._descriptor, line)
            while taken < len(line):
                taken += os.write(self._descriptor, line[taken:])
        except OSError as error:
            self.last_write_error = error
            # Half a line would be glued to the next event; cutting a file back needs no space.
            os.ftruncate(self._descriptor, self.offset)
            return False
        if durable:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                # The line is in the file and readers see it; only a power loss could take it back.
                self.last_write_error = error
        return True

    def _report_dropped(self) -> None:
        dropped, self._dropped_since_notice = self._dropped_since_notice, 0
        cause = self.last_write_error.strerror if self.last_write_error else "unknown cause"
        notice = {
            "severity": "warning",
            "code": "events.dropped",
            "message": f"{dropped} events could not be written ({cause}); they are missing from the curves.",
        }
        if self._append("notice.raised", notice) is None:
            # The notice itself was dropped and counted: it is no event that anyone misses.
            self.dropped_events -= 1
            self._dropped_since_notice = dropped


def heal_tail(descriptor: int) -> None:
    """Repair the end of a log whose writer was killed: the next event must not be glued to half a line.

    A last line that lacks nothing but its newline gets it; any other torn tail is cut off. Bytes before the last
    newline are never touched, so readers that stand there are not disturbed.

    Args:
        descriptor: The log, open for reading and appending.
    """
    size = os.fstat(descriptor).st_size
    tail_start = _tail_start(descriptor, size)
    tail = os.pread(descriptor, size - tail_start, tail_start)
    if not tail:
        return
    if _event_of(_parse(tail)) is not None:
        os.write(descriptor, b"\n")
    else:
        os.ftruncate(descriptor, tail_start)


def _tail_start(descriptor: int, size: int) -> int:
    """Return where the bytes after the last newline begin."""
    end = size
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _last_seq(descriptor: int, size: int) -> int:
    """Return the largest number among the last events; 0 in an empty log."""
    length = _TAIL_BYTES
    while True:
        start = max(0, size - length)
        lines = os.pread(descriptor, size - start, start).split(b"\n")
        events, _ = decode_lines([line for line in (lines if start == 0 else lines[1:]) if line])
        if events or start == 0:
            return max((event.seq for event in events), default=0)
        length *= 4


# --- reading --------------------------------------------------------------------------------------------------------


class EventReader:
    """Follow a log from a byte offset; never writes, never blocks.

    Attributes:
        offset: Bytes of whole lines read so far; a line without its newline is read again at the next poll.
        bad_lines: Lines that held no event.
        restarts: How often the file turned out shorter than what was read, or another file. Reading then begins at its
            start, and whoever keeps a picture of the events starts a new one.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.bad_lines = 0
        self.restarts = 0
        self._identity: tuple[int, int] | None = None

    def poll(self) -> list[Event]:
        """Return the events appended since the last poll; none when there is no file yet."""
        found: list[Event] = []
        for chunk in self.chunks():
            events, bad = decode_chunk(chunk)
            self.bad_lines += bad
            found += events
        return found

    def chunks(self) -> Iterator[bytes]:
        """Yield the whole lines appended since the last poll in pieces, so that a long log needs little memory.

        Whoever decodes them counts their `bad_lines`.

        Raises:
            ProblemError: The log cannot be read.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ProblemError(disk_problem(error, self.path, "read the event log")) from error
        try:
            size = self._check_same_file(descriptor)
            while self.offset < size and (chunk := self._whole_lines(descriptor, size)):
                self.offset += len(chunk)
                yield chunk
        except OSError as error:
            raise ProblemError(disk_problem(error, self.path, "read the event log")) from error
        finally:
            os.close(descriptor)

    def _check_same_file(self, descriptor: int) -> int:
        facts = os.fstat(descriptor)
        identity = (facts.st_dev, facts.st_ino)
        if facts.st_size < self.offset or self._identity not in (None, identity):
            self.offset = 0
            self.bad_lines = 0
            self.restarts += 1
        self._identity = identity
        return facts.st_size

    def _whole_lines(self, descriptor: int, size: int) -> bytes:
        length = min(size - self.offset, _READ_BYTES)
        while True:
            chunk = os.pread(descriptor, length, self.offset)
            end = chunk.rfind(b"\n") + 1
            if end or len(chunk) < length or self.offset + length >= size:
                return chunk[:end]
            length = min(size - self.offset, 4 * length)
