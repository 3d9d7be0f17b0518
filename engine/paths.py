"""Paths as people write them."""

import errno
import os
from pathlib import Path


def typed_path(text: str | os.PathLike[str]) -> Path:
    """Return a path with `~` and `~name` in front replaced by that home folder.

    A user whom the system does not know leaves the text as it is; `Path.expanduser` raises, in the middle of typing.
    """
    return Path(os.path.expanduser(text))


def why_no_path(path: Path) -> str:
    """Return why no file can have such a path, as the end of a sentence; empty when one can."""
    try:
        os.lstat(path)
    except ValueError:
        return "its name holds what no name can hold"
    except OSError as error:
        return "its name is too long" if error.errno == errno.ENAMETOOLONG else ""
    return ""
