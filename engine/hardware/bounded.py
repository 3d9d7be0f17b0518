"""Calls that may never return (a hung driver, a dead network disk), made so that nobody waits for them."""

import threading
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

    def call(self, function: Callable[[], T], *, limit_s: float, patient: bool = False) -> T | Unavailable:
        """Return the answer of `function`, or `Unavailable` when it takes longer than `limit_s` seconds.

        An exception of `function` is raised here.

        Args:
            function: What to run.
            limit_s: Longest wait for it.
            patient: While earlier calls are still under way, wait as long for their end instead of giving up at once.
        """
        answers: list[T] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                answers.append(function())
            except BaseException as error:  # noqa: BLE001 - handed over to the caller below
                failures.append(error)
            finally:
                self._under_way.release()

        if not self._under_way.acquire(timeout=limit_s if patient else 0):
            return Unavailable(f"{self._what} still does not answer")
        thread = threading.Thread(target=work, name=f"bounded: {self._what}", daemon=True)
        try:
            thread.start()
        except BaseException:
            self._under_way.release()
            raise
        thread.join(limit_s)
        if failures:
            raise failures[0]
        if answers:
            return answers[0]
        return Unavailable(f"{self._what} did not answer within {limit_s:g} s")
