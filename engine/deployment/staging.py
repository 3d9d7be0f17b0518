"""Folders that are whole or not there: written beside their place, made durable, renamed at the end."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.recipe.problems import Problem, ProblemError
from engine.runs.disk import disk_problem, private_folder, sync_folder
from engine.text import clean_line

_PARTIAL = ".partial-"
_REPLACED = ".replaced-"


@contextmanager
def staged_folder(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of `target` when the block ends well, and vanishes otherwise.

    A folder that lies at `target` already is replaced as a whole; a process killed at any moment leaves the old folder
    or the new one under that name, or none, but never a part. What earlier kills left behind is removed first.

    Args:
        target: Final folder.
        replace: Take the place of a folder with files; otherwise only of an empty one, and fail where files appeared
            while the block ran.

    Raises:
        ProblemError: `disk.full`, `disk.not_writable`, `disk.failed`, or `export.in_the_way` without `replace`.
    """
    parent = private_folder(target.parent)
    _clear_leftovers(parent, target.name)
    staging = parent / f"{_PARTIAL}{target.name}-{secrets.token_hex(4)}"
    try:
        try:
            staging.mkdir(mode=0o700)
            yield staging
            make_durable(staging)
            put_in_place(staging, target, replace=replace)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except OSError as error:
        raise ProblemError(disk_problem(error, target, "write the model")) from error


def put_in_place(staging: Path, target: Path, *, replace: bool) -> None:
    """Rename a finished folder to its final name; the system itself refuses to rename over a folder with files."""
    replaced = target.parent / f"{_REPLACED}{target.name}-{secrets.token_hex(4)}"
    if replace and target.exists():
        os.rename(target, replaced)
    try:
        os.rename(staging, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        message = f"{clean_line(target)} got files while the model was written; they are left as they are."
        problem = Problem("export.in_the_way", message, "Move them away, then run `ftwizard resume`.")
        raise ProblemError(problem) from error
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
    # The whole name: `model-*` would also match what another run is writing for a folder `model-2` beside this one.
    ours = re.compile(f"({re.escape(_PARTIAL)}|{re.escape(_REPLACED)}){re.escape(name)}-[0-9a-f]{{8}}")
    for left in parent.iterdir():
        if ours.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)
