"""Forks of a test process that cannot get away."""

import os
import traceback
from collections.abc import Callable
from typing import Any


def fork(work: Callable[[], Any]) -> int:
    """Run `work` in a forked child, which then ends with its result as exit code, and return the child's id.

    Whatever happens there, the child ends here: one that came back with an error would go on as a second pytest, which
    reports to the first one's caller and ends its session.

    Args:
        work: Its result is the exit code where it is a whole number; anything else is 0, an error is 1.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        found = work()
        code = found if isinstance(found, int) else 0
    except BaseException:
        _tell()
    finally:
        # Not through pytest's own exit handlers.
        os._exit(code)


def _tell() -> None:
    try:
        traceback.print_exc()
    except Exception:
        # What it writes to may be full or closed: some tests see to that.
        return
