"""Login manager, locale and terminal: what decides whether runs outlive a logout and how screens are drawn."""

from collections.abc import Iterator, Mapping
from typing import Literal

from engine.hardware.checks import Check
from engine.runs.logind import logout_problem
from engine.text import clean_line

_SESSION: Literal["Session"] = "Session"


def session_checks(environment: Mapping[str, str]) -> Iterator[Check]:
    """Yield the checks of the login session and the terminal.

    Args:
        environment: Variables of the terminal.
    """
    yield _logout()
    yield from _terminal(environment)


def _logout() -> Check:
    """Return whether runs outlive a logout, by the rule that starts them."""
    problem = logout_problem()
    if problem is None:
        return Check("logout", "ok", "runs go on after a logout", group=_SESSION)
    return Check("logout", "warning", problem.message, problem.fix, _SESSION)


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
