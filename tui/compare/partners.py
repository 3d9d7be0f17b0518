"""The models of a comparison, each in a process of its own, and the answers that they write. No Textual here."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from engine.recipe.problems import ProblemError
from engine.runs.held_out_prompts import HeldOutPrompt
from tui.backend import Talker
from tui.compare.sides import Side
from tui.worker_errors import sentence_of

AnswerState = Literal["waiting", "loading", "writing", "done", "failed"]
OpenTalker = Callable[[Side], Talker]
_ENDED_EARLY = {
    "length": "cut at the longest answer",
    "context": "the model reads no more",
}
_OF_THE_PROMPT = frozenset({"chat.empty", "chat.refused", "chat.too_long"})
"""Problems that another prompt does not have."""


@dataclass(slots=True)
class Answer:
    """What one model has written so far.

    Attributes:
        text: As the model wrote it; whoever shows it cleans it.
        state: How far it is.
        note: Why it ended early or failed; empty otherwise.
    """

    text: str = ""
    state: AnswerState = "waiting"
    note: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state in ("done", "failed")


class Partner:
    """One model. Its process starts with the first prompt and ends with `close`.

    Args:
        side: Which model.
        open_talker: Starts its process.
    """

    def __init__(self, side: Side, open_talker: OpenTalker) -> None:
        self.side = side
        self._open_talker = open_talker
        self._talker: Talker | None = None
        self._answering = threading.Lock()
        self._closed = False

    def answer(self, prompt: HeldOutPrompt, answer: Answer, wanted: Callable[[], bool], *, max_new_tokens: int) -> None:
        """Write the answer to a prompt into `answer`, piece by piece; problems become its note.

        Args:
            prompt: What is asked.
            answer: Where it goes.
            wanted: Asked between pieces; the answer ends where it says no.
            max_new_tokens: Longest answer.
        """
        with self._answering:
            try:
                self._write(prompt, answer, wanted, max_new_tokens)
            except ProblemError as error:
                answer.state, answer.note = "failed", error.problems[0].sentence()
                if error.problems[0].code not in _OF_THE_PROMPT:
                    # It is gone, or was never there: the next prompt starts it again.
                    self.rest()
            except (OSError, ValueError, KeyError) as error:
                # A pipe that `close` has closed under the reader, or a line that is none of ours.
                answer.state, answer.note = "failed", sentence_of(error)

    def _write(self, prompt: HeldOutPrompt, answer: Answer, wanted: Callable[[], bool], max_new_tokens: int) -> None:
        if not wanted():
            return
        answer.state = "loading"
        talker = self._opened()
        talker.wait_ready()
        answer.state = "writing"
        with closing(talker.reply(prompt.messages, max_new_tokens=max_new_tokens)) as pieces:
            for piece in pieces:
                if not wanted():
                    return
                answer.text += piece
        if talker.ending is not None:
            answer.note = _ENDED_EARLY.get(talker.ending.reason, "")
        answer.state = "done"

    def _opened(self) -> Talker:
        if self._talker is None:
            self._talker = self._open_talker(self.side)
            if self._closed:
                # Closed while it was being opened: nobody else would end it.
                self._talker.close()
        return self._talker

    def interrupt(self) -> None:
        """End the answer under way at the next token."""
        if self._talker is not None:
            self._talker.cancel()

    def rest(self) -> None:
        """End the process; the next prompt starts it again."""
        talker, self._talker = self._talker, None
        if talker is not None:
            talker.close()

    def reopen(self) -> None:
        """Take questions again."""
        self._closed = False

    def close(self) -> None:
        """End the process for good."""
        self._closed = True
        self.rest()


class Partners:
    """All models of a comparison.

    Args:
        sides: Which they are.
        open_talker: Starts the process of one.
        together: All may be loaded at once; else one leaves before the next comes.
        max_new_tokens: Longest answer.
    """

    def __init__(
        self, sides: Sequence[Side], open_talker: OpenTalker, *, together: bool = True, max_new_tokens: int = 256
    ) -> None:
        self.members = [Partner(side, open_talker) for side in sides]
        self.together = together
        self._max_new_tokens = max_new_tokens
        self._asked = 0
        self._turns = threading.Lock()

    def ask(self, prompt: HeldOutPrompt) -> list[Answer]:
        """Ask all of them, and return at once; the answers grow. Answers to an earlier prompt end."""
        number = self._new_question()
        answers = [Answer() for _ in self.members]

        def wanted() -> bool:
            return self._asked == number

        pairs = list(zip(self.members, answers, strict=True))
        # Not workers of a screen: the interpreter would wait for them when the person quits.
        if self.together:
            for pair in pairs:
                threading.Thread(target=self._answer, args=(prompt, pair, wanted), daemon=True).start()
        else:
            threading.Thread(target=self._take_turns, args=(prompt, pairs, wanted), daemon=True).start()
        return answers

    def ask_pairs(
        self, prompts: Sequence[HeldOutPrompt], pair_ready: Callable[[HeldOutPrompt, list[Answer]], None]
    ) -> None:
        """Let all of them answer all prompts, and tell of each prompt when the last one has answered it. Blocks.

        Args:
            prompts: In order.
            pair_ready: Called with a prompt and its answers, in the order of the sides.
        """
        number = self._new_question()
        answers = [[Answer() for _ in self.members] for _ in prompts]

        def wanted() -> bool:
            return self._asked == number

        pairs = [list(zip(self.members, row, strict=True)) for row in answers]
        if self.together:
            for prompt, row in zip(prompts, pairs, strict=True):
                self._all_at_once(prompt, row, wanted)
                if not wanted():
                    return
                pair_ready(prompt, [answer for _, answer in row])
            return
        for place, member in enumerate(self.members):
            for prompt, row in zip(prompts, pairs, strict=True):
                self._answer(prompt, row[place], wanted)
                if not wanted():
                    return
                if place == len(self.members) - 1:
                    pair_ready(prompt, [answer for _, answer in row])
            member.rest()

    def _all_at_once(
        self, prompt: HeldOutPrompt, row: Sequence[tuple[Partner, Answer]], wanted: Callable[[], bool]
    ) -> None:
        threads = [threading.Thread(target=self._answer, args=(prompt, pair, wanted), daemon=True) for pair in row]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _new_question(self) -> int:
        self._asked += 1
        for member in self.members:
            member.interrupt()
        return self._asked

    def _answer(self, prompt: HeldOutPrompt, pair: tuple[Partner, Answer], wanted: Callable[[], bool]) -> None:
        member, answer = pair
        member.answer(prompt, answer, wanted, max_new_tokens=self._max_new_tokens)

    def _take_turns(
        self, prompt: HeldOutPrompt, pairs: Sequence[tuple[Partner, Answer]], wanted: Callable[[], bool]
    ) -> None:
        # One prompt at a time: else the turns of two prompts would load two models.
        with self._turns:
            for pair in pairs:
                self._answer(prompt, pair, wanted)
                pair[0].rest()

    def reopen(self) -> None:
        """Take questions again after `close`; a process starts with the next one."""
        for member in self.members:
            member.reopen()

    def stop(self) -> None:
        """End the answers under way; the models stay loaded."""
        self._new_question()

    def close(self) -> None:
        """End every process."""
        self._asked += 1
        for member in self.members:
            member.close()
