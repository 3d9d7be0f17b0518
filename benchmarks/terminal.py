"""A pseudo-terminal with an emulated screen: start a command, wait for words, count bytes and bursts."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence

import pyte

BURST_GAP_S = 0.02


class Terminal:
    """A command on its own terminal.

    Args:
        command: Program and arguments.
        columns: Width.
        rows: Height.
        environment: Variables laid over ours.
    """

    def __init__(
        self, command: Sequence[str], *, columns: int = 80, rows: int = 24, environment: Mapping[str, str] | None = None
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.num_bytes = 0
        self.num_bursts = 0
        self._last_read_s = 0.0
        self.started_s = time.perf_counter()
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            variables = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})}
            os.execvpe(command[0], list(command), variables)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, wait_s: float) -> bool:
        """Take in what comes within `wait_s`; return whether something came."""
        readable, _, _ = select.select([self._master], [], [], wait_s)
        if not readable:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        now = time.perf_counter()
        if now - self._last_read_s > BURST_GAP_S:
            self.num_bursts += 1
        self._last_read_s = now
        self.num_bytes += len(data)
        self._stream.feed(data)
        return bool(data)

    def text(self) -> str:
        """Return what the screen shows."""
        return "\n".join(self.screen.display)

    def wait_for(self, words: str, limit_s: float = 30.0) -> float:
        """Wait until the screen shows `words`; return the seconds since the start."""
        while words not in self.text():
            if time.perf_counter() - self.started_s > limit_s:
                raise TimeoutError(f"{words!r} did not appear:\n{self.text()}")
            self.read(0.05)
        return time.perf_counter() - self.started_s

    def watch(self, seconds: float) -> tuple[float, float]:
        """Return bytes and bursts per second over a while."""
        self.num_bytes = self.num_bursts = 0
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.read(min(left, 0.1))
        return self.num_bytes / seconds, self.num_bursts / seconds

    def cpu_s(self) -> float:
        """Return the CPU seconds that the command has used."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Hang up, as a lost line does."""
        os.close(self._master)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGHUP)
        os.waitpid(self.pid, 0)
