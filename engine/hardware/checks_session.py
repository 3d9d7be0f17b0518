"""Login manager, locale and terminal: what decides whether runs outlive a logout and how screens are drawn."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from engine.hardware.checks import Check
from engine.text import clean_line

LOGIN_LIMIT_S = 1.0
_SESSION: Literal["Session"] = "Session"


def session_checks(environment: Mapping[str, str]) -> Iterator[Check]:
    """Yield the checks of the login session and the terminal.

    Args:
        environment: Variables of the terminal.
    """
    yield _logout()
    yield from _terminal(environment)


def _logout() -> Check:
    """Return whether the login manager kills what is left when the person logs out."""
    answer = _ask_login_manager("KillUserProcesses")
    if answer is None:
        return Check("logout", "ok", "no login manager that ends processes was found", group=_SESSION)
    if answer != "true":
        return Check("logout", "ok", "runs go on after a logout", group=_SESSION)
    if _outside_session():
        value = "the login manager ends sessions, but this one is outside of them"
        return Check("logout", "ok", value, group=_SESSION)
    value = "the login manager ends every process of a session at logout (KillUserProcesses=yes)"
    fix = "Run once: loginctl enable-linger. Then start with: systemd-run --user --scope ftwizard"
    return Check("logout", "warning", value, fix, _SESSION)


def _ask_login_manager(name: str) -> str | None:
    busctl = shutil.which("busctl")
    if busctl is None:
        return None
    manager = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    try:
        answer = subprocess.run(
            [busctl, "--system", "get-property", *manager, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LOGIN_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = answer.stdout.split()
    return words[-1] if answer.returncode == 0 and words else None


def _outside_session(cgroup: Path = Path("/proc/self/cgroup")) -> bool:
    try:
        text = cgroup.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # Units of the user's own manager live in user@UID.service; logins live in session-N.scope.
    return any(part.startswith("user@") and part.endswith(".service") for part in text.replace("\n", "/").split("/"))


def _terminal(environment: Mapping[str, str]) -> Iterator[Check]:
    chosen = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environment.get(name))), "")
    if "utf-8" in chosen.lower() or "utf8" in chosen.lower():
        yield Check("locale", "ok", clean_line(chosen, max_chars=40), group=_SESSION)
    else:
        value = f"{clean_line(chosen, max_chars=40) or 'not set'}, not UTF-8: plain characters are drawn"
        yield Check("locale", "warning", value, "Run: export LANG=C.UTF-8", _SESSION)
    yield _colours(environment)
    if environment.get("SSH_CONNECTION") and not (environment.get("TMUX") or environment.get("STY")):
        value = "over SSH without tmux: a dropped line closes the screens, runs go on"
        yield Check("session", "ok", value, "Come back with: ftwizard attach", _SESSION)


def _colours(environment: Mapping[str, str]) -> Check:
    term = environment.get("TERM", "")
    if term in ("", "dumb"):
        value = f"TERM is {term or 'not set'}: line prompts instead of screens"
        fix = "Use a terminal such as xterm-256color for the wizard's screens."
        return Check("terminal", "warning", value, fix, _SESSION)
    if environment.get("NO_COLOR"):
        colours = "without colours (NO_COLOR)"
    elif environment.get("COLORTERM") in ("truecolor", "24bit"):
        colours = "all colours"
    else:
        colours = f"{256 if '256' in term else 16} colours"
    return Check("terminal", "ok", f"{clean_line(term, max_chars=40)}, {colours}", group=_SESSION)
