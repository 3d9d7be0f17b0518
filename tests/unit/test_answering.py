"""The helper's side of its protocol: what is done ahead comes between questions, never before them."""

import io
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine.answering import Answering


class Line:
    """Requests that come when the test sends them."""

    def __init__(self, warming: Sequence[Callable[[], object]], *, said: threading.Event | None = None) -> None:
        reading, writing = os.pipe()
        self._requests = os.fdopen(writing, "w")
        self._heard = os.fdopen(reading)
        self._said = said
        self.log: list[str] = []
        self._answering = Answering(io.StringIO(), {"say": self._say}, warming)
        self._ears = threading.Thread(target=self._answering.hear, args=(self._heard,))
        self._ears.start()

    def _say(self, text: str) -> None:
        self.log.append(text)
        if self._said is not None:
            self._said.set()

    def send(self, **message: Any) -> None:
        self._requests.write(json.dumps(message) + "\n")
        self._requests.flush()

    def end(self) -> None:
        self._requests.close()
        self._ears.join(10)
        self._heard.close()

    def serve_until(self, done: threading.Event) -> None:
        """Serve in another thread until `done`, then end."""
        serving = threading.Thread(target=self._answering.serve)
        serving.start()
        assert done.wait(10)
        self.end()
        serving.join(10)
        assert not serving.is_alive()


def test_nothing_is_done_ahead_before_it_is_asked_for() -> None:
    done = threading.Event()
    line = Line([lambda: line.log.append("warm")], said=done)
    line.send(id=1, name="say", arguments={"text": "hello"})
    line.serve_until(done)
    assert line.log == ["hello"]


def test_a_question_that_came_goes_before_what_is_done_ahead_and_all_of_that_is_done() -> None:
    done = threading.Event()
    line = Line([lambda: line.log.append("first"), lambda: line.log.append("second"), done.set])
    line.send(warm=True)
    line.send(id=1, name="say", arguments={"text": "question"})
    line.serve_until(done)
    assert line.log == ["question", "first", "second"]


def test_a_question_waits_for_one_step_at_most() -> None:
    done = threading.Event()

    def ask() -> None:
        line.log.append("first")
        line.send(id=1, name="say", arguments={"text": "question"})

    line = Line([ask, lambda: line.log.append("second"), done.set])
    line.send(warm=True)
    line.serve_until(done)
    assert line.log == ["first", "question", "second"]


def test_what_fails_ahead_is_told_to_the_log_and_questions_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()

    def broken() -> None:
        line.send(id=1, name="say", arguments={"text": "question"})
        raise ImportError("libtorch.so is torn")

    line = Line([broken, lambda: line.log.append("never")], said=done)
    line.send(warm=True)
    line.serve_until(done)
    assert line.log == ["question"]
    assert "libtorch.so is torn" in capsys.readouterr().err
