"""A real terminal for tests: a tmux server of its own, keys in, screens out, waiting for words instead of sleeping."""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

WAIT_LIMIT_S = 120.0
_POLL_S = 0.1


class Tmux:
    """One tmux server with one window.

    Args:
        socket: Path of the server's socket; unique, so that tests do not meet.
        columns: Width.
        rows: Height.
    """

    def __init__(self, socket: Path, *, columns: int = 80, rows: int = 24) -> None:
        self._base = socket
        self._socket = socket
        self._servers = 0
        self._size = (columns, rows)

    def _tmux(self, *arguments: str, check: bool = True) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", os.devnull, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=check, timeout=30)
        return done.stdout

    def start(self, command: str, environment: Mapping[str, str], cwd: Path) -> None:
        """Start a command in a fresh terminal.

        A killed server takes a moment to go; the next one has a socket of its own and does not meet it.
        """
        self._servers += 1
        self._socket = self._base.with_name(f"{self._base.name}{self._servers}")
        settings = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        columns, rows = self._size
        self._tmux(
            "new-session", "-d", "-s", "t", "-x", str(columns), "-y", str(rows), "-c", str(cwd), *settings, command
        )

    def keys(self, *keys: str) -> None:
        """Press keys, as tmux names them."""
        self._tmux("send-keys", "-t", "t", *keys)

    def type(self, text: str) -> None:
        """Type text as it is."""
        self._tmux("send-keys", "-t", "t", "-l", text)

    def screen(self) -> str:
        """Return what the terminal shows."""
        return self._tmux("capture-pane", "-p", "-t", "t", check=False)

    def wait_for(self, words: str, limit_s: float = WAIT_LIMIT_S) -> str:
        """Wait until the screen shows `words` and return the screen."""
        deadline = time.monotonic() + limit_s
        while words not in (shown := self.screen()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{words!r} did not appear within {limit_s:.0f} s; the screen shows:\n{shown}")
            time.sleep(_POLL_S)
        return shown

    def press_until(self, key: str, words: str, limit: int = 40) -> None:
        """Press a key until the screen shows `words`."""
        for _ in range(limit):
            if words in self.screen():
                return
            self.keys(key)
            time.sleep(_POLL_S)
        raise AssertionError(f"{words!r} did not appear after {limit} times {key}:\n{self.screen()}")

    def kill(self) -> None:
        """Kill the server and with it the terminal, as a lost line or a closed window does."""
        self._tmux("kill-server", check=False)
