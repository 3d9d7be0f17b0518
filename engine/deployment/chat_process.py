"""`python -P -m engine.deployment.chat_process FOLDER [WHICH]`: a chat over JSON lines on standard input and output.

In:  `{"messages": [{"role", "content"}...], "max_new_tokens": 256, "temperature": 0.0}` and `{"cancel": true}`.
Out: `{"ready": true, "which", "converses", "does", "context_length", "device"}` once, then for each request pieces
     `{"piece": "..."}` and at the end `{"done": true, "reason", "num_tokens", "elapsed_s"}`; `{"problems": [...]}`
     instead of either when something is wrong. End of input ends the process.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.recipe.problems import Problem, ProblemError

if TYPE_CHECKING:
    from engine.deployment.asking import AskSession
    from engine.deployment.chat import ChatSession

    Session = AskSession | ChatSession

Say = Callable[[dict[str, Any]], None]
_END: dict[str, Any] = {"end": True}


def main(arguments: list[str]) -> int:
    """Serve one conversation partner; returns the exit code."""
    say = _answers()
    requests = _requests()
    try:
        session = _load(Path(arguments[0]), arguments[1] if len(arguments) > 1 else "auto")
    except ProblemError as error:
        say({"problems": [problem.to_json() for problem in error.problems]})
        return 2
    say(
        {
            "ready": True,
            "which": session.which,
            "converses": session.converses,
            "does": session.does,
            "context_length": session.context_length,
            "device": session.device,
        }
    )
    while (request := requests.get()) is not _END:
        if "messages" in request:
            try:
                _reply(session, request, requests, say)
            except ProblemError as error:
                say({"problems": [problem.to_json() for problem in error.problems]})
    return 0


def _answers() -> Say:
    """Return the function that writes answers; whatever libraries print goes to the log instead."""
    private = os.dup(1)
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        # ASCII: half a surrogate pair has no UTF-8 form.
        view = memoryview(json.dumps(answer).encode("ascii") + b"\n")
        while view:
            view = view[os.write(private, view) :]

    return say


def _requests() -> "queue.SimpleQueue[dict[str, Any]]":
    """Return the queue that a thread fills from standard input, so that a cancel arrives in the middle of an answer."""
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    # A file of its own: the interpreter aborts when it closes `sys.stdin` at exit while a thread reads from that, and
    # the abort would hide what went wrong.
    private = open(os.dup(0), "rb")  # noqa: SIM115 - open as long as the process

    def read() -> None:
        for line in private:
            request = json.loads(line)
            if isinstance(request, dict):
                requests.put(request)
        requests.put(_END)

    threading.Thread(target=read, name="chat-requests", daemon=True).start()
    return requests


def _load(folder: Path, which: str) -> "Session":
    from engine.deployment.asking import AskSession, asks
    from engine.deployment.chat import ChatSession
    from engine.deployment.chosen import Which

    chosen = cast(Which, which)
    return AskSession(folder, which=chosen) if asks(folder) else ChatSession(folder, which=chosen)


def _reply(
    session: "Session", request: dict[str, Any], requests: "queue.SimpleQueue[dict[str, Any]]", say: Say
) -> None:
    started = time.monotonic()
    reason: str | None = None
    pieces = session.reply(
        request["messages"],
        max_new_tokens=int(request.get("max_new_tokens", 256)),
        temperature=float(request.get("temperature", 0.0)),
    )
    try:
        for piece in pieces:
            say({"piece": piece})
            if _cancelled(requests):
                reason = "cancelled"
                break
    except MemoryError as error:
        raise ProblemError(_out_of_memory()) from error
    except RuntimeError as error:
        # PyTorch's own out-of-memory error is a RuntimeError; everything else is ours to hear of.
        if "out of memory" not in str(error):
            raise
        raise ProblemError(_out_of_memory()) from error
    elapsed_s = round(time.monotonic() - started, 3)
    say(
        {
            "done": True,
            "reason": reason or session.stop_reason,
            "num_tokens": session.num_tokens,
            "elapsed_s": elapsed_s,
        }
    )


def _cancelled(requests: "queue.SimpleQueue[dict[str, Any]]") -> bool:
    """Take requests that came meanwhile: a cancel or the end of input ends the answer, others were out of turn."""
    while True:
        try:
            request = requests.get_nowait()
        except queue.Empty:
            return False
        if request is _END:
            requests.put(_END)
            return True
        if request.get("cancel"):
            return True


def _out_of_memory() -> Problem:
    return Problem(
        "chat.out_of_memory", "The conversation does not fit the memory of the device.", "Start a new conversation."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
