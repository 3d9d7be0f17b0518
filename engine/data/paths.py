"""Paths before they are opened: what can be read as one file, and a sentence with the next action for all else."""

import errno
import os
import stat
from difflib import get_close_matches
from pathlib import Path

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

_EXCEL = "In the spreadsheet program, save the sheet with the rows as CSV UTF-8 and name that file."
_REWRITE = "Save it as JSONL, CSV or Parquet and name that file."
_PICKLE = "a pickle, which can run code when it is read"
_UNSUPPORTED = {
    ".xlsx": ("an Excel workbook; Excel is not read", _EXCEL),
    ".xls": ("an Excel workbook; Excel is not read", _EXCEL),
    ".xlsb": ("an Excel workbook; Excel is not read", _EXCEL),
    ".xlsm": ("an Excel workbook with macros; Excel is not read", _EXCEL),
    ".ods": ("a spreadsheet of LibreOffice; it is not read", _EXCEL),
    ".7z": ("a 7z archive, which is not read here", "Unpack it and name the files."),
    ".rar": ("a RAR archive, which is not read here", "Unpack it and name the files."),
    ".tar": ("a tar archive, which is not read here", "Unpack it and name the files."),
    ".tgz": ("a tar archive, which is not read here", "Unpack it and name the files."),
    ".pkl": (_PICKLE, _REWRITE),
    ".pickle": (_PICKLE, _REWRITE),
    ".pt": (_PICKLE, _REWRITE),
    ".py": ("a program, which is not read here", _REWRITE),
    ".pdf": ("a PDF document, which is not read here", "Extract its text, look at it, and name the text file."),
    ".docx": ("a Word document, which is not read here", "Save it as plain text and name that file."),
    ".sqlite": ("a database, which is not read here", _REWRITE),
    ".db": ("a database, which is not read here", _REWRITE),
}
_KINDS_OF_NODE = (
    (stat.S_ISFIFO, "a named pipe", "Write what comes out of it to a file first and name that file."),
    (stat.S_ISSOCK, "a socket", "Name a file that holds the rows."),
    (stat.S_ISCHR, "a device", "Name a file that holds the rows."),
    (stat.S_ISBLK, "a disk device", "Name a file that holds the rows."),
)


def data_problem(code: str, message: str, fix: str) -> ProblemError:
    """Return a blocking finding about `data.source`, its text safe for a terminal."""
    return ProblemError(Problem(f"data.{code}", clean_line(message), clean_line(fix), path="data.source"))


def unreadable(path: Path, error: OSError) -> ProblemError:
    """Return what an error of the operating system means for somebody who named a file."""
    if error.errno == errno.ENOENT:
        return data_problem("file_missing", f"{path} does not exist.", _nearest(path))
    if error.errno == errno.ELOOP:
        fix = "Make the link again, or name the file that it should lead to."
        return data_problem("link_loop", f"{path} is a link that leads back to itself.", fix)
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = "Ask its owner, or run: chmod u+r on a file of your own."
        return data_problem("unreadable", f"{path} cannot be read: permission denied.", fix)
    reason = (error.strerror or str(error) or type(error).__name__).lower().rstrip(".")
    return data_problem("unreadable", f"{path} cannot be read: {reason}.", "Check the path and its disk.")


def check_path(path: Path) -> None:
    """Refuse what cannot be read as one file: missing, folders, devices, unsupported kinds.

    Raises:
        ProblemError: With the cause and the next action.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError):
            raise data_problem("file_missing", f"{path} cannot be a path.", "Check the path.") from error
        if error.errno == errno.ENOENT and path.is_symlink():
            fix = "Make the link again, or name the file itself."
            raise data_problem("link_broken", f"{path} is a link to a file that is not there.", fix) from error
        raise unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        raise data_problem("is_folder", f"{path} is a folder, not a file.", "Name a file that holds the rows.")
    for is_kind, words, fix in _KINDS_OF_NODE:
        if is_kind(mode):
            raise data_problem("not_a_file", f"{path} is {words}, not a file.", fix)
    unsupported = _UNSUPPORTED.get(path.suffix.lower())
    if unsupported:
        raise data_problem("unsupported", f"{path} is {unsupported[0]}.", unsupported[1])


def _nearest(path: Path) -> str:
    if str(path).startswith("~"):
        return "Write the whole path: ~ stands for nothing in a recipe."
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    except FileNotFoundError:
        return f"The folder {path.parent} does not exist either; check the path."
    except OSError:
        return f"The folder {path.parent} cannot be looked into; check the path and its permissions."
    near = get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else "Check the path; relative ones start where you are."
