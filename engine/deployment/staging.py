"""Folders that are whole or not there: written beside their place, made durable, renamed at the end."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.recipe.problems import ProblemError
from engine.runs.disk import disk_problem, private_folder, sync_folder

_PARTIAL = ".partial-"
_REPLACED = ".replaced-"


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of `target` when the block ends well, and vanishes otherwise.

    A folder that lies at `target` already is replaced as a whole; a process killed at any moment leaves the old folder
    or the new one under that name, or none, but never a part. What earlier kills left behind is removed first.

    Args:
        target: Final folder.

    Raises:
        ProblemError: `disk.full`, `disk.not_writable` or `disk.failed`.
    """
    parent = private_folder(target.parent)
    _clear_leftovers(parent, target.name)
    staging = parent / f"{_PARTIAL}{target.name}-{secrets.token_hex(4)}"
    try:
        try:
            staging.mkdir(mode=0o700)
            yield staging
            make_durable(staging)
            put_in_place(staging, target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except OSError as error:
        raise ProblemError(disk_problem(error, target, "write the model")) from error


def put_in_place(staging: Path, target: Path) -> None:
    """Rename a finished folder to its final name, in place of an older one."""
    replaced = target.parent / f"{_REPLACED}{target.name}-{secrets.token_hex(4)}"
    if target.exists():
        os.rename(target, replaced)
    os.rename(staging, target)
    sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def make_durable(folder: Path) -> None:
    """Flush every file and folder below to the disk."""
    for path, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(path) / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(path))


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _clear_leftovers(parent: Path, name: str) -> None:
    for prefix in (_PARTIAL, _REPLACED):
        for left in parent.glob(f"{prefix}{name}-*"):
            shutil.rmtree(left, ignore_errors=True)
