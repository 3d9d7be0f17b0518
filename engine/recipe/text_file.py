"""Small text files that people write: read whole, within a limit, as UTF-8, with findings instead of tracebacks."""

from pathlib import Path

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

MAX_TEXT_BYTES = 256 * 1024


def read_text(path: Path, *, what: str) -> str:
    """Return the text of a UTF-8 file of at most 256 KiB.

    Args:
        path: The file.
        what: Word for the file in findings, such as `recipe`; also the first part of their codes.

    Raises:
        ProblemError: Missing, a folder, not readable, too large, or not UTF-8.
    """
    shown = clean_line(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_TEXT_BYTES + 1)
    except FileNotFoundError:
        raise _problem(what, "file_missing", f"There is no file {shown}.", "Check the path.") from None
    except IsADirectoryError:
        raise _problem(what, "is_folder", f"{shown} is a folder.", f"Name a {what} file in it.") from None
    except (OSError, ValueError) as error:
        # ValueError: a path with a NUL byte.
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _problem(what, "not_readable", f"{shown} cannot be read: {cause}.", "Check its permissions.") from None
    if len(content) > MAX_TEXT_BYTES:
        raise _problem(
            what,
            "too_large",
            f"{shown} has more than {MAX_TEXT_BYTES} bytes, and no {what} is that long.",
            "Put data into a data file and name it in the recipe.",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        raise _problem(
            what, "not_utf8", f"{shown}:{line}:{column}: not UTF-8 text.", "Save the file as UTF-8."
        ) from None


def _problem(what: str, code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(f"{what}.{code}", message, fix))
