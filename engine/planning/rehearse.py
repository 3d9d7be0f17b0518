"""Asks for rehearsals: starts the process, keeps what it found, never waits for what nobody wants. Light."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.planning.plan import Plan
from engine.planning.rehearsal import RehearsalResult
from engine.recipe.problems import Problem, ProblemError
from engine.runs.disk import disk_problem, private_folder, write_atomically
from engine.runs.references import weights_bytes
from engine.text import clean_line

FOLDER = "rehearsals"
LOG_NAME = "rehearsal.log"
COMMAND = [sys.executable, "-P", "-m", "engine.rehearsal"]
CPU_LIMIT_S = 120
"""Processor time after which a rehearsal is given up; the slowest of the catalogue takes 12 s, imports included."""
TIMEOUT_S = 900.0
"""Wall time, for a rehearsal that hangs without computing: on a busy machine seconds of computing take minutes."""
REHEARSAL_VERSION = 4
"""Raised when a rehearsal of the same plan would give other numbers."""
PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate")
MAX_KEPT = 200
_MAX_FILE_BYTES = 256 * 1024
_STEP_LIMIT = 2
_MORE = f"The estimate is the formula's. More is in {LOG_NAME} in the cache folder."
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    # It must not take a context on the GPU whose memory it predicts.
    "CUDA_VISIBLE_DEVICES": "",
}


def rehearsal_key(plan: Plan) -> str:
    """Return the hash of everything that a rehearsal of a plan depends on."""
    recipe, data = plan.recipe, plan.data
    facts = {
        "version": REHEARSAL_VERSION,
        "packages": {name: _version(name) for name in PACKAGES},
        "device": plan.device.model_dump(include={"kind", "name"}),
        "model": _model_facts(plan),
        "objective": recipe.objective,
        "loss": recipe.preference.loss,
        "format": recipe.data.format or data.format,
        "method": recipe.method.model_dump(),
        "training": recipe.training.model_dump(
            include={
                *("max_length", "optimizer", "precision", "activation_checkpointing", "packing", "attention"),
                *("label_smoothing", "neftune_alpha"),
            }
        ),
        "evaluation": recipe.evaluation.model_dump(include={"max_rows", "generate_rows", "max_new_tokens", "few_shot"}),
        "merge": recipe.delivery.merge,
        "judge": weights_bytes(recipe.preference.judge) if recipe.preference.judge else 0,
        "micro_batch": plan.steps.micro_batch,
        "accumulation": min(plan.steps.accumulation, _STEP_LIMIT),
        "lengths": data.lengths.model_dump() if data.lengths else None,
        "answers": data.answer_lengths.longest if data.answer_lengths else None,
        "held_out": data.num_held_out,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _model_facts(plan: Plan) -> Any:
    facts = plan.model.model_dump(exclude={"base", "folder", "revision", "findings", "download_folder"})
    file = Path(plan.model.folder) / "config.json" if plan.model.folder else None
    try:
        content = file.read_bytes() if file is not None else b""
    except OSError:
        content = b""
    return [facts, hashlib.sha256(content).hexdigest()]


class Rehearsals:
    """Rehearses plans in a process of its own, one at a time; safe to use from several threads.

    A newer request replaces an older one: its process is killed and whoever waited for it gets `ProblemError`
    with code `rehearsal.replaced`. The same plan asked for twice is rehearsed once.
    """

    def __init__(self, cache: Path, *, timeout_s: float = TIMEOUT_S, cpu_limit_s: int = CPU_LIMIT_S) -> None:
        """Start nothing yet.

        Args:
            cache: Cache folder of the user.
            timeout_s: Wall time after which a rehearsal is given up.
            cpu_limit_s: Processor time after which it is given up.
        """
        self._cache = cache
        self._limits = _Limits(timeout_s, cpu_limit_s)
        self._lock = threading.Lock()
        self._current: _Rehearsal | None = None

    def cached(self, plan: Plan) -> RehearsalResult | None:
        """Return what an earlier rehearsal of the same plan found; None when there is none or it is unreadable."""
        key = rehearsal_key(plan)
        try:
            with self._file(key).open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
            result = RehearsalResult.model_validate_json(content)
        except (OSError, ValidationError):
            return None
        return result if result.key == key else None

    async def of(self, plan: Plan) -> RehearsalResult:
        """Return what the run of a plan needs; the rehearsal ends when the last task that awaits it is cancelled.

        Raises:
            ProblemError: It could not be rehearsed, was replaced by a newer request, or took too long.
        """
        known = self.cached(plan)
        if known is not None:
            return known
        rehearsal = self._started(plan)
        try:
            return await asyncio.shield(asyncio.wrap_future(rehearsal.future))
        except asyncio.CancelledError:
            self._leave(rehearsal)
            raise

    def of_blocking(self, plan: Plan) -> RehearsalResult:
        """Do the same as `of` and wait."""
        known = self.cached(plan)
        return known if known is not None else self._started(plan).future.result()

    def close(self) -> None:
        """End a rehearsal under way."""
        with self._lock:
            current, self._current = self._current, None
        if current is not None:
            current.end("replaced")

    def _started(self, plan: Plan) -> "_Rehearsal":
        key = rehearsal_key(plan)
        with self._lock:
            before = self._current
            if before is not None and before.key == key and before.under_way:
                before.waiters += 1
                return before
            if before is not None:
                before.end("replaced")
            self._current = _Rehearsal(key, plan, self._cache, self._limits)
            return self._current

    def _leave(self, rehearsal: "_Rehearsal") -> None:
        """Wait for a rehearsal no longer; it ends when nobody else does."""
        with self._lock:
            rehearsal.waiters -= 1
            if not rehearsal.waiters:
                rehearsal.end("replaced")

    def _file(self, key: str) -> Path:
        return self._cache / FOLDER / f"{key}.json"


@dataclass(frozen=True, slots=True)
class _Limits:
    """How long a rehearsal may take, in seconds of wall and of processor time."""

    wall_s: float
    cpu_s: int


class _Rehearsal:
    """One process and the future of its answer.

    Attributes:
        waiters: Who wants the answer; guarded by the lock of `Rehearsals`.
    """

    def __init__(self, key: str, plan: Plan, cache: Path, limits: _Limits) -> None:
        self.key = key
        self.waiters = 1
        self.future: Future[RehearsalResult] = Future()
        self._cache = cache
        self._limits = limits
        self._why = ""
        self._process = _spawn(cache)
        facts = {"key": key, "plan": plan.model_dump(mode="json"), "cpu_limit_s": limits.cpu_s}
        request = json.dumps(facts) + "\n"
        threading.Thread(target=self._follow, args=(request,), name="rehearsal", daemon=True).start()

    @property
    def under_way(self) -> bool:
        """Return whether an answer is to be expected: it was not ended, and is not there yet."""
        return not self._why and not self.future.done()

    def end(self, why: str) -> None:
        """Kill the process; whoever waits gets a problem that says why."""
        if not self.future.done():
            self._why = self._why or why
            self._process.kill()

    def _follow(self, request: str) -> None:
        watch = threading.Timer(self._limits.wall_s, self.end, args=("timeout",))
        watch.daemon = True
        watch.start()
        try:
            line = self._ask(request.encode())
        finally:
            watch.cancel()
            self._process.kill()
            self._process.wait()
        try:
            result = self._read(line)
        except Exception as error:
            # Whatever went wrong belongs to whoever waits; in this thread it would leave them waiting for ever.
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def _ask(self, request: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # One that ended without reading may have said why before.
        with contextlib.suppress(OSError):
            # Its end would end the process, so that it stays open until the answer is there.
            self._process.stdin.write(request)
            self._process.stdin.flush()
        try:
            return self._process.stdout.readline()
        except OSError:
            return b""
        finally:
            self._process.stdout.close()
            _close_quietly(self._process)

    def _read(self, line: bytes) -> RehearsalResult:
        if not line.endswith(b"\n"):
            raise ProblemError(_ended(self._why, self._process.returncode, self._limits))
        try:
            answer = json.loads(line)
            if "problems" in answer:
                raise ProblemError(*(Problem(**fields) for fields in answer["problems"]))
            result = RehearsalResult.model_validate(answer["result"])
        except (ValueError, KeyError, TypeError) as error:
            raise ProblemError(_unreadable(error)) from error
        _keep(self._cache / FOLDER, result)
        return result


def _close_quietly(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.close()
    except OSError:
        # A process that is gone has nobody to flush to.
        return


def _spawn(cache: Path) -> subprocess.Popen[bytes]:
    try:
        private_folder(cache)
        with open(cache / LOG_NAME, "wb") as log:
            return subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,
            )
    except OSError as error:
        raise ProblemError(disk_problem(error, cache, "start a rehearsal")) from error


def _keep(folder: Path, result: RehearsalResult) -> None:
    """Write a result into the cache and forget the oldest; a cache that cannot be written only costs time."""
    try:
        private_folder(folder)
        write_atomically(folder / f"{result.key}.json", result.model_dump_json().encode())
        kept = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for file in kept[:-MAX_KEPT]:
            file.unlink(missing_ok=True)
    except (OSError, ProblemError):
        return


def _unreadable(error: Exception) -> Problem:
    why = f"{type(error).__name__}: {clean_line(error, max_chars=120)}"
    return Problem("rehearsal.unreadable", f"The rehearsal gave an answer that cannot be read ({why}).", _MORE)


def _ended(why: str, exit_code: int | None, limits: _Limits) -> Problem:
    if why == "replaced":
        return Problem("rehearsal.replaced", "A newer plan is rehearsed instead of this one.", severity="note")
    if why == "timeout":
        return Problem("rehearsal.timeout", f"The rehearsal gave no answer in {limits.wall_s:.0f} s.", _MORE)
    if exit_code == -signal.SIGXCPU:
        message = f"The rehearsal gave no answer in {limits.cpu_s} s of processor time."
        return Problem("rehearsal.timeout", message, _MORE)
    return Problem("rehearsal.ended", f"The rehearsal ended without an answer (exit code {exit_code}).", _MORE)
