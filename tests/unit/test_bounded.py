"""Callers that wait only so long: many at once each get the driver's answer, none an error of our own."""

import sys
import threading
from collections.abc import Iterator

import pytest

from engine.hardware.bounded import BoundedCaller
from engine.hardware.readings import Unavailable

CALLERS = 8
ROUNDS = 25


@pytest.fixture
def eager_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switches")
def test_callers_at_the_same_moment_all_get_an_answer() -> None:
    caller: BoundedCaller[int] = BoundedCaller("the device")
    answers: list[object] = []
    together = threading.Barrier(CALLERS)

    def ask(number: int) -> None:
        for _ in range(ROUNDS):
            together.wait(30)
            try:
                answers.append(caller.call(lambda: number, limit_s=30))
            except RuntimeError as error:
                answers.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers, key=str) == sorted(list(range(CALLERS)) * ROUNDS, key=str)


def test_a_caller_gives_up_on_a_call_that_never_ends() -> None:
    caller: BoundedCaller[None] = BoundedCaller("the device")
    release = threading.Event()
    try:
        assert isinstance(caller.call(lambda: void(release), limit_s=0.01), Unavailable)
        assert isinstance(caller.call(lambda: None, limit_s=0.01), Unavailable)
    finally:
        release.set()


def void(release: threading.Event) -> None:
    release.wait(30)


def test_a_thread_that_cannot_start_does_not_block_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    caller: BoundedCaller[str] = BoundedCaller("the device")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            caller.call(lambda: "never", limit_s=1)
    assert caller.call(lambda: "fine", limit_s=30) == "fine"
