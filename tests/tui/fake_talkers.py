"""Models that answer from a table, for the screens that compare them; they write in pieces, and wait where told."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from engine.chat_client import Ending
from engine.recipe.problems import Problem, ProblemError

Answers = Callable[[str, str], str]


class FakeTalker:
    """One model: its answer to a prompt is `answers(which, prompt)`."""

    def __init__(self, owner: "FakeTalkers", which: str) -> None:
        self.ending: Ending | None = None
        self.closed = False
        self._owner, self._which = owner, which

    def wait_ready(self) -> object:
        self._owner.log.append(f"ready {self._which}")
        return None

    def reply(self, messages: Sequence[Mapping[str, str]], *, max_new_tokens: int = 256) -> Generator[str, None, None]:
        prompt = messages[-1]["content"]
        self._owner.log.append(f"{self._which}: {prompt}")
        text = self._owner.answers(self._which, prompt)
        if text.startswith("!"):
            raise ProblemError(Problem("chat.too_long", text[1:]))
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            self._owner.gates.get(self._which, self._owner.open_gate).wait(10)
            yield piece
        self.ending = Ending("stop", 2, 0.1)

    def cancel(self) -> None:
        self._owner.log.append(f"cancel {self._which}")

    def close(self) -> None:
        self.closed = True
        self._owner.log.append(f"close {self._which}")


class FakeTalkers:
    """Opens models and remembers them."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.log: list[str] = []
        self.opened: list[FakeTalker] = []
        self.gates: dict[str, threading.Event] = {}
        self.open_gate = threading.Event()
        self.open_gate.set()

    def __call__(self, folder: Path, which: str, name: str) -> FakeTalker:
        talker = FakeTalker(self, which)
        self.opened.append(talker)
        return talker
