"""`picture.json`: the picture of the log up to a byte offset, so that attaching does not read the whole log.

One JSON object on two lines: `head`, which a list of runs reads alone, and `body`. It is a cache: a missing, torn or
foreign one costs a replay of the log and nothing else.
"""

import json
import os
import zlib
from dataclasses import dataclass
from typing import Any

from engine.runs.directory import RunDirectory
from engine.runs.disk import write_atomically

_FINGERPRINT_BYTES = 512
_MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A side-car that fits its log.

    Attributes:
        offset: Bytes of the log that the body covers.
        body: `Picture.to_json`.
    """

    offset: int
    body: dict[str, Any]


def write_sidecar(run: RunDirectory, head: dict[str, Any], body: dict[str, Any], offset: int) -> None:
    """Replace the side-car; a full disk leaves the old one, which stays right.

    Args:
        run: The run.
        head: `Picture.head`.
        body: `Picture.to_json`.
        offset: Bytes of the log that the picture covers.
    """
    try:
        covered = {**head, "offset": offset, "fingerprint": _fingerprint(run, offset)}
        first = b'{"head":' + json.dumps(covered, separators=(",", ":")).encode() + b",\n"
        second = b'"body":' + json.dumps(body, separators=(",", ":")).encode() + b"}\n"
        write_atomically(run.picture_file, first + second, sync=False)
    except OSError:
        # The log is what counts; readers replay from the offset of the side-car that is there.
        return


def read_sidecar_head(run: RunDirectory) -> dict[str, Any] | None:
    """Return the head of the side-car; None without a readable one."""
    try:
        with run.picture_file.open("rb") as file:
            return _head(file.readline(_MAX_HEAD_BYTES))
    except OSError:
        return None


def read_sidecar(run: RunDirectory) -> Sidecar | None:
    """Return the side-car; None when there is none or it does not fit the log."""
    try:
        first, _, second = run.picture_file.read_bytes().partition(b"\n")
        head = _head(first + b"\n")
        if head is None or head.get("fingerprint") != _fingerprint(run, int(head["offset"])):
            return None
        body = json.loads(b"{" + second)["body"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Sidecar(int(head["offset"]), body) if isinstance(body, dict) else None


def _head(line: bytes) -> dict[str, Any] | None:
    try:
        head = json.loads(line.rstrip(b"\n").removesuffix(b",") + b"}")["head"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return head if isinstance(head, dict) else None


def _fingerprint(run: RunDirectory, offset: int) -> str:
    """Return a mark of the log's bytes before an offset; another log, or a shorter one, has another mark."""
    descriptor = os.open(run.events_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        start = max(0, offset - _FINGERPRINT_BYTES)
        tail = os.pread(descriptor, offset - start, start)
        opening = os.pread(descriptor, min(offset, _FINGERPRINT_BYTES), 0)
    finally:
        os.close(descriptor)
    whole = len(tail) == offset - start and (not tail or tail.endswith(b"\n"))
    return f"{zlib.crc32(opening):08x}{zlib.crc32(tail):08x}" if whole else "torn"
