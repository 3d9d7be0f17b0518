"""How a helper process answers: one question after the other, words on the way, and an ear for cancellations. Light.

One JSON object per line comes in, `{"id", "name", "arguments"}` or `{"cancel": id}`; one per line goes out,
`{"id", "progress"}` while work goes on, at most ten a second, then `{"id", "result"}`, `{"id", "problems"}` or
`{"id", "cancelled"}`. Work that was cancelled ends where it next says how far it is, and the process stays warm.
`{"warm": true}` asks for what takes long the first time, such as imports, to be done while nobody asks anything.
"""

import inspect
import json
import math
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from engine.recipe.problems import Problem, ProblemError

if TYPE_CHECKING:
    from engine.data.progress import Progress, WorkWatch

WORDS_EVERY_S = 0.1
"""Time between two words about progress; a terminal shows no more."""
_BREATH_S = 0.05
"""How long nobody must have asked anything before warming up goes on: questions go before it."""


class Answering:
    """Carries out requests one after the other while cancellations are heard at once.

    Args:
        answers: Where lines go.
        functions: `{name: function}`; one with a parameter `watch` is told when to stop and tells how far it is.
        warming: What is done while nobody asks anything, once that was asked for; a question waits for one at most.
    """

    def __init__(
        self,
        answers: TextIO,
        functions: Mapping[str, Callable[..., Any]],
        warming: Sequence[Callable[[], object]] = (),
    ) -> None:
        self._answers = answers
        self._functions = functions
        self._warming = warming
        self._still_cold: deque[Callable[[], object]] = deque()
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
        while (request := self._next()) is not None and not self._ended.is_set():
            if "warm" in request:
                self._still_cold = deque(self._warming)
                continue
            self._write(self.answer(request))
            self._cancelled.discard(request["id"])

    def _next(self) -> dict[str, Any] | None:
        """Return the next message; until it comes, warm up.

        It is done between questions and not in another thread: two threads that import the same packages wait for each
        other's modules, which Python ends with an error.
        """
        while self._still_cold:
            try:
                return self._queue.get(timeout=_BREATH_S)
            except queue.Empty:
                self._warm()
        return self._queue.get()

    def _warm(self) -> None:
        """Do one thing ahead; what fails here fails again where it is needed, and is said there."""
        step = self._still_cold.popleft()
        try:
            step()
        except Exception:
            traceback.print_exc()
            self._still_cold.clear()

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


def serve(
    requests: TextIO,
    answers: TextIO,
    functions: Mapping[str, Callable[..., Any]],
    warming: Sequence[Callable[[], object]] = (),
) -> None:
    """Answer requests until the end of the file; another thread hears them, so that work can be cancelled."""
    answering = Answering(answers, functions, warming)
    threading.Thread(target=answering.hear, args=(requests,), name="requests", daemon=True).start()
    answering.serve()
