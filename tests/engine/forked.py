"""Workers forked from a warmed test process: no import costs, so that many of them can be started and killed."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import engine.stages  # noqa: F401 - imported before the first fork
from engine import worker
from engine.runs.directory import RunDirectory
from tests.forks import fork

DEADLINE_S = 120.0


class ForkedWorker:
    """A worker process of this test.

    Args:
        run: The run to carry.
        inject: Called in the child before the worker begins; plants faults.
    """

    def __init__(self, run: RunDirectory, inject: Callable[[], None] | None = None) -> None:
        self.run = run
        self.exit_code: int | None = None
        self.pid = fork(lambda: _carry(run, inject))

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it lives."""
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for its end and return the exit code."""
        ends = time.monotonic() + deadline_s
        while self.poll() is None:
            if time.monotonic() > ends:
                self.send(signal.SIGKILL)
                raise AssertionError(self.log())
            time.sleep(0.005)
        return int(self.exit_code or 0)

    def wait_for(self, predicate: Callable[[], bool]) -> None:
        """Wait until something has happened while the worker lives."""
        ends = time.monotonic() + DEADLINE_S
        while not predicate():
            assert self.poll() is None, f"the worker ended with {self.exit_code}: {self.log()[-2000:]}"
            assert time.monotonic() < ends, "deadline"
            time.sleep(0.005)

    def send(self, number: int) -> None:
        """Send a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def log(self) -> str:
        """Return what the worker wrote."""
        return self.run.log_file.read_text(encoding="utf-8", errors="replace")


def carry(run: RunDirectory, inject: Callable[[], None] | None = None, deadline_s: float = DEADLINE_S) -> int:
    """Carry a run in a forked worker and return its exit code."""
    return ForkedWorker(run, inject).wait(deadline_s)


def _carry(run: RunDirectory, inject: Callable[[], None] | None) -> int:
    os.setsid()
    _redirect(run.log_file)
    os.chdir(run.path)
    if inject is not None:
        inject()
    return worker.main([str(run.path)])


def _redirect(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Nothing waits in them: the child ends without flushing.
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
