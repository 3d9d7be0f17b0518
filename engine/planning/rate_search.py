"""Looks for a learning rate: a short sweep in a process of its own, whose end leaves nothing behind. Light."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.planning.plan import Plan
from engine.planning.rate_curve import RatePoint
from engine.recipe.problems import Problem, ProblemError
from engine.runs.disk import disk_problem, private_folder
from engine.text import clean_line

COMMAND = [sys.executable, "-P", "-m", "engine.training.rate_process"]
LOG_NAME = "find-rate.log"


def refuse_impossible(plan: Plan) -> None:
    """Raise why no sweep can be made of a plan.

    Raises:
        ProblemError: The plan is blocked, its weights are not here, or its loss says nothing of the rate.
    """
    errors = [finding for finding in plan.findings if finding.severity == "error"]
    if errors:
        raise ProblemError(*(Problem(**finding.model_dump()) for finding in errors))
    if plan.recipe.goal.signal == "prompts":
        message = "The loss of reinforcement learning hovers around 0 at any rate: a sweep over rates says nothing."
        raise ProblemError(
            Problem("rate.no_loss", message, "Keep the derived rate; watch reward and KL of a short run.")
        )
    if plan.model.folder is None or plan.model.download_bytes:
        message = f"The weights of {clean_line(plan.model.base)} are not on this machine."
        raise ProblemError(Problem("rate.not_here", message, "Start a run: it downloads them. Then look for a rate."))


class RateSearch:
    """One sweep.

    Attributes:
        usual: The plan's own rate, in the middle of the sweep.
    """

    def __init__(self, plan: Plan, cache: Path) -> None:
        """Start the process.

        Args:
            plan: Its recipe has every value filled in.
            cache: Cache folder of this person; the process writes its log there.

        Raises:
            ProblemError: Nothing can be swept, or the process cannot be started.
        """
        refuse_impossible(plan)
        self.usual = plan.recipe.training.learning_rate or 0.0
        self._cancelled = False
        # Whoever asked removes it: the process may be killed at any time.
        self._scratch = tempfile.mkdtemp(prefix="ftwizard-rate-")
        try:
            self._process = _spawn(cache)
        except ProblemError:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        self._log = cache / LOG_NAME
        request = json.dumps({"plan": plan.model_dump(mode="json"), "scratch": self._scratch}) + "\n"
        # The plan is larger than a pipe holds, and the process reads it when it has started.
        threading.Thread(target=self._send, args=(request.encode(),), daemon=True).start()

    def _send(self, request: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
        except OSError:
            # A process that is gone is told of by the end of its answers.
            return

    def points(self) -> Iterator[RatePoint]:
        """Yield the steps of the sweep as they are taken; the last one ends it.

        Raises:
            ProblemError: The sweep failed, or was cancelled.
        """
        assert self._process.stdout is not None
        whole = False
        try:
            for line in self._process.stdout:
                answer: dict[str, Any] = json.loads(line)
                if "problems" in answer:
                    raise ProblemError(*(Problem(**fields) for fields in answer["problems"]))
                if "done" in answer:
                    whole = True
                    return
                yield RatePoint(float(answer["rate"]), float(answer["loss"]))
        except (ValueError, KeyError, TypeError) as error:
            why = f"{type(error).__name__}: {clean_line(error, max_chars=120)}"
            raise ProblemError(
                Problem("rate.unreadable", f"The sweep gave an answer that cannot be read ({why}).")
            ) from None
        finally:
            self.close()
        if not whole:
            raise ProblemError(self._ended())

    def cancel(self) -> None:
        """End the sweep now; nothing of it stays."""
        self._cancelled = True
        self.close()

    def close(self) -> None:
        """End the process if it still runs, and remove what it wrote."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _ended(self) -> Problem:
        if self._cancelled:
            return Problem("rate.cancelled", "The search for a learning rate was cancelled.", severity="note")
        code = self._process.wait()
        fix = f"More is in {LOG_NAME} in the cache folder."
        if code == -signal.SIGKILL:
            return Problem("rate.ended", "The sweep was ended by the system, most likely for want of memory.", fix)
        return Problem("rate.ended", f"The sweep ended without an answer (exit code {code}).", fix)


def _spawn(cache: Path) -> subprocess.Popen[bytes]:
    try:
        private_folder(cache)
        with open(cache / LOG_NAME, "wb") as log:
            return subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
                start_new_session=True,
            )
    except OSError as error:
        raise ProblemError(disk_problem(error, cache, "start a sweep")) from error
