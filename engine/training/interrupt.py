"""Signals and requests to stop, as flags that the stages look at where stopping is safe.

While a run trains, a signal only sets a flag and the trainer stops at the next micro-step. In stages that have nothing
to save (`interruptible`), the signal raises right away. Inside a commit (`shielded`) it waits until the commit is done.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
EXIT_INTERRUPTED = 75


class StopRequested(BaseException):
    """Raised to leave the current stage; not an `Exception`, so that no library swallows it.

    Attributes:
        reason: Plain words, such as `SIGTERM` or `stop requested by a viewer`.
        save: Whether the state of training is to be saved first.
    """

    def __init__(self, reason: str, *, save: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.save = save


class Interrupt:
    """The worker's one place for signals."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._raise_at_once = False
        self._interrupts = 0

    def install(self) -> None:
        """Take over SIGTERM, SIGINT and SIGUSR1; SIGHUP is ignored, the run outlives its terminal."""
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def hold_for_next_program(self) -> None:
        """Keep signals for the program that replaces this one, until it installs its own handlers.

        Raises:
            StopRequested: One has arrived already.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.check()

    def request(self, reason: str) -> None:
        """Ask for a stop from inside the process."""
        self.reason = self.reason or reason

    def check(self) -> None:
        """Raise `StopRequested` when a stop was asked for."""
        if self.reason is not None:
            raise StopRequested(self.reason)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal end the block at once; for stages without anything to save."""
        try:
            # In this order: a signal between the two would wait for the end of the block.
            self._raise_at_once = True
            self.check()
            yield
        finally:
            self._raise_at_once = False

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold signals back until the block is done; for commits inside an interruptible stage."""
        before, self._raise_at_once = self._raise_at_once, False
        try:
            yield
        finally:
            self._raise_at_once = before
        if before:
            self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                # The person insists: leave without saving. The last commit is whole, that is its purpose.
                os._exit(EXIT_INTERRUPTED)
        self.request(signal.Signals(number).name)
        if self._raise_at_once:
            raise StopRequested(self.reason or "signal")
