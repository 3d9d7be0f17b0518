"""Checkpoints that are whole or do not count: staged, made durable, and committed by a rename.

    .staging-000120-UUID/   the worker fills it
    fsync each file         then MANIFEST.json with sizes and checksums, last; fsync it and the folders
    rename                  to step-000120; fsync the parent

A kill, a full disk or a power loss at any point leaves the earlier checkpoints as they were. Only a manifest of this
run whose files are all there, byte for byte, makes a checkpoint.
"""

import json
import os
import re
import shutil
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from engine.runs.disk import disk_problem, free_bytes, private_folder, sync_folder, write_new
from engine.runs.events import numbers_to_words
from engine.text import clean_line, human_bytes

MANIFEST_NAME = "MANIFEST.json"
MANIFEST_VERSION = 1
MIN_KEEP = 2

_STEP_NAME = re.compile(r"step-(\d{6,})(?:-r(\d+))?")
_CHUNK_BYTES = 4 * 1024 * 1024
_MAX_MANIFEST_BYTES = 64 * 1024 * 1024
_SPARE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint.

    Attributes:
        folder: Where its files lie.
        step: Optimizer steps done.
        num_bytes: Size of its files.
        time: Unix seconds of the commit.
        facts: What the worker noted with it.
    """

    folder: Path
    step: int
    num_bytes: int
    time: float
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A folder that looks like a checkpoint and is none.

    Attributes:
        folder: The folder.
        reason: What is wrong with it, in words.
        ours: Its manifest, as far as readable, names this run.
    """

    folder: Path
    reason: str
    ours: bool = False


class CheckpointStore:
    """The checkpoints of one run; one process at a time writes to it (the run's lock sees to that).

    Attributes:
        folder: Folder of the checkpoints.
        run_id: Run that they belong to; those of another run are left alone.
        keep: Newest whole checkpoints that stay, at least 2.
        pinned: Step whose checkpoint stays however old it gets, such as the best one; None when none does.
        rejected: What the last `newest_whole` passed over.
    """

    def __init__(self, folder: Path, run_id: str, keep: int = MIN_KEEP) -> None:
        if keep < MIN_KEEP:
            raise ValueError(f"keep must be at least {MIN_KEEP}, got {keep}: the newest may be the one a fault hits")
        self.folder = folder
        self.run_id = run_id
        self.keep = keep
        self.pinned: int | None = None
        self.rejected: list[Rejected] = []
        self._mark = f"{zlib.crc32(run_id.encode()):08x}"
        self._verified: dict[Path, Checkpoint] = {}
        self._cleaned = False

    # --- saving -----------------------------------------------------------------------------------------------------

    def stage(self, step: int, needed_bytes: int | None = None) -> Path:
        """Return a new empty folder for the files of a checkpoint.

        Args:
            step: Optimizer steps done.
            needed_bytes: Expected size; that of the largest checkpoint of this run when None.

        Raises:
            ProblemError: `disk.too_little` with path, needed and free bytes, or another disk problem.
        """
        private_folder(self.folder)
        if not self._cleaned:
            self.clean()
        self._check_space(needed_bytes if needed_bytes is not None else self._largest_bytes())
        staging = self._hidden("staging", f"{step:06d}")
        try:
            staging.mkdir(mode=0o700)
        except OSError as error:
            raise ProblemError(disk_problem(error, staging, "begin a checkpoint")) from error
        return staging

    def commit(self, staging: Path, step: int, facts: dict[str, Any]) -> Checkpoint:
        """Make a staged folder a checkpoint and return it; on any error the staged files are removed.

        Args:
            staging: Folder from `stage`, filled with regular files.
            step: Optimizer steps done.
            facts: JSON values to keep with it: epoch, position in the data, versions.

        Raises:
            ProblemError: `checkpoint.odd_file`, or a disk problem with path, needed and free bytes.
        """
        try:
            files = {name: _sync_and_measure(staging / name) for name in _list_files(staging)}
            num_bytes = sum(entry["bytes"] for entry in files.values())
            moment = time.time()
            body = {
                "version": MANIFEST_VERSION,
                "run_id": self.run_id,
                "step": step,
                "time": moment,
                "num_bytes": num_bytes,
                "files": files,
                "facts": facts,
            }
            write_new(staging / MANIFEST_NAME, _encode_manifest(body), sync=True)
            for folder, _, _ in os.walk(staging, topdown=False):
                sync_folder(Path(folder))
            target = self._free_name(step)
            os.rename(staging, target)
            sync_folder(self.folder)
        except OSError as error:
            problem = self.save_problem(error, staging, step)
            self.discard(staging)
            raise ProblemError(problem) from error
        except BaseException:
            self.discard(staging)
            raise
        checkpoint = Checkpoint(target, step, num_bytes, moment, facts)
        self._verified[target] = checkpoint
        return checkpoint

    def discard(self, staging: Path) -> None:
        """Remove a staged folder that will not be committed."""
        if self._is_ours_hidden(staging.name) and staging.parent == self.folder:
            shutil.rmtree(staging, ignore_errors=True)

    def clean(self) -> None:
        """Remove what a killed save or a killed removal of this run left behind."""
        self._cleaned = True
        if not self.folder.is_dir():
            return
        for entry in os.scandir(self.folder):
            if self._is_ours_hidden(entry.name) and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)

    def _hidden(self, kind: str, label: str) -> Path:
        # The first digits of the UUID are a mark of the run, so that another run's leftovers are told apart.
        return self.folder / f".{kind}-{label}-{self._mark}{uuid.uuid4().hex[8:]}"

    def _is_ours_hidden(self, name: str) -> bool:
        return re.fullmatch(rf"\.(staging|trash)-\d{{6,}}-{self._mark}[0-9a-f]{{24}}", name) is not None

    def _free_name(self, step: int) -> Path:
        """Return an unused name: a checkpoint that is there is never displaced before the new one is committed."""
        target = self.folder / f"step-{step:06d}"
        revision = 2
        while target.exists() or target.is_symlink():
            target = self.folder / f"step-{step:06d}-r{revision}"
            revision += 1
        return target

    def _largest_bytes(self) -> int:
        return max((checkpoint.num_bytes for checkpoint in self._verified.values()), default=0)

    def _check_space(self, needed: int) -> None:
        free = free_bytes(self.folder)
        if free is None or needed + _SPARE_BYTES <= free or needed == 0:
            return
        where = f"{clean_line(self.folder)}, where {human_bytes(free)} are free"
        message = f"A checkpoint needs {human_bytes(needed)} in {where}."
        raise ProblemError(Problem("disk.too_little", message, "Free space there; the earlier checkpoints are intact."))

    def save_problem(self, error: Exception, staging: Path, step: int) -> Problem:
        """Return the finding for a save that failed, with path, needed and free bytes; ask before `discard`.

        Args:
            error: What the system or a library said; safetensors wraps the system's errors in words.
            staging: Folder from `stage` with what was written so far.
            step: Optimizer steps done.
        """
        cause = error if isinstance(error, OSError) else OSError(_number_in(str(error)), str(error))
        found = disk_problem(cause, self.folder, f"save the checkpoint of step {step}")
        needed = max(_size_of(staging), self._largest_bytes())
        free = human_bytes(free_bytes(self.folder))
        message = f"{found.message} At least {human_bytes(needed)} are needed, {free} free."
        return Problem(found.code, message, "Free space there; the earlier checkpoints are intact.")

    # --- finding ----------------------------------------------------------------------------------------------------

    def newest_whole(self) -> Checkpoint | None:
        """Return the newest checkpoint of this run whose every byte is as it was written; None when there is none.

        `rejected` then says what was passed over, and why.
        """
        self.rejected = []
        for folder in self._candidates():
            found = self._examine(folder)
            if isinstance(found, Checkpoint):
                return found
            self.rejected.append(found)
        return None

    def whole_at(self, step: int) -> Checkpoint | None:
        """Return the checkpoint of a step when its every byte is as it was written; None when there is none."""
        for folder in self._candidates():
            if _step_of(folder) == step and isinstance(found := self._examine(folder), Checkpoint):
                return found
        return None

    def holds(self, step: int) -> bool:
        """Return whether a checkpoint of a step was committed; its files are not read."""
        return any(_step_of(folder) == step and (folder / MANIFEST_NAME).is_file() for folder in self._candidates())

    def _candidates(self) -> list[Path]:
        """Return the folders named as checkpoints, the newest first."""
        try:
            entries = [entry for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        named = [(match, entry.path) for entry in entries if (match := _STEP_NAME.fullmatch(entry.name))]
        named.sort(key=lambda pair: (int(pair[0][1]), int(pair[0][2] or 1)), reverse=True)
        return [Path(path) for _, path in named]

    def _examine(self, folder: Path) -> Checkpoint | Rejected:
        """Return the checkpoint in a folder, fully checked, or why it is none."""
        try:
            body = _read_manifest(folder)
        except ValueError as error:
            return Rejected(folder, str(error))
        if body["run_id"] != self.run_id:
            return Rejected(folder, f"it belongs to run {clean_line(body['run_id'], max_chars=80)}")
        match = _STEP_NAME.fullmatch(folder.name)
        if match is None or int(match[1]) != body["step"]:
            return Rejected(folder, f"its manifest is of step {body['step']}", ours=True)
        for name, entry in body["files"].items():
            reason = _compare(folder, name, entry)
            if reason:
                return Rejected(folder, reason, ours=True)
        checkpoint = Checkpoint(folder, body["step"], body["num_bytes"], body["time"], body["facts"])
        self._verified[folder] = checkpoint
        return checkpoint

    # --- removing ---------------------------------------------------------------------------------------------------

    def prune(self) -> list[Path]:
        """Remove old checkpoints of this run and return their former folders.

        The newest `keep` whole ones stay, and the pinned one; so does everything that is not provably ours.
        """
        num_kept = 0
        old: list[Path] = []
        for folder in self._candidates():
            found = self._verified.get(folder) if folder.exists() else None
            checked = found or self._examine(folder)
            if num_kept < self.keep:
                num_kept += isinstance(checked, Checkpoint)
            elif _step_of(folder) == self.pinned:
                continue
            elif isinstance(checked, Checkpoint) or checked.ours:
                old.append(folder)
        for folder in old:
            self._remove(folder)
        return old

    def _remove(self, folder: Path) -> None:
        match = _STEP_NAME.fullmatch(folder.name)
        trash = self._hidden("trash", match[1] if match else "000000")
        # Renamed first: half a removed checkpoint must not be met under its own name.
        os.rename(folder, trash)
        sync_folder(self.folder)
        self._verified.pop(folder, None)
        shutil.rmtree(trash, ignore_errors=True)


def _step_of(folder: Path) -> int:
    match = _STEP_NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1


def _number_in(text: str) -> int:
    """Return the system's error number that a library's message ends with, as in `(os error 28)`; 0 without one."""
    match = re.search(r"\(os error (\d+)\)", text)
    return int(match[1]) if match else 0


def _list_files(folder: Path) -> list[str]:
    """Return the paths of all files inside a folder, relative and sorted.

    Raises:
        ProblemError: `checkpoint.odd_file` for anything but folders and regular files.
    """
    names: list[str] = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                message = f"A checkpoint cannot hold {clean_line(name)}: it is neither a file nor a folder."
                raise ProblemError(Problem("checkpoint.odd_file", message))
        names += [str(Path(parent, name).relative_to(folder)) for name in files]
    return sorted(names)


def _sync_and_measure(path: Path) -> dict[str, int]:
    """Make a file durable and return its size and checksum."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        size, checksum = _measure(descriptor)
    finally:
        os.close(descriptor)
    return {"bytes": size, "crc32": checksum}


def _measure(descriptor: int) -> tuple[int, int]:
    # A CRC finds what faults do to files at twice the speed of SHA-256; it is no defence against an attacker, who
    # could write the manifest as well.
    size = checksum = 0
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        checksum = zlib.crc32(chunk, checksum)
        size += len(chunk)
    return size, checksum


def _size_of(folder: Path) -> int:
    return sum(Path(parent, name).lstat().st_size for parent, _, files in os.walk(folder) for name in files)


def _encode_manifest(body: dict[str, Any]) -> bytes:
    """Return the manifest: the body and a checksum over it."""
    plain = json.loads(json.dumps(numbers_to_words(body), allow_nan=False))
    return json.dumps({"crc32": _checksum(plain), **plain}, indent=1).encode() + b"\n"


def _checksum(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body).encode())


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return the body of a manifest.

    Raises:
        ValueError: There is none or it is damaged; the text says what, in words.
    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ValueError("its manifest is too large to be one")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError("it has no manifest: it was never committed") from None
    except OSError as error:
        raise ValueError(f"its manifest cannot be read: {clean_line(error.strerror)}") from error
    try:
        body: dict[str, Any] = json.loads(content)
        version, sound = body["version"], body.pop("crc32") == _checksum(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("its manifest is damaged") from None
    if version != MANIFEST_VERSION and sound:
        raise ValueError(f"its manifest has version {version}; this program reads {MANIFEST_VERSION}")
    if not sound:
        raise ValueError("its manifest is damaged")
    return body


def _compare(folder: Path, name: str, entry: dict[str, int]) -> str:
    """Return what is wrong with a file, in words; empty when nothing is."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return f"{clean_line(name)} is missing"
    except OSError as error:
        return f"{clean_line(name)} cannot be read: {clean_line(error.strerror)}"
    try:
        size = os.fstat(descriptor).st_size
        if size != entry["bytes"]:
            return f"{clean_line(name)} has {size} bytes instead of {entry['bytes']}"
        if _measure(descriptor)[1] != entry["crc32"]:
            return f"{clean_line(name)} is damaged: its checksum is wrong"
    except OSError as error:
        return f"{clean_line(name)} cannot be read: {clean_line(error.strerror)}"
    finally:
        os.close(descriptor)
    return ""
