"""Client of `engine.deployment.chat_process`: talk to a run's model without importing what it needs. Light."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.recipe.problems import Problem, ProblemError
from engine.runs.home import home_folders
from engine.text import clean_line

Which = Literal["auto", "merged", "adapter", "base"]
_STOP_GRACE_S = 2.0
_LOG_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Partner:
    """Who answers.

    Attributes:
        which: `merged`, `adapter` or `base`.
        converses: Answers messages; otherwise it continues the text of the last one.
        context_length: Longest conversation in tokens.
        device: Where it computes.
        does: What it does with what is typed, as the beginning of a sentence.
    """

    which: str
    converses: bool
    context_length: int
    device: str
    does: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended.

    Attributes:
        reason: `stop` (it was finished), `length`, `context` (the model can read no more) or `cancelled`.
        num_tokens: Length of the answer.
        elapsed_s: Time it took.
    """

    reason: str
    num_tokens: int
    elapsed_s: float


class ChatClient:
    """One model in a process of its own; use it as a context manager or call `close`.

    All methods block; from a screen call them in a thread. `cancel` may be called from any thread.

    Args:
        folder: A run directory or a folder with a whole model.
        which: Which model of a run.
        log_file: Where the process writes what libraries print; `chat.log` in the cache folder when None.
    """

    def __init__(self, folder: Path, which: Which = "auto", *, log_file: Path | None = None) -> None:
        self.ending: Ending | None = None
        self.partner: Partner | None = None
        self._answer_owed = False
        """A question was sent and the end of its answer has not been read."""
        self._log_file = log_file or home_folders().cache / "chat.log"
        self._lock = threading.Lock()
        self._process = _spawn(folder, which, self._log_file)

    def __enter__(self) -> "ChatClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_ready(self) -> Partner:
        """Wait until the model is loaded, seconds for small models and minutes for large ones.

        Raises:
            ProblemError: The model cannot be loaded, or the process ended.
        """
        if self.partner is None:
            answer = self._next()
            self.partner = Partner(
                answer["which"],
                answer["converses"],
                int(answer["context_length"]),
                answer["device"],
                answer["does"],
            )
        return self.partner

    def reply(
        self, messages: Sequence[Mapping[str, str]], *, max_new_tokens: int = 256, temperature: float = 0.0
    ) -> Generator[str, None, None]:
        """Yield the answer to a conversation in pieces; `ending` tells afterwards how it ended.

        An iterator that is left early cancels the answer. Pieces come from a model: pass them through `clean`.

        Raises:
            ProblemError: What the model's side raised, or that its process ended.
        """
        self.wait_ready()
        if self._answer_owed:
            # Whoever left the last answer was interrupted once more before its end had arrived.
            self._abandon()
        self.ending = None
        request = {
            "messages": [{name: _whole(text) for name, text in message.items()} for message in messages],
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
        }
        self._answer_owed = True
        self._send(request)
        try:
            while "piece" in (answer := self._next_or_finish()):
                yield str(answer["piece"])
        finally:
            if self._answer_owed:
                self._abandon()

    def cancel(self) -> None:
        """End the answer under way at the next token; `reply` then ends with the reason `cancelled`."""
        with contextlib.suppress(ProblemError):
            self._send({"cancel": True})

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_GRACE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _abandon(self) -> None:
        """Cancel, and read what is still on its way, so that the next answer begins with its own first piece."""
        self.cancel()
        with contextlib.suppress(ProblemError):
            while "piece" in self._next_or_finish():
                pass

    def _next_or_finish(self) -> dict[str, Any]:
        answer = self._next()
        if answer.get("done"):
            self._answer_owed = False
            self.ending = Ending(str(answer["reason"]), int(answer["num_tokens"]), float(answer["elapsed_s"]))
        return answer

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            self._answer_owed = False
            raise ProblemError(self._ended())
        answer: dict[str, Any] = json.loads(line)
        if "problems" in answer:
            self._answer_owed = False
            raise ProblemError(*(Problem(**fields) for fields in answer["problems"]))
        return answer

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            with self._lock:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            # ValueError: the pipe was closed by `close`.
            self._answer_owed = False
            raise ProblemError(self._ended()) from error

    def _ended(self) -> Problem:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_GRACE_S)
        return Problem(
            "chat.ended",
            f"The chat process ended (exit code {self._process.poll()}): {self._last_words()}",
            f"Its log is {clean_line(self._log_file)}. A model that needs more memory than is free ends like this.",
        )

    def _last_words(self) -> str:
        try:
            tail = self._log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", errors="replace")
        except OSError:
            return "it left no log."
        lines = [line for line in tail.splitlines() if line.strip()]
        return clean_line(lines[-1], max_chars=300) if lines else "it said nothing."


def _whole(text: str) -> str:
    """Return text without halves of surrogate pairs, which undecodable input leaves and tokenizers refuse."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _spawn(folder: Path, which: Which, log_file: Path) -> subprocess.Popen[bytes]:
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(log_file, "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.deployment.chat_process", str(folder), which],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            # Keys such as ctrl+c in the terminal are for the front end, which cancels or closes.
            start_new_session=True,
        )
