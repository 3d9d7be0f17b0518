"""Time spent training, and nothing else: evaluation, saving and pauses do not count."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Sum of running time over all attempts of a run, on a clock that never jumps.

    Args:
        elapsed_s: Training time of earlier attempts, in seconds.
    """

    def __init__(self, elapsed_s: float = 0.0) -> None:
        self._before_s = elapsed_s
        self._started: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Training time so far, in seconds."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._before_s + running

    def start(self) -> None:
        """Let the time run."""
        self._started = time.monotonic()

    def reset(self, elapsed_s: float) -> None:
        """Go on from the training time of an earlier attempt."""
        self._before_s = elapsed_s

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the time for the block."""
        was_running = self._started is not None
        self._before_s, self._started = self.elapsed_s, None
        try:
            yield
        finally:
            if was_running:
                self.start()
