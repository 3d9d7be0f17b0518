"""Which weight files were looked at whole, so that gigabytes are read once and not at each start.

A file counts as the one that was read while its size, its times and its inode are the same: the time of its last
change (`ctime`) cannot be set back by a program. A disk that rots silently is found when the cache folder is emptied.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine.recipe.problems import ProblemError
from engine.runs.disk import private_folder, write_atomically
from engine.runs.home import home_folders

FILE_NAME = "verified-weights.json"
MAX_FILES = 2000
CHUNK_BYTES = 8 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUMS_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
MAX_SUMS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of a file's content.

    Attributes:
        sha256: Of the content; empty when it was not computed.
        finite: Whether every number in it was looked at and is one.
    """

    sha256: str = ""
    finite: bool = False


class VerifiedFiles:
    """What was found out about files, kept in the cache folder of this person.

    Args:
        folder: Where the record is kept; the cache folder when None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = (folder or home_folders().cache) / FILE_NAME
        self._entries = _read(self._path)

    def of(self, file: Path) -> Looked:
        """Return what is known of a file as it is now."""
        entry = self._entries.get(os.path.realpath(file))
        if entry is None or entry["identity"] != _identity(file):
            return Looked()
        return Looked(str(entry["sha256"]), entry["finite"] is True)

    def note(self, file: Path, *, sha256: str | None = None, finite: bool | None = None) -> None:
        """Add to what is known of a file as it is now."""
        known = self.of(file)
        if sha256 is not None:
            known = replace(known, sha256=sha256)
        if finite is not None:
            known = replace(known, finite=finite)
        path = os.path.realpath(file)
        self._entries.pop(path, None)
        self._entries[path] = {"identity": _identity(file), **asdict(known)}
        while len(self._entries) > MAX_FILES:
            del self._entries[next(iter(self._entries))]
        # Only hints are in it: without them the next start reads the files again.
        with contextlib.suppress(ProblemError, OSError):
            private_folder(self._path.parent)
            write_atomically(self._path, json.dumps(self._entries).encode())


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads(path.read_bytes())
        wanted = {"identity", "sha256", "finite"}
        return {name: entry for name, entry in document.items() if set(entry) == wanted}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _identity(file: Path) -> list[int]:
    facts = file.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev]


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model folder, in order."""
    return sorted(folder.glob("*.safetensors"))


def hash_of(file: Path) -> str:
    """Return the sha256 of a file's content."""
    digest = hashlib.sha256()
    for chunk in _chunks(file):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            yield chunk


def promised_hash(file: Path) -> str:
    """Return the sha256 that a weight file should have; empty where nobody says.

    Who says: the hub's cache, which names the content by its hash; the hub's client beside files that it put into a
    plain folder (`.cache/huggingface/download/NAME.metadata`, second line); or a `SHA256SUMS` file in the folder.
    """
    if file.is_symlink():
        target = Path(os.path.realpath(file))
        if target.parent.name == "blobs" and _SHA256.fullmatch(target.name):
            return target.name
    noted = file.parent / ".cache" / "huggingface" / "download" / f"{file.name}.metadata"
    lines = _small_text(noted).splitlines()
    if len(lines) > 1 and _SHA256.fullmatch(lines[1].strip()):
        return lines[1].strip()
    for line in _small_text(file.parent / "SHA256SUMS").splitlines():
        found = _SUMS_LINE.fullmatch(line.strip())
        if found and found[2].removeprefix("./") == file.name:
            return found[1]
    return ""


def _small_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_SUMS_BYTES:
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
