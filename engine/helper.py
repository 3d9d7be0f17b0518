"""Client of the inspection helper: a warm process that may import tokenizers, datasets and transformers. Light.

Requests and answers are JSON lines over two pipes. No pickle crosses them, library chatter on the helper's stdout goes
to a log file, and a helper that is busy with something nobody waits for any more is replaced, not waited for.
"""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from engine.runs.home import home_folders

_STOP_GRACE_S = 2.0


class InspectionHelper:
    """Starts the helper process on first need and talks to it; safe to use from several threads.

    A call that finds the process gone (killed, out of memory) raises `ProblemError` with code `helper.ended`; the next
    call starts a fresh one.
    """

    def __init__(self, *, log_file: Path | None = None) -> None:
        self._log_file = log_file
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def start(self) -> None:
        """Start the process now, so that its imports are done when the first question comes."""
        self._connected()

    async def call(self, name: str, **arguments: Any) -> Any:
        """Run `engine.inspection.FUNCTIONS[name]` in the helper and return its JSON result.

        Cancelling the awaiting task ends the helper process, because its work cannot be interrupted otherwise.

        Raises:
            ProblemError: What the function raised, or that the helper ended.
        """
        future = self.submit(name, **arguments)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self.close()
            raise

    def call_blocking(self, name: str, **arguments: Any) -> Any:
        """Do the same as `call` and wait for the result."""
        return self.submit(name, **arguments).result()

    def submit(self, name: str, **arguments: Any) -> "Future[Any]":
        """Send a request and return the future of its result."""
        return self._connected().send(name, arguments)

    def close(self) -> None:
        """End the helper; whoever still waits gets `ProblemError`."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()

    def _connected(self) -> "_Connection":
        with self._lock:
            if self._connection is None or not self._connection.alive:
                log_file = self._log_file or home_folders().cache / "inspection.log"
                self._connection = _Connection(log_file)
            return self._connection


class _Connection:
    """One helper process and the futures that wait for it."""

    def __init__(self, log_file: Path) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._ids = itertools.count(1)
        self._process = _spawn(log_file)
        threading.Thread(target=self._read, name="inspection-answers", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, name: str, arguments: dict[str, Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        assert self._process.stdin is not None
        with self._lock:
            request_id = next(self._ids)
            self._waiting[request_id] = future
            line = json.dumps({"id": request_id, "name": name, "arguments": arguments}) + "\n"
            try:
                self._process.stdin.write(line.encode())
                self._process.stdin.flush()
            except OSError:
                # The reader may have failed this future already; whoever removes it from the table settles it.
                lost = self._waiting.pop(request_id, None)
                if lost is not None:
                    lost.set_exception(_ended(self._process))
        return future

    def end(self) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_GRACE_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Half a line is the last word of a process that was killed.
            if line.endswith(b"\n"):
                self._settle(json.loads(line))
        self._process.wait()
        with self._lock:
            lost, self._waiting = list(self._waiting.values()), {}
        for future in lost:
            if future.set_running_or_notify_cancel():
                future.set_exception(_ended(self._process))

    def _settle(self, answer: dict[str, Any]) -> None:
        with self._lock:
            future = self._waiting.pop(answer["id"], None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if "problems" in answer:
            future.set_exception(ProblemError(*(Problem(**fields) for fields in answer["problems"])))
        else:
            future.set_result(answer["result"])


def _spawn(log_file: Path) -> subprocess.Popen[bytes]:
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
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
