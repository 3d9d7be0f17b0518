"""Start the detached worker of a run, from scratch or from one that was warmed up."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO

from engine.recipe.problems import Problem, ProblemError
from engine.runs import logind
from engine.runs.control import mark_attempt
from engine.runs.directory import RunDirectory
from engine.runs.disk import PRIVATE_FILE_MODE, disk_problem
from engine.runs.liveness import (
    ExitRecord,
    Owner,
    is_alive,
    last_log_lines,
    process_start_time,
    read_exit,
    read_owner,
    status,
)
from engine.runs.standby import ACKNOWLEDGE_VARIABLE, ACKNOWLEDGED
from engine.text import clean_line

WORKER_MODULE = "engine.worker"
START_DEADLINE_S = 60.0
HAND_OVER_DEADLINE_S = 30.0
_POLL_S = 0.02

# The worker gets what training libraries read and nothing else; other programs' secrets stay out of it.
_ALLOWED_NAMES = """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR HOSTNAME LD_LIBRARY_PATH LD_PRELOAD VIRTUAL_ENV
    PYTHONPATH PYTHONHASHSEED PYTHONPYCACHEPREFIX PYTHONDONTWRITEBYTECODE PYTHONWARNINGS PYTHONFAULTHANDLER
    HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE TOKENIZERS_PARALLELISM ATEN_CPU_CAPABILITY
"""
_ALLOWED_PREFIXES = """
    LC_ XDG_ FTWIZARD_ HF_ HUGGINGFACE_ HUGGING_FACE_ TRANSFORMERS_ DATASETS_ CUDA_ NVIDIA_ NVML_ NCCL_ CUBLAS_
    CUDNN_ TORCH PYTORCH_ TRITON_ BNB_ BITSANDBYTES_ OMP_ MKL_ KMP_ GOMP_ OPENBLAS_ NUMEXPR_ DNNL_ ONEDNN_ ROCR_ HIP_
    HSA_ MIOPEN_ CONDA_ SLURM_ MALLOC_
"""
_PATH_NAMES = """
    FTWIZARD_HOME HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_DATASETS_CACHE HF_ASSETS_CACHE HF_XET_CACHE
    HF_TOKEN_PATH TRANSFORMERS_CACHE TORCH_HOME TRITON_CACHE_DIR TMPDIR SSL_CERT_FILE SSL_CERT_DIR
    REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
"""
_PATH_LIST_NAMES = frozenset({"PATH", "PYTHONPATH", "LD_LIBRARY_PATH"})


def worker_environment(variables: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a worker: the allowed variables, paths made absolute, UTF-8 and unbuffered output.

    Args:
        variables: Variables to choose from; those of this process when None.
    """
    source = dict(os.environ) if variables is None else variables
    names, prefixes = frozenset(_ALLOWED_NAMES.split()), tuple(_ALLOWED_PREFIXES.split())
    allowed = {
        name: _from_here(name, text) for name, text in source.items() if name in names or name.startswith(prefixes)
    }
    return {**allowed, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def _from_here(name: str, text: str) -> str:
    """Return a variable as it reads from another folder: the worker stands in its run directory."""
    if name in _PATH_LIST_NAMES and text:
        return os.pathsep.join(map(_absolute, text.split(os.pathsep)))
    return _absolute(text) if name in _PATH_NAMES.split() and text else text


def _absolute(path: str) -> str:
    return path if path.startswith("~") else os.path.abspath(path)


@dataclass(slots=True)
class LaunchedWorker:
    """A worker that holds the lock of its run.

    Attributes:
        pid: Its process id.
        start_time: `liveness.process_start_time`, to tell it from a later process of the same id.
        from_standby: It had been warmed up.
        in_scope: It runs in a scope of the user's service manager and outlives a logout.
    """

    pid: int
    start_time: int
    from_standby: bool
    in_scope: bool


class Standby:
    """A worker that imports its libraries while the person answers the wizard, and waits for a run.

    Closing it, or the end of this process, ends it as long as it has no run.
    """

    def __init__(self, process: subprocess.Popen[bytes], acknowledge: int, in_scope: bool) -> None:
        self._process = process
        self._acknowledge: int | None = acknowledge
        self.in_scope = in_scope

    @property
    def pid(self) -> int:
        """Process id of the waiting worker."""
        return self._process.pid

    def is_waiting(self) -> bool:
        """Return whether it can still take a run."""
        return self._acknowledge is not None and self._process.poll() is None

    def hand_over(self, run: RunDirectory, *, deadline_s: float = HAND_OVER_DEADLINE_S) -> bool:
        """Give it the run and wait until it has detached from this process.

        Args:
            run: The run to carry.
            deadline_s: Seconds to wait; a worker that is later is ended.

        Returns:
            Whether it took the run. If not, it has ended and another may be started.
        """
        if not self.is_waiting() or self._process.stdin is None or self._acknowledge is None:
            self.close()
            return False
        line = json.dumps({"run": str(run.path.absolute())}).encode() + b"\n"
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
            taken = _await_acknowledgement(self._acknowledge, deadline_s)
        except OSError:
            taken = False
        if taken:
            self._forget_pipes()
            return True
        self.close()
        return False

    def close(self) -> None:
        """End the worker if it has no run; a worker that took one is not touched."""
        if self._acknowledge is None:
            return
        self._forget_pipes()
        if self._process.poll() is None:
            # It may be in the middle of an import that takes seconds; there is nothing to save.
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def _forget_pipes(self) -> None:
        acknowledge, self._acknowledge = self._acknowledge, None
        if acknowledge is not None:
            os.close(acknowledge)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def __enter__(self) -> "Standby":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _await_acknowledgement(descriptor: int, deadline_s: float) -> bool:
    answer = b""
    ends = time.monotonic() + deadline_s
    while answer != ACKNOWLEDGED:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, ends - time.monotonic()))
        chunk = os.read(descriptor, 64) if ready else b""
        if not chunk:
            return False
        answer += chunk
    return True


def start_standby(command: list[str] | None = None) -> Standby:
    """Start a worker that imports and waits.

    Args:
        command: Program instead of the worker's own; for tests.

    Raises:
        ProblemError: `worker.not_started`.
    """
    argv = command or [sys.executable, "-P", "-m", WORKER_MODULE, "--standby"]
    prefix = logind.scope_prefix()
    read_end, write_end = os.pipe()
    try:
        environment = {**worker_environment(), ACKNOWLEDGE_VARIABLE: str(write_end)}
        # What it says before it has a run is for nobody; a pipe or a terminal here would be its end.
        process = _start(
            prefix + argv, environment, stdin=subprocess.PIPE, output=subprocess.DEVNULL, keep=(write_end,)
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return Standby(process, read_end, bool(prefix))


def launch(run: RunDirectory, standby: Standby | None = None, *, command: list[str] | None = None) -> LaunchedWorker:
    """Start the worker of a run and return as soon as it holds the lock.

    Args:
        run: The run.
        standby: A warmed-up worker to use; another is started when it does not take the run.
        command: Program instead of the worker's own, given the run directory as its last argument; for tests.

    Raises:
        ProblemError: `run.locked` when the run has a worker, `worker.not_started` with the end of its log.
    """
    if is_alive(run):
        owner = read_owner(run)
        message = (
            f"Run {clean_line(run.folder_name)} is already carried by {owner.sentence() if owner else 'a worker'}."
        )
        fix = f"Follow it with `ftwizard attach {clean_line(run.reference)}`."
        raise ProblemError(Problem("run.locked", message, fix))
    _reap()
    before = read_owner(run), read_exit(run)
    if standby is not None and standby.hand_over(run):
        process, in_scope = standby._process, standby.in_scope
    else:
        process, in_scope = _start_fresh(run, command)
        standby = None
    _children.append(process)
    _await_lock(run, process, before)
    return LaunchedWorker(process.pid, process_start_time(process.pid) or 0, standby is not None, in_scope)


def resume(run: RunDirectory, standby: Standby | None = None, *, command: list[str] | None = None) -> LaunchedWorker:
    """Start another attempt of a run that stopped, failed or crashed.

    Raises:
        ProblemError: `run.alive` or `run.finished`, and as `launch`.
    """
    stands = status(run)
    name, reference = clean_line(run.folder_name), clean_line(run.reference)
    if stands.alive:
        fix = f"Watch it with `ftwizard attach {reference}`."
        raise ProblemError(Problem("run.alive", f"Run {name} is going (process {stands.pid}).", fix))
    if stands.state == "finished":
        fix = f"See it with `ftwizard show {reference}`."
        raise ProblemError(Problem("run.finished", f"Run {name} is finished.", fix))
    mark_attempt(run, "resume")
    return launch(run, standby, command=command)


def _start_fresh(run: RunDirectory, command: list[str] | None) -> tuple[subprocess.Popen[bytes], bool]:
    argv = [*(command or [sys.executable, "-P", "-m", WORKER_MODULE]), str(run.path.absolute())]
    prefix = logind.scope_prefix()
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        log = os.open(run.log_file, flags, PRIVATE_FILE_MODE)
    except OSError as error:
        raise ProblemError(disk_problem(error, run.log_file, "open the worker's log")) from error
    try:
        process = _start(prefix + argv, worker_environment(), stdin=subprocess.DEVNULL, output=log, cwd=str(run.path))
    finally:
        os.close(log)
    return process, bool(prefix)


def _start(
    argv: list[str],
    environment: dict[str, str],
    *,
    stdin: int | IO[bytes],
    output: int | IO[bytes],
    cwd: str | None = None,
    keep: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment,
            pass_fds=keep,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        message = f"The worker could not be started: {clean_line(argv[0])}: {clean_line(error.strerror)}."
        fix = "Check the installation with `ftwizard doctor`."
        raise ProblemError(Problem("worker.not_started", message, fix)) from error


def _await_lock(
    run: RunDirectory, process: subprocess.Popen[bytes], before: tuple[Owner | None, ExitRecord | None]
) -> None:
    """Wait until the process holds the lock of its run, or has already carried it to an end.

    Args:
        run: The run.
        process: Its new worker.
        before: Owner that the lock file named before, since an earlier attempt may have had the same process id, and
            the exit status of that attempt.
    """
    ends = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < ends:
        code = process.poll()
        owner, exit_record = read_owner(run), read_exit(run)
        if owner is not None and owner != before[0] and owner.pid == process.pid:
            return
        if code is not None and exit_record not in (None, before[1]):
            return
        if code is not None:
            raise ProblemError(_not_started(run, _how_ended(code)))
        time.sleep(_POLL_S)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
    raise ProblemError(_not_started(run, f"did not take the run within {START_DEADLINE_S:.0f} s"))


def _how_ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _not_started(run: RunDirectory, what: str) -> Problem:
    lines = last_log_lines(run, 5)
    said = f" Its last words: {' | '.join(lines)}" if lines else ""
    message = f"The worker of run {clean_line(run.folder_name)} {what} before it began.{said}"
    return Problem("worker.not_started", message, f"The whole log is {clean_line(run.log_file)}.")


# Workers that this process started and that may end before it: collected at the next launch, never waited for.
_children: list[subprocess.Popen[bytes]] = []


def _reap() -> None:
    _children[:] = [process for process in _children if process.poll() is None]
