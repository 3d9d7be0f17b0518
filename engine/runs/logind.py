"""Whether a worker outlives a logout: some login managers end every process of a user who leaves."""

import functools
import getpass
import os
import shutil
import subprocess
from pathlib import Path

from engine.recipe.problems import Problem

_ASK_DEADLINE_S = 2.0
_LINGER_FOLDER = Path("/var/lib/systemd/linger")


@functools.cache
def kills_user_processes() -> bool:
    """Return whether the login manager ends a user's processes at logout (`KillUserProcesses=yes`)."""
    if not os.environ.get("XDG_SESSION_ID") or shutil.which("busctl") is None:
        return False
    answer = _ask(
        "busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager "
        "KillUserProcesses"
    )
    return answer == "b true"


@functools.cache
def scope_prefix() -> list[str]:
    """Return the command that starts a program outside the login session; empty where not needed or not possible."""
    if not kills_user_processes() or shutil.which("systemd-run") is None:
        return []
    prefix = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--"]
    return prefix if _ask(" ".join([*prefix, "true"])) is not None else []


def logout_problem() -> Problem | None:
    """Return the warning to show before a run that would not outlive a logout; None when all is well."""
    if not kills_user_processes():
        return None
    if not scope_prefix():
        message = "This machine ends your processes when you log out, and no user scope can be made: so would the run."
        return Problem("launch.ends_at_logout", message, "Stay logged in, for example in tmux.", severity="warning")
    if not (_LINGER_FOLDER / getpass.getuser()).exists():
        message = "This machine ends your processes when your last session closes, and so would the run."
        fix = "Run `loginctl enable-linger` once, or keep a session open."
        return Problem("launch.ends_at_logout", message, fix, severity="warning")
    return None


def _ask(command: str) -> str | None:
    """Return what a command printed; None when it failed or took too long."""
    try:
        done = subprocess.run(
            command.split(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
