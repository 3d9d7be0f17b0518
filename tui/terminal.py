"""What the terminal can do, decided before Textual is imported, and what keeps it clean when the app is killed.

Textual hangs where stdin is no terminal, sends 24-bit colour to `TERM=dumb`, and picks its colour filter once in
`App.__init__`; so these questions are answered here, from the environment alone.
"""

import asyncio
import codecs
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Colors = Literal["full", "16", "none"]

# Terminals that Textual drives with sixteen colours unless COLORTERM says otherwise.
_SIXTEEN_COLOR_TERMS = frozenset({"linux", "xterm", "screen", "tmux", "vt100", "vt220", "ansi", "rxvt", "cygwin"})
_NO_SCREEN_TERMS = frozenset({"", "dumb", "unknown"})


@dataclass(frozen=True, slots=True)
class TerminalSupport:
    """What the terminal can show.

    Attributes:
        reason: Why no screen can be drawn, as a sentence with the next action; empty when one can.
        colors: `full` (256 or more), `16`, or `none` (NO_COLOR).
    """

    reason: str
    colors: Colors

    @property
    def screen(self) -> bool:
        """Whether full screens can be drawn; otherwise the plain prompts are used."""
        return not self.reason


def examine_terminal(
    environment: Mapping[str, str] | None = None,
    *,
    stdin_is_tty: bool | None = None,
    stdout_is_tty: bool | None = None,
) -> TerminalSupport:
    """Decide from the environment what the terminal can show.

    Args:
        environment: Environment variables; `os.environ` when None.
        stdin_is_tty: Whether keys can be read; asked of `sys.__stdin__` when None.
        stdout_is_tty: Whether screens can be drawn; asked of `sys.__stdout__` when None.
    """
    variables = os.environ if environment is None else environment
    if stdin_is_tty is None:
        stdin_is_tty = sys.__stdin__ is not None and sys.__stdin__.isatty()
    if stdout_is_tty is None:
        stdout_is_tty = sys.__stdout__ is not None and sys.__stdout__.isatty()
    return TerminalSupport(_refusal(variables, stdin_is_tty, stdout_is_tty), _colors(variables))


def _refusal(variables: Mapping[str, str], stdin_is_tty: bool, stdout_is_tty: bool) -> str:
    if not stdin_is_tty:
        return "Standard input is not a terminal. Use --plain or a verb such as `ftwizard run`."
    if not stdout_is_tty:
        return "Standard output is not a terminal. Use --plain or a verb such as `ftwizard run`."
    term = variables.get("TERM", "")
    if term in _NO_SCREEN_TERMS:
        return f"TERM={term or '(empty)'} cannot draw screens. Set TERM (such as xterm-256color) or use --plain."
    return ""


def _colors(variables: Mapping[str, str]) -> Colors:
    # https://no-color.org: present and not empty means no colour.
    if variables.get("NO_COLOR"):
        return "none"
    forced = variables.get("TEXTUAL_COLOR_SYSTEM", "auto").lower()
    if forced != "auto":
        return "16" if forced == "standard" else "full"
    if variables.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "full"
    return "16" if variables.get("TERM", "") in _SIXTEEN_COLOR_TERMS else "full"


def keep_keys_alive() -> None:
    """Make undecodable input harmless in Textual's reader.

    An old-style mouse report after a re-attach is not UTF-8; the reader's thread died of it and every later key was
    lost (https://github.com/Textualize/textual/issues/6668).
    """
    from textual.drivers import linux_driver

    def tolerant(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
        return lambda: codecs.getincrementaldecoder(encoding)(errors="replace")

    vars(linux_driver)["getincrementaldecoder"] = tolerant


LEAVE_LIMIT_S = 4.0
"""Seconds after SIGTERM or SIGHUP by which the process is gone, clean screen or not; drafts and runs are on disk."""


def leave_cleanly_on_signals(leave: Callable[[int], None]) -> None:
    """Call `leave(128 + signal)` on SIGTERM and SIGHUP, so that the alternate screen and the mouse are switched off.

    Args:
        leave: Ends the app with this return code; called in the event loop.
    """
    loop = asyncio.get_running_loop()

    def end(code: int) -> None:
        # With the terminal gone Textual's driver was seen waiting for its writer without end.
        watchdog = threading.Timer(LEAVE_LIMIT_S, os._exit, (code,))
        watchdog.daemon = True
        watchdog.start()
        leave(code)

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, 128 + number)


def utf8_locale(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether the locale says that the terminal shows UTF-8, as POSIX ranks the variables."""
    variables = os.environ if environment is None else environment
    name = variables.get("LC_ALL") or variables.get("LC_CTYPE") or variables.get("LANG") or ""
    return "utf8" in name.lower().replace("-", "")
