"""Client of the inspection helper: a warm process that may import tokenizers, datasets and transformers. Light.

Requests, words about progress and answers are JSON lines over two pipes. No pickle crosses them, library chatter on the
helper's stdout goes to a log file. Work that nobody waits for any more is asked to stop; a helper that does not stop
within a second is replaced, and what others asked of it is asked of the new one.
"""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_all
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from engine.runs.home import home_folders

CANCEL_GRACE_S = 1.0
"""Time that the helper has to stop work that was cancelled before its process is ended."""
_STOP_GRACE_S = 2.0

ProgressListener = Callable[[dict[str, Any]], None]
"""Takes the fields of `engine.data.progress.Progress`."""


def _seen(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()


@dataclass(slots=True, eq=False)
class _Request:
    """One question, until it is answered."""

    name: str
    arguments: dict[str, Any]
    on_progress: ProgressListener | None = None
    future: "Future[Any]" = field(default_factory=Future)
    cancelled: bool = False


class InspectionHelper:
    """Starts the helper process on first need and talks to it; safe to use from several threads.

    A call that finds the process gone (killed, out of memory) raises `ProblemError` with code `helper.ended`; the next
    call starts a fresh one.
    """

    def __init__(self, *, log_file: Path | None = None) -> None:
        self._log_file = log_file
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._warm = False

    def start(self) -> None:
        """Start the process now."""
        self._connected()

    def warm_up(self) -> None:
        """Start the process and have it import, whenever nobody asks anything, what questions about data need.

        A process that takes its place does the same.
        """
        with self._lock:
            self._warm = True
            connection = self._connection
        if connection is not None and connection.alive:
            connection.warm_up()
        else:
            self._connected()

    async def call(self, name: str, on_progress: ProgressListener | None = None, **arguments: Any) -> Any:
        """Run `engine.inspection.FUNCTIONS[name]` in the helper and return its JSON result.

        Cancelling the awaiting task cancels the work: at once for the caller, within a second in the helper.

        Args:
            name: The function.
            on_progress: Told in the event loop of the caller how far the work is, at most ten times a second.
            arguments: JSON values.

        Raises:
            ProblemError: What the function raised, or that the helper ended.
        """
        loop = asyncio.get_running_loop()

        def tell(progress: dict[str, Any]) -> None:
            # A loop that was closed meanwhile has nobody who listens.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(on_progress, progress)  # type: ignore[arg-type]

        request = _Request(name, arguments, tell if on_progress is not None else None)
        connection = self._connected()
        connection.send(request)
        answer = asyncio.wrap_future(request.future)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            # Nobody waits any more: asyncio would print an answer that is an error when the program ends.
            answer.add_done_callback(_seen)
            self._cancel(connection, request)
            raise

    def call_blocking(self, name: str, on_progress: ProgressListener | None = None, **arguments: Any) -> Any:
        """Do the same as `call` and wait for the result; `on_progress` is called in another thread.

        Ctrl+c (`KeyboardInterrupt`) cancels the work and goes on as itself.
        """
        request = _Request(name, arguments, on_progress)
        connection = self._connected()
        connection.send(request)
        try:
            return request.future.result()
        except KeyboardInterrupt:
            self._cancel(connection, request)
            raise

    def submit(self, name: str, on_progress: ProgressListener | None = None, **arguments: Any) -> "Future[Any]":
        """Send a request and return the future of its result."""
        request = _Request(name, arguments, on_progress)
        self._connected().send(request)
        return request.future

    def close(self) -> None:
        """End the helper, after a second at most; whoever still waits gets `ProblemError`."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()

    def _connected(self) -> "_Connection":
        with self._lock:
            if self._connection is None or not self._connection.alive:
                log_file = self._log_file or home_folders().cache / "inspection.log"
                self._connection = _Connection(log_file)
                if self._warm:
                    self._connection.warm_up()
            return self._connection

    def _cancel(self, connection: "_Connection", request: _Request) -> None:
        if not connection.cancel(request):
            return
        overdue = threading.Timer(CANCEL_GRACE_S, self._replace, (connection, request))
        overdue.daemon = True
        overdue.start()

    def _replace(self, connection: "_Connection", request: _Request) -> None:
        """End a process that goes on with cancelled work, and ask a fresh one what others asked of it."""
        waiting = connection.end_unless_answered(request)
        if waiting:
            fresh = self._connected()
            for other in waiting:
                fresh.send(other)


class _Connection:
    """One helper process and the requests that wait for it."""

    def __init__(self, log_file: Path) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, _Request] = {}
        self._ids = itertools.count(1)
        self._process = _spawn(log_file)
        threading.Thread(target=self._read, name="inspection-answers", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, request: _Request) -> None:
        with self._lock:
            request_id = next(self._ids)
            self._waiting[request_id] = request
            sent = self._write({"id": request_id, "name": request.name, "arguments": request.arguments})
            # The reader may have failed this request already; whoever removes it from the table settles it.
            lost = None if sent else self._waiting.pop(request_id, None)
        if lost is not None:
            _fail(lost, _ended(self._process))

    def warm_up(self) -> None:
        """Ask the process to do ahead what takes long; one that is gone is found out by the next question."""
        with self._lock:
            self._write({"warm": True})

    def cancel(self, request: _Request) -> bool:
        """Ask the process to stop; false when there is nothing to stop any more."""
        with self._lock:
            request_id = self._id_of(request)
            if request_id is None:
                return False
            request.cancelled = True
            self._write({"cancel": request_id})
            return True

    def end_unless_answered(self, request: _Request) -> list[_Request]:
        """End the process if it still owes an answer to `request`; return what else it owes, to be asked again."""
        with self._lock:
            if self._id_of(request) is None:
                return []
            waiting, self._waiting = self._waiting, {}
        self.end()
        return [other for other in waiting.values() if not other.cancelled]

    def end(self) -> None:
        """End the process; work under way gets a moment to remove what it has half made."""
        with self._lock:
            waiting = dict(self._waiting)
            for request_id in waiting:
                self._write({"cancel": request_id})
        wait_for_all((request.future for request in waiting.values()), timeout=CANCEL_GRACE_S)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_GRACE_S)

    def _id_of(self, request: _Request) -> int | None:
        return next((number for number, waiting in self._waiting.items() if waiting is request), None)

    def _write(self, message: dict[str, Any]) -> bool:
        """Write one line; false when the process is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(message) + "\n").encode())
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Half a line is the last word of a process that was killed.
            if line.endswith(b"\n"):
                self._settle(json.loads(line))
        self._process.wait()
        with self._lock:
            lost, self._waiting = list(self._waiting.values()), {}
        for request in lost:
            _fail(request, _ended(self._process))

    def _settle(self, answer: dict[str, Any]) -> None:
        if "progress" in answer:
            self._tell(answer)
            return
        with self._lock:
            request = self._waiting.pop(answer["id"], None)
        if request is None or not request.future.set_running_or_notify_cancel():
            return
        if "problems" in answer:
            request.future.set_exception(ProblemError(*(Problem(**fields) for fields in answer["problems"])))
        elif "cancelled" in answer:
            request.future.set_exception(ProblemError(CANCELLED))
        else:
            request.future.set_result(answer["result"])

    def _tell(self, word: dict[str, Any]) -> None:
        with self._lock:
            request = self._waiting.get(word["id"])
        if request is not None and request.on_progress is not None and not request.cancelled:
            request.on_progress(word["progress"])


CANCELLED = Problem("helper.cancelled", "The work was cancelled.", "Ask for it again.")


def _fail(request: _Request, error: ProblemError) -> None:
    if request.future.set_running_or_notify_cancel():
        request.future.set_exception(error)


def _spawn(log_file: Path) -> subprocess.Popen[bytes]:
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "true"}
    with open(log_file, "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.inspection"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def _ended(process: subprocess.Popen[bytes]) -> ProblemError:
    return ProblemError(
        Problem(
            "helper.ended",
            f"The inspection helper ended (exit code {process.poll()}) before it answered.",
            "Try again; if it ends again, look at inspection.log in the cache folder that `ftwizard doctor` names.",
        )
    )
