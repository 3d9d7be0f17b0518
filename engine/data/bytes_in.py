"""From a path to bytes: a stream that unpacks, counts, hashes and can be stopped, in bounded memory."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from engine.data.compression import DAMAGED, Packing, opened, packing_of, refuse_bomb
from engine.data.paths import data_problem, unreadable
from engine.recipe.problems import ProblemError
from engine.text import human_bytes

CHUNK_BYTES = 1 << 18
HEAD_BYTES = 1 << 20
"""Looked at before the first row: compression, encoding, kind and delimiter are decided here."""


class ReadingStoppedError(Exception):
    """Whoever asked for the rows does not want them any more."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who follows a long reading.

    Attributes:
        progress: Called with bytes done and bytes in all, at each chunk of a file.
        should_stop: Asked at each chunk; true ends the reading with `ReadingStoppedError`.
    """

    progress: Callable[[int, int], None] | None = None
    should_stop: Callable[[], bool] | None = None

    def tell(self, done_bytes: int, total_bytes: int) -> None:
        """Pass on how far the reading is.

        Raises:
            ReadingStoppedError: A stop was asked for.
        """
        if self.should_stop is not None and self.should_stop():
            raise ReadingStoppedError
        if self.progress is not None:
            self.progress(done_bytes, total_bytes)


UNWATCHED = Watch()


class ByteStream:
    """The unpacked bytes of one file, chunk by chunk.

    Attributes:
        name: What the file is called in messages.
        total_bytes: Size of the file on disk.
        content_bytes: Unpacked bytes given out so far.
        packing: How the file is compressed.
    """

    def __init__(self, path: Path, name: str, watch: Watch = UNWATCHED) -> None:
        """Open a file that passed `check_path`.

        Raises:
            ProblemError: It cannot be opened, is damaged, or an archive that is not read.
        """
        self.name = name
        self._path = path
        self._watch = watch
        self._digest = hashlib.sha256()
        self._finished = False
        self.content_bytes = 0
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            self._at_start = os.fstat(self._raw.fileno())
            self.total_bytes = self._at_start.st_size
            self.packing: Packing = packing_of(self._raw, path, name)
            self._content = opened(self._raw, self.packing, name)
            self.head = self._read_head()
        except BaseException:
            self._raw.close()
            raise

    def __enter__(self) -> "ByteStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    @property
    def sha256(self) -> str:
        """Hash of the unpacked content; empty until all of it has been read."""
        return self._digest.hexdigest() if self._finished else ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content from its first byte to its last; only once.

        Raises:
            ProblemError: The file is damaged, a decompression bomb, or changes while it is read.
            ReadingStoppedError: The watch asked for a stop.
        """
        chunk = self.head
        while chunk:
            self._digest.update(chunk)
            self.content_bytes += len(chunk)
            self._watch.tell(min(self._raw.tell(), self.total_bytes), self.total_bytes)
            yield chunk
            chunk = self._read(CHUNK_BYTES)
        self._check_unchanged()
        self._finished = True

    def _read_head(self) -> bytes:
        head = bytearray()
        while len(head) < HEAD_BYTES and (chunk := self._read(CHUNK_BYTES, given=len(head))):
            head += chunk
        return bytes(head)

    def _read(self, num_bytes: int, *, given: int = 0) -> bytes:
        try:
            chunk = self._content.read(num_bytes)
        except DAMAGED as error:
            raise self._broken(error) from error
        if self.packing != "plain":
            refuse_bomb(given + self.content_bytes + len(chunk), self._raw.tell(), self.packing, self.name)
        return chunk

    def _broken(self, error: Exception) -> ProblemError:
        if self.packing == "plain" and isinstance(error, OSError):
            return unreadable(self._path, error)
        message = f"{self.name} is not a whole {self.packing} file: {str(error).rstrip('.') or type(error).__name__}."
        return data_problem(f"{self.packing}_damaged", message, "Copy or download it again.")

    def _check_unchanged(self) -> None:
        now = os.fstat(self._raw.fileno())
        grown = now.st_size - self._at_start.st_size
        if grown == 0 and now.st_mtime_ns == self._at_start.st_mtime_ns:
            return
        how = f"{'grew' if grown > 0 else 'shrank'} by {human_bytes(abs(grown))}" if grown else "was written to"
        raise data_problem(
            "file_changed",
            f"{self.name} {how} while it was read.",
            "Wait until whatever writes it has finished, or name a copy.",
        )
