"""Results kept by what they were made of: prepared rows, token ids.

An entry is a folder that appears whole or not at all: it is written under another name and renamed. Its name is a hash
of everything that decides its content, so an entry is never wrong, only unused; those unused longest go first.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.runs.disk import private_folder

MAX_BYTES = 20 << 30
"""Size of all entries of one kind beyond which the ones unused longest are removed."""
_STAGING = ".making-"
_UNOWNED_S = 10.0
"""Between making a folder and holding it passes a moment; one that nobody holds after so long belongs to nobody."""


def content_key(*parts: Any) -> str:
    """Return a hash over JSON values; equal values give equal keys, whatever the order of their mappings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str).encode()).hexdigest()[:40]


def source_key(*modules: str) -> str:
    """Return a hash over the source code of packages or modules, so that other code never reads an old entry.

    Args:
        modules: Paths below the `engine` package, such as `data` or `data/rendering.py`.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for module in modules:
        path = root / module
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(root)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class ContentCache:
    """Entries of one kind below the cache folder.

    Args:
        cache: The cache folder of this person (`engine.runs.home`).
        kind: Name of the folder of these entries: `rows` or `tokens`.
        max_bytes: Size of all entries beyond which the ones unused longest are removed.
    """

    def __init__(self, cache: Path, kind: str, max_bytes: int = MAX_BYTES) -> None:
        self._folder = cache / kind
        self._max_bytes = max_bytes

    def find(self, key: str) -> Path | None:
        """Return the folder of an entry, now the one used last; None where there is none.

        Args:
            key: Its name; what a damaged file says instead, such as nothing or a path, names no entry.
        """
        if not key.isalnum():
            return None
        entry = self._folder / key
        try:
            os.utime(entry)
        except OSError:
            return None
        return entry

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[Path]:
        """Give a folder to write an entry into; it takes its place when the block ends without an error.

        Where another process has made the same entry meanwhile, that one stays.
        """
        private_folder(self._folder)
        self._sweep()
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self._folder))
        try:
            with _owned(staging):
                yield staging
                self._take_place(staging, self._folder / key)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self._prune(spare=key)

    def _sweep(self) -> None:
        """Remove what processes that were killed have left half-made."""
        for staging in self._folder.glob(f"{_STAGING}*"):
            with contextlib.suppress(OSError):
                if time.time() - staging.stat().st_mtime > _UNOWNED_S and not _is_owned(staging):
                    shutil.rmtree(staging, ignore_errors=True)

    def _take_place(self, staging: Path, entry: Path) -> None:
        try:
            staging.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise

    def _prune(self, spare: str) -> None:
        entries = [entry for entry in self._folder.iterdir() if not entry.name.startswith(_STAGING)]
        sized = sorted(((_last_used(entry), _num_bytes(entry), entry) for entry in entries), reverse=True)
        kept = 0
        for _, num_bytes, entry in sized:
            kept += num_bytes
            if kept > self._max_bytes and entry.name != spare:
                shutil.rmtree(entry, ignore_errors=True)


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Hold a folder as ours: the system lets go of it with this process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_owned(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _last_used(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0


def _num_bytes(entry: Path) -> int:
    total = 0
    for file in entry.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total
