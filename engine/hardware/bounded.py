"""Calls that may never return (a hung driver, a dead network disk), made so that nobody waits for them."""

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from engine.hardware.readings import Unavailable

T = TypeVar("T")


class BoundedCaller(Generic[T]):
    """Runs one kind of call in a daemon thread and waits only so long for it.

    While an earlier call hangs, no other is started: a poll once a second must not pile up threads in a dead driver.
    """

    def __init__(self, what: str) -> None:
        """Make a caller.

        Args:
            what: Who is asked, as the subject of a sentence: `the NVIDIA driver`.
        """
        self._what = what
        # Held from before a call's thread starts until its function has ended, however long nobody waits for it.
        self._under_way = threading.Lock()
        self._started_s = math.inf

    def call(self, function: Callable[[], T], *, limit_s: float) -> T | Unavailable:
        """Return the answer of `function`, or `Unavailable` when it takes longer than `limit_s` seconds.

        An exception of `function` is raised here. A call that is under way is waited for until it has had `limit_s`
        seconds: two who ask at the same moment both get an answer, and one that hangs is not waited for again.

        Args:
            function: What to run.
            limit_s: Longest wait for it.
        """
        answers: list[T] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                answers.append(function())
            except BaseException as error:  # noqa: BLE001 - handed over to the caller below
                failures.append(error)
            finally:
                self._end()

        if not self._under_way.acquire(timeout=self._left_s(limit_s)):
            return Unavailable(f"{self._what} still does not answer")
        self._started_s = time.monotonic()
        thread = threading.Thread(target=work, name=f"bounded: {self._what}", daemon=True)
        try:
            thread.start()
        except BaseException:
            self._end()
            raise
        thread.join(limit_s)
        if failures:
            raise failures[0]
        if answers:
            return answers[0]
        return Unavailable(f"{self._what} did not answer within {limit_s:g} s")

    def _end(self) -> None:
        self._started_s = math.inf
        self._under_way.release()

    def _left_s(self, limit_s: float) -> float:
        """Return how long the call under way may still take; all of the limit when none is, or has just begun."""
        return min(limit_s, max(0.0, self._started_s + limit_s - time.monotonic()))
