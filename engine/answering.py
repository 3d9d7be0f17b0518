"""How a helper process answers: one question after the other, words on the way, and an ear for cancellations. Light.

One JSON object per line comes in, `{"id", "name", "arguments"}` or `{"cancel": id}`; one per line goes out,
`{"id", "progress"}` while work goes on, at most ten a second, then `{"id", "result"}`, `{"id", "problems"}` or
`{"id", "cancelled"}`. Work that was cancelled ends where it next says how far it is, and the process stays warm.
"""

import inspect
import json
import math
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from engine.recipe.problems import Problem, ProblemError

if TYPE_CHECKING:
    from engine.data.progress import Progress, WorkWatch

WORDS_EVERY_S = 0.1
"""Time between two words about progress; a terminal shows no more."""


class Answering:
    """Carries out requests one after the other while cancellations are heard at once.

    Args:
        answers: Where lines go.
        functions: `{name: function}`; one with a parameter `watch` is told when to stop and tells how far it is.
    """

    def __init__(self, answers: TextIO, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._answers = answers
        self._functions = functions
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._ended = threading.Event()

    def hear(self, requests: TextIO) -> None:
        """Take requests and cancellations until the end of the file."""
        for line in requests:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            else:
                self._queue.put(message)
        self._ended.set()
        self._queue.put(None)

    def serve(self) -> None:
        """Answer what was heard, one line each, until the end."""
        while (request := self._queue.get()) is not None and not self._ended.is_set():
            self._write(self.answer(request))
            self._cancelled.discard(request["id"])

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request; never raises, because the next request must still be answered."""
        from engine.data.bytes_in import ReadingStoppedError

        request_id = request["id"]
        if self._stopped(request_id):
            return {"id": request_id, "cancelled": True}
        try:
            return {"id": request_id, "result": self._carry_out(request)}
        except ReadingStoppedError:
            return {"id": request_id, "cancelled": True}
        except ProblemError as error:
            return {"id": request_id, "problems": [problem.to_json() for problem in error.problems]}
        except Exception as error:
            traceback.print_exc()
            problem = Problem(
                "inspection.failed",
                f"{request['name']} failed: {type(error).__name__}: {error}",
                "The whole trace is in inspection.log in the cache folder.",
            )
            return {"id": request_id, "problems": [problem.to_json()]}

    def _carry_out(self, request: dict[str, Any]) -> Any:
        function, arguments = self._functions[request["name"]], request["arguments"]
        if "watch" in inspect.signature(function).parameters:
            arguments = {**arguments, "watch": self._watch(request["id"])}
        return function(**arguments)

    def _watch(self, request_id: int) -> "WorkWatch":
        from engine.data.progress import WorkWatch

        last = -math.inf

        def tell(progress: "Progress") -> None:
            nonlocal last
            now = time.monotonic()
            # A finding is said once; words about how far the work is say nothing that the next one does not.
            if progress.found or now - last >= WORDS_EVERY_S:
                last = now
                self._write({"id": request_id, "progress": progress.to_json()})

        return WorkWatch(tell, lambda: self._stopped(request_id))

    def _stopped(self, request_id: int) -> bool:
        return request_id in self._cancelled or self._ended.is_set()

    def _write(self, line: dict[str, Any]) -> None:
        self._answers.write(json.dumps(line) + "\n")
        self._answers.flush()


def serve(requests: TextIO, answers: TextIO, functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until the end of the file; another thread hears them, so that work can be cancelled."""
    answering = Answering(answers, functions)
    threading.Thread(target=answering.hear, args=(requests,), name="requests", daemon=True).start()
    answering.serve()
