"""Runs that several processes share, each forked from a warmed test process instead of started anew."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import engine.stages
import engine.training.run
import engine.worker
from engine.runs.directory import RunDirectory
from engine.training import rank_process, ranks
from tests.engine.forked import ForkedWorker
from tests.forks import fork

STARTS_OVER = 99


def nothing() -> None:
    """Plant no fault."""


def without_measuring() -> None:
    """Leave out every evaluation of this process: it costs more than the few steps around it."""
    engine.stages.evaluate = engine.training.run.evaluate = lambda *_: None


class ForkedRank:
    """What `subprocess.Popen` is to the worker, for a process that was forked.

    Args:
        notes: Descriptor that the process writes to.
        inject: Called in the process before it begins; plants faults.
    """

    def __init__(self, notes: int, inject: Callable[[], None]) -> None:
        read_end, write_end = os.pipe()
        self.returncode: int | None = None
        self.pid = fork(lambda: _rank(read_end, notes, inject))
        os.close(read_end)
        self.stdin = os.fdopen(write_end, "wb")

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        ends = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired("rank", timeout)
            time.sleep(0.005)
        return int(self.returncode or 0)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _rank(read_end: int, notes: int, inject: Callable[[], None]) -> int:
    os.dup2(read_end, 0)
    # As a program of its own would: neither the worker's lock nor its ends of pipes stay open here.
    os.closerange(3, notes)
    os.closerange(notes + 1, 1024)
    inject()
    return rank_process.main([str(notes)])


def fork_ranks(in_worker: Callable[[], None], in_rank: Callable[[], None]) -> Callable[[], None]:
    """Return what a forked worker does first, so that it forks its ranks too."""

    def planted() -> None:
        def start(notes: int, _: dict[str, str]) -> Any:
            return ForkedRank(notes, in_rank)

        ranks.start_process = start
        without_measuring()
        in_worker()

    return planted


def carry_attempts(
    run: RunDirectory, *, in_worker: Callable[[], None] = nothing, in_rank: Callable[[], None] = nothing
) -> tuple[int, int]:
    """Carry a run through its fresh processes; return the exit code and their number."""
    for attempt in range(1, 9):

        def planted(attempt: int = attempt) -> None:
            begin = engine.worker.begin_attempt
            engine.worker.begin_attempt = lambda run, restarted: begin(run, restarted=attempt > 1)
            engine.worker.restart_process = lambda *_: os._exit(STARTS_OVER)
            in_worker()

        code = ForkedWorker(run, fork_ranks(planted, in_rank)).wait()
        if code != STARTS_OVER:
            return code, attempt
    raise AssertionError("the run starts over and over")
