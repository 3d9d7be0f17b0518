"""The control log: what viewers ask of a running worker.

Any viewer appends a request; the worker carries it out and acknowledges it with the event `control.acknowledged`. A
resumed run writes a mark into the log: what was asked of an earlier attempt and never answered has expired, so that
an old "stop" cannot end the new one.
"""

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.disk import PRIVATE_FILE_MODE, disk_problem, write_all
from engine.runs.events import decode_lines
from engine.text import clean_line

Action = Literal["pause", "resume", "checkpoint", "evaluate", "stop", "kill"]
ACTIONS: tuple[str, ...] = get_args(Action)

_ATTEMPT_MARK = "attempt"


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One request of a viewer.

    Attributes:
        id: Unique name, repeated by the acknowledgement.
        action: One of `ACTIONS`.
        by: Who asked, in words, such as `monitor`.
        time: Unix seconds.
    """

    id: str
    action: str
    by: str
    time: float


def request(run: RunDirectory, action: str, by: str) -> str:
    """Ask the worker of a run for something and return the id of the request.

    Args:
        run: The run.
        action: One of `ACTIONS`.
        by: Who asks, in words.

    Raises:
        ProblemError: `control.unknown_action`, or the log cannot be written.
    """
    if action not in ACTIONS:
        message = f"{clean_line(action, max_chars=40)!r} is not something a run can be asked."
        raise ProblemError(Problem("control.unknown_action", message, f"Ask for one of: {', '.join(ACTIONS)}."))
    return _append(run, action, by)


def mark_attempt(run: RunDirectory, by: str) -> None:
    """Note that a new attempt begins: requests before this one have expired.

    Raises:
        ProblemError: The log cannot be written.
    """
    if run.control_file.exists():
        _append(run, _ATTEMPT_MARK, by)


def _append(run: RunDirectory, action: str, by: str) -> str:
    request_id = secrets.token_hex(8)
    record = {"id": request_id, "time": round(time.time(), 3), "action": action, "by": by}
    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(run.control_file, flags, PRIVATE_FILE_MODE)
        try:
            size = os.fstat(descriptor).st_size
            # A viewer killed in the middle of a line must not swallow this one.
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            write_all(descriptor, b"\n" + line if torn else line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ProblemError(disk_problem(error, run.control_file, "ask the worker")) from error
    return request_id


class ControlReader:
    """The worker's side: every request once, none lost.

    Attributes:
        expired: Requests to earlier attempts that nobody answered; the worker acknowledges them as expired.
        bad_lines: Lines that held no request.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._path = run.control_file
        self._seen = _acknowledged_ids(run.events_file)
        self._offset = 0
        self.bad_lines = 0
        self.expired: list[ControlRequest] = []
        self._waiting: list[ControlRequest] = []
        for entry in self._read():
            if entry.action == _ATTEMPT_MARK:
                self.expired += self._waiting
                self._waiting = []
            else:
                self._waiting.append(entry)

    def poll(self) -> list[ControlRequest]:
        """Return the requests since the last poll, in order; costs one `stat` when there are none."""
        waiting, self._waiting = self._waiting, []
        return waiting + [entry for entry in self._read() if entry.action != _ATTEMPT_MARK]

    def _read(self) -> list[ControlRequest]:
        """Return requests not seen before, marks included."""
        try:
            size = self._path.stat().st_size
            if size == self._offset:
                return []
            if size < self._offset:
                self._offset = 0
            with self._path.open("rb") as log:
                log.seek(self._offset)
                chunk = log.read()
        except OSError:
            # No request was made yet, or the disk hiccups: the next poll reads again from the same place.
            return []
        end = chunk.rfind(b"\n") + 1
        self._offset += end
        return [entry for line in chunk[:end].split(b"\n") if line for entry in self._entries(line)]

    def _entries(self, line: bytes) -> list[ControlRequest]:
        entry = _parse_request(line)
        if entry is None:
            self.bad_lines += 1
            return []
        if entry.id in self._seen:
            return []
        self._seen.add(entry.id)
        return [entry]


def _parse_request(line: bytes) -> ControlRequest | None:
    try:
        record: Any = json.loads(line)
        request_id, action = record["id"], record["action"]
        known = action in ACTIONS or action == _ATTEMPT_MARK
        if not known or not isinstance(request_id, str):
            return None
        return ControlRequest(request_id, action, str(record.get("by") or ""), float(record.get("time") or 0.0))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _acknowledged_ids(events_file: Path) -> set[str]:
    """Return the ids that the log answers; looks at the bytes first, since nearly all lines are about steps."""
    try:
        with events_file.open("rb") as log:
            lines = [line.rstrip(b"\n") for line in log if b'"control.acknowledged"' in line]
    except FileNotFoundError:
        return set()
    events, _ = decode_lines(lines)
    return {str(event.payload.get("id")) for event in events if event.type == "control.acknowledged"}
