"""Files as a run needs them: private, written whole or not at all; errors name the path and the next action."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line, human_bytes

PRIVATE_FOLDER_MODE = 0o700
PRIVATE_FILE_MODE = 0o600

FULL_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_problem(error: OSError, path: Path, doing: str) -> Problem:
    """Return the finding for a failed file operation.

    Args:
        error: What the system said.
        path: File or folder that the operation was about.
        doing: The operation in words, such as `write the recipe`.
    """
    shown = clean_line(path)
    if error.errno in FULL_DISK_ERRORS:
        return Problem(
            "disk.full",
            f"Cannot {doing}: {shown} is on a full disk or over a limit ({human_bytes(free_bytes(path))} free).",
            "Free space there, or set FTWIZARD_HOME to a folder on another disk.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Problem(
            "disk.not_writable",
            f"Cannot {doing}: {shown} may not be written ({clean_line(error.strerror)}).",
            "Change its permissions, or set FTWIZARD_HOME to a folder that you may write.",
        )
    return Problem(
        "disk.failed",
        f"Cannot {doing}: {shown}: {clean_line(error.strerror or error)}.",
        "Check the path and the disk, then try again.",
    )


def free_bytes(path: Path) -> int | None:
    """Return the bytes free for this user where the path lies or would lie; None when the system does not say."""
    for folder in (path, *path.parents):
        try:
            return shutil.disk_usage(folder).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def private_folder(path: Path) -> Path:
    """Make a folder and its missing parents that only this user can enter, whatever the umask.

    Raises:
        ProblemError: `disk.full`, `disk.not_writable` or `disk.failed`.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            # Two processes may start at once, so a folder that appeared meanwhile is as good as ours.
            folder.mkdir(mode=PRIVATE_FOLDER_MODE, exist_ok=True)
            folder.chmod(PRIVATE_FOLDER_MODE)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a folder", str(path))
    except OSError as error:
        raise ProblemError(disk_problem(error, path, "make the folder")) from error
    return path


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: a rename survives a power loss only after this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes; the system may take fewer than it is offered."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def write_new(path: Path, content: bytes, *, sync: bool) -> None:
    """Write a new private file; an existing one is an error."""
    _write_new(path, (content,), sync=sync)


def _write_new(path: Path, parts: Iterable[bytes], *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE_MODE)
    try:
        os.fchmod(descriptor, PRIVATE_FILE_MODE)
        for part in parts:
            write_all(descriptor, part)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace a file so that a reader sees the old or the new content, never a part.

    Args:
        path: File to write.
        content: Its new bytes.
        sync: Survive a power loss as well; leave it off for what can be made again.

    Raises:
        OSError: As the system says; the old content is then untouched.
    """
    write_parts_atomically(path, (content,), sync=sync)


def write_parts_atomically(path: Path, parts: Iterable[bytes], *, sync: bool = True) -> None:
    """Replace a file as `write_atomically` does, with content that need not be in memory as a whole.

    Args:
        path: File to write.
        parts: Its new bytes, part by part.
        sync: Survive a power loss as well.

    Raises:
        OSError: As the system says; the old content is then untouched.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_new(staged, parts, sync=sync)
        os.replace(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)
