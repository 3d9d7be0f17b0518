"""Prepared rows kept by what they were made of: the content of the files, and what the recipe says of the data.

Hashing a file of a gigabyte takes a second, so the hash of a large file is remembered with its identity (inode, size,
times of change), as version control does; not while the file is so young that a write may leave those as they are.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from engine.data.bytes_in import CHUNK_BYTES
from engine.data.content_cache import ContentCache, content_key, source_key
from engine.data.paths import data_problem, unreadable
from engine.data.progress import WorkWatch
from engine.data.row_store import RowStore
from engine.data.sources import FileRef
from engine.planning.derive import choose_held_out
from engine.planning.profiles import DataProfile
from engine.recipe.schema import Recipe
from engine.runs.disk import private_folder, write_atomically

_CODE = (
    "data",
    "planning/profiles.py",
    "planning/derive.py",
    "recipe/schema_data.py",
    "catalog/objectives.py",
    "text.py",
)
_REMEMBERED_BYTES = 4 << 20
"""A smaller file is hashed in milliseconds."""
_SETTLED_S = 2.0
"""Age of the last change from which on another one changes the times of a file; some file systems count in seconds."""
_MAX_REMEMBERED = 1000
_SAME_AS = "same-as"


@dataclass(frozen=True, slots=True)
class RowFiles:
    """The files of prepared rows in one folder."""

    folder: Path

    @property
    def train(self) -> Path:
        """Rows to learn from."""
        return self.folder / "train.arrow"

    @property
    def held_out(self) -> Path:
        """Rows to be judged on."""
        return self.folder / "held_out.arrow"

    @property
    def test(self) -> Path:
        """Rows put aside."""
        return self.folder / "test.arrow"

    def write_profile(self, profile: DataProfile, train_sha256: str) -> None:
        """Write what is known of the rows."""
        document = {"profile": profile.model_dump(mode="json"), "train_sha256": train_sha256}
        write_atomically(self._profile, json.dumps(document).encode())

    def read_profile(self) -> tuple[DataProfile, str]:
        """Return the profile, and the hash over the training rows."""
        document = json.loads(self._profile.read_bytes())
        return DataProfile.model_validate(document["profile"]), document["train_sha256"]

    @property
    def _profile(self) -> Path:
        return self.folder / "profile.json"

    def are_whole(self) -> bool:
        """Return whether all files are there as they were written, which a crash of the machine may have prevented."""
        try:
            profile, _ = self.read_profile()
            sizes = [len(RowStore(path)) for path in (self.train, self.held_out, self.test)]
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return False
        return sizes == [profile.num_train, profile.num_held_out, profile.num_test]


class RowCache:
    """The entry of one recipe's rows.

    Args:
        cache: The cache folder of this person.
        recipe: A checked recipe.
        files: Files of the data.
        held_out_files: Files of held-out rows.
        share: Share to hold out, where the recipe says one.
    """

    def __init__(
        self,
        cache: Path,
        recipe: Recipe,
        files: Sequence[FileRef],
        held_out_files: Sequence[FileRef],
        share: float | None,
    ) -> None:
        self._cache, self._recipe, self._share = ContentCache(cache, "rows"), recipe, share
        self._files, self._held_out_files = list(files), list(held_out_files)
        self._paths = [file.path for file in [*files, *held_out_files]]
        self._hashes = FileHashes(cache)
        self._identities = [_identity(path) for path in self._paths]
        self._contents: list[str] = []

    def find_known(self) -> RowFiles | None:
        """Return the files of the entry, where that takes no look into the data; else None."""
        known = [self._hashes.known(path, seen) for path, seen in zip(self._paths, self._identities, strict=True)]
        self._contents = [content for content in known if content]
        return self._found() if len(self._contents) == len(self._paths) else None

    def find(self, watch: WorkWatch) -> RowFiles | None:
        """Return the files of the entry, after hashing the data; None where there is none.

        Raises:
            ProblemError: A file cannot be read.
            ReadingStoppedError: The watch asked for a stop.
        """
        pairs = zip(self._paths, self._identities, strict=True)
        self._contents = [self._hashes.of(path, seen, watch) for path, seen in pairs]
        return self._found()

    @contextlib.contextmanager
    def making(self) -> Iterator[RowFiles]:
        """Give the folder of a new entry; afterwards its files are at their place."""
        with self._cache.making(self._key(self._data())) as folder:
            yield RowFiles(folder)

    def check_unchanged(self) -> None:
        """Refuse to keep rows of files that changed since their content was hashed.

        Raises:
            ProblemError: One did.
        """
        for path, before in zip(self._paths, self._identities, strict=True):
            if _identity(path) != before:
                fix = "Wait until whatever writes it has finished, or name a copy."
                raise data_problem("file_changed", f"{path.name} was written to while it was read.", fix)

    def remember_resolved(self, profile: DataProfile) -> None:
        """Let the recipe of a plan find these rows too: what was detected and drawn here is written down there."""
        found = {"format": profile.format, "mapping": profile.mapping}
        share = self._share
        if not self._held_out_files:
            share = share if share is not None else choose_held_out(profile)
        resolved = self._key(self._data() | found | {"held_out": share})
        if self._cache.find(resolved) is None:
            with self._cache.making(resolved) as folder:
                (folder / _SAME_AS).write_text(self._key(self._data()))

    def _found(self) -> RowFiles | None:
        entry = self._cache.find(self._key(self._data()))
        if entry is not None and (entry / _SAME_AS).exists():
            entry = self._cache.find((entry / _SAME_AS).read_text())
        if entry is None:
            return None
        if RowFiles(entry).are_whole():
            return RowFiles(entry)
        shutil.rmtree(entry, ignore_errors=True)
        return None

    def _data(self) -> dict[str, Any]:
        left_out = {"source", "system_prompt"}
        return self._recipe.data.model_dump(mode="json", exclude=left_out) | {"held_out": self._share}

    def _key(self, data: dict[str, Any]) -> str:
        count = len(self._files)
        files = [
            (content, file.name, file.weight) for content, file in zip(self._contents[:count], self._files, strict=True)
        ]
        names = [file.name for file in self._held_out_files]
        held_out = list(zip(self._contents[count:], names, strict=True))
        return content_key(
            _code(),
            files,
            held_out,
            data,
            self._recipe.objective,
            self._recipe.token_classification.tag_names,
            self._recipe.training.seed,
        )


@cache
def _code() -> str:
    return source_key(*_CODE)


def _identity(path: Path) -> list[int]:
    """Return what tells that a file is still the one it was.

    Raises:
        ProblemError: It is not there any more.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


class FileHashes:
    """Hashes of the content of files; those of large files are remembered.

    Args:
        cache: The cache folder of this person.
    """

    def __init__(self, cache: Path) -> None:
        self._path = cache / "file-hashes.json"

    def known(self, path: Path, identity: list[int]) -> str:
        """Return the hash of a file that was hashed before and is still the same; empty where none is known."""
        entry = self._read().get(str(path.resolve()), {})
        return str(entry["sha256"]) if isinstance(entry, dict) and entry.get("identity") == identity else ""

    def of(self, path: Path, identity: list[int], watch: WorkWatch) -> str:
        """Return the hash of a file.

        Args:
            path: The file.
            identity: What `stat` said of it before.
            watch: Told how far the hashing is, and asked whether to go on.

        Raises:
            ProblemError: It cannot be read.
            ReadingStoppedError: The watch asked for a stop.
        """
        if known := self.known(path, identity):
            return known
        started = time.time()
        content = _content_hash(path, watch)
        settled = started - max(identity[-2:]) / 1e9 > _SETTLED_S
        if settled and identity[2] >= _REMEMBERED_BYTES and _identity(path) == identity:
            self._remember(path, identity, content)
        return content

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def _remember(self, path: Path, identity: list[int], content: str) -> None:
        private_folder(self._path.parent)
        name = str(path.resolve())
        others = {key: value for key, value in self._read().items() if key != name}
        newest = dict(list(others.items())[-(_MAX_REMEMBERED - 1) :])
        write_atomically(self._path, json.dumps({**newest, name: {"identity": identity, "sha256": content}}).encode())


def _content_hash(path: Path, watch: WorkWatch) -> str:
    digest = hashlib.sha256()
    stage = f"Looking whether {path.name} is new"
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                watch.at(stage, file.tell(), size, "bytes")
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()
