"""Whether a worker lives: it holds the lock of its run. Nothing else says so, least of all the log.

The name in the lock file alone says nothing: a copied run directory brings it along. A worker that starts over in a
fresh program (after a lack of memory) keeps the lock; one that gives its run up empties the file.
"""

import fcntl
import json
import os
import select
import signal
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from engine.runs import crash
from engine.runs.directory import RunDirectory
from engine.runs.disk import PRIVATE_FILE_MODE, disk_problem, write_all, write_atomically
from engine.text import clean, clean_line, human_bytes

_ACQUIRE_TRIES = 25
_ACQUIRE_PAUSE_S = 0.02
_LOG_TAIL_BYTES = 16 * 1024
LAST_LOG_LINES = 20


# --- processes ------------------------------------------------------------------------------------------------------


def process_start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (field 22 of proc_pid_stat(5)); None when it is gone.

    A process that has ended and waits to be collected counts as gone.
    """
    try:
        # The command name may hold spaces and parentheses; the fields begin after the last one.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds, or last held, the lock of a run.

    Attributes:
        start_time: `process_start_time`; with the boot id it tells a process from a later one of the same pid.
        pid_namespace: Process ids mean nothing outside it (containers that share a folder).
        memory_counter: File that counts memory kills; empty without one.
        memory_kills: Its count when the lock was taken.
    """

    pid: int
    start_time: int
    boot_id: str
    host: str
    pid_namespace: str = ""
    time: float = 0.0
    memory_counter: str = ""
    memory_kills: int | None = None

    @classmethod
    def current(cls) -> "Owner":
        """Return this process."""
        pid = os.getpid()
        counter = crash.memory_cgroup()
        return cls(
            pid=pid,
            start_time=process_start_time(pid) or 0,
            boot_id=_read_boot_id(),
            host=socket.gethostname(),
            pid_namespace=_pid_namespace(),
            time=time.time(),
            memory_counter=str(counter or ""),
            memory_kills=crash.count_memory_kills(counter) if counter else None,
        )

    def is_visible(self) -> bool:
        """Return whether this process could see the owner if it lived."""
        return self.host == socket.gethostname() and self.pid_namespace == _pid_namespace()

    def is_running(self) -> bool:
        """Return whether the very process lives; only meaningful when it is visible."""
        return self.boot_id == _read_boot_id() and process_start_time(self.pid) == self.start_time

    def sentence(self) -> str:
        """Return who it is, in words."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.time))
        return f"process {self.pid} on {clean_line(self.host, max_chars=80)} since {since}"


_OWNER_TYPES: dict[str, type | tuple[type, ...]] = {
    "pid": int,
    "start_time": int,
    "boot_id": str,
    "host": str,
    "pid_namespace": str,
    "time": (int, float),
    "memory_counter": str,
    "memory_kills": (int, type(None)),
}
_LATEST_TIME = 2.0**40


def read_owner(run: RunDirectory) -> Owner | None:
    """Return the last owner that the lock file names; None when there is none, or what is there is no name."""
    record = _read_record(run.lock_file)
    if record is None:
        return None
    known = {name: record[name] for name in _OWNER_TYPES if name in record}
    if not all(isinstance(value, _OWNER_TYPES[name]) for name, value in known.items()):
        return None
    try:
        owner = Owner(**known)
    except TypeError:
        return None
    return owner if owner.pid > 1 and 0 <= owner.time < _LATEST_TIME else None


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


# --- the lock -------------------------------------------------------------------------------------------------------


class Lock:
    """The worker's hold on its run; it ends with the process, however that ends."""

    def __init__(self, run: RunDirectory, descriptor: int) -> None:
        self.run = run
        self._descriptor: int | None = descriptor
        # A forked child (a data loader's worker) would keep the lock of a killed worker alive.
        os.register_at_fork(after_in_child=self._forget)

    def release(self) -> None:
        """Give the run free, at once and for every process that inherited the descriptor."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._forget()

    def _forget(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def keep_through_exec(self) -> int:
        """Let the lock outlive `os.execv` and return the descriptor that the next program passes to `adopt`.

        The process stays the same, so a worker that replaces itself never looks dead in between.
        """
        if self._descriptor is None:
            raise ValueError("the lock was released")
        os.set_inheritable(self._descriptor, True)
        return self._descriptor

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def acquire(run: RunDirectory) -> Lock:
    """Take the lock of a run for this process, and forget the exit status of an earlier attempt.

    Raises:
        ProblemError: `run.locked`, naming the owner, or a disk problem.
    """
    try:
        descriptor = os.open(run.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)
    except OSError as error:
        raise ProblemError(disk_problem(error, run.lock_file, "open the lock of the run")) from error
    try:
        if not _take(descriptor):
            raise ProblemError(_locked_problem(run))
        os.ftruncate(descriptor, 0)
        write_all(descriptor, json.dumps(asdict(Owner.current())).encode() + b"\n")
        run.exit_file.unlink(missing_ok=True)
    except OSError as error:
        os.close(descriptor)
        raise ProblemError(disk_problem(error, run.lock_file, "take the lock of the run")) from error
    except ProblemError:
        os.close(descriptor)
        raise
    return Lock(run, descriptor)


def adopt(run: RunDirectory, descriptor: int) -> Lock:
    """Return the lock that this process held under its former program (`Lock.keep_through_exec`)."""
    os.set_inheritable(descriptor, False)
    return Lock(run, descriptor)


def _take(descriptor: int) -> bool:
    """Take the lock; a viewer that looks at it holds it for microseconds, so one refusal is none yet."""
    for _ in range(_ACQUIRE_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_ACQUIRE_PAUSE_S)
        else:
            return True
    return False


def _locked_problem(run: RunDirectory) -> Problem:
    owner = read_owner(run)
    name, reference = clean_line(run.folder_name), clean_line(run.reference)
    who = owner.sentence() if owner else "another process"
    if owner and owner.is_visible() and not owner.is_running():
        who = f"a child of the dead worker ({who})"
    fix = f"Follow it with `ftwizard attach {reference}`, or stop it with `ftwizard stop {reference}`."
    return Problem("run.locked", f"Run {name} is already carried by {who}.", fix)


def _is_locked(run: RunDirectory) -> bool:
    try:
        descriptor = os.open(run.lock_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ProblemError(disk_problem(error, run.lock_file, "look at the lock of the run")) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_alive(run: RunDirectory) -> bool:
    """Return whether a worker carries the run; a killed worker's surviving children do not count."""
    for _ in range(5):
        if not _is_locked(run):
            return False
        owner = read_owner(run)
        if owner is not None and (owner.is_running() or not owner.is_visible()):
            return True
        # Taken this moment: the new owner has not written its name yet.
        time.sleep(0.01)
    return read_owner(run) is None


# --- the exit status ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a worker ended, by its own word.

    Attributes:
        state: `finished`, `stopped` or `failed`.
        exit_code: As in docs/architecture.md.
        reason: One sentence; empty when there is nothing to add.
        time: Unix seconds.
    """

    state: str
    exit_code: int
    reason: str = ""
    time: float = 0.0


def write_exit(run: RunDirectory, state: str, exit_code: int, reason: str = "") -> None:
    """Write the exit status; the worker's last act while it holds the lock.

    Raises:
        OSError: It could not be written; the run will show as crashed.
    """
    record = ExitRecord(state, exit_code, reason, time.time())
    write_atomically(run.exit_file, json.dumps(asdict(record)).encode() + b"\n")


def read_exit(run: RunDirectory) -> ExitRecord | None:
    """Return the exit status; None when the worker has not written one, or it cannot be read."""
    record = _read_record(run.exit_file)
    if record is None:
        return None
    state, exit_code = record.get("state"), record.get("exit_code")
    if state not in ("finished", "stopped", "failed") or not isinstance(exit_code, int):
        return None
    moment = record.get("time")
    return ExitRecord(state, exit_code, str(record.get("reason") or ""), moment if isinstance(moment, float) else 0.0)


# --- the state ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands, derived from its lock, exit status and log.

    Attributes:
        state: A state of docs/architecture.md, or `crashed`: a free lock and no exit status after a start.
        alive: A worker holds the lock.
        pid: Its process id while alive, else None.
        exit_code: From the exit status; None while alive or after a crash.
        reason: Why it ended, as far as anyone says.
        last_log_lines: End of `worker.log`, cleaned; only of runs that crashed or failed.
    """

    state: str
    alive: bool
    pid: int | None = None
    exit_code: int | None = None
    reason: str = ""
    last_log_lines: tuple[str, ...] = ()

    @property
    def resumable(self) -> bool:
        """Whether `resume` makes sense: nobody carries the run and it is not finished."""
        return not self.alive and self.state != "finished"


def derive_state(logged_state: str, attempts: int, alive: bool, exit_record: ExitRecord | None) -> str:
    """Return the state of a run.

    Args:
        logged_state: Newest state in the log.
        attempts: `worker.started` events in the log.
        alive: A worker holds the lock.
        exit_record: What the last worker wrote at its end.
    """
    if alive:
        # The log still ends with the earlier attempt until the new worker says more.
        return "preparing" if logged_state in ("finished", "stopped", "failed") else logged_state
    if exit_record is not None:
        return exit_record.state
    return "crashed" if attempts else "created"


def look_for_end(run: RunDirectory) -> tuple[bool, ExitRecord | None]:
    """Return whether a worker carries the run, and the exit status if none does.

    Raises:
        ProblemError: The lock cannot be looked at.
    """
    if is_alive(run):
        return True, None
    exit_record = read_exit(run)
    # A worker that took the run between the two looks has removed the status of the attempt before it.
    if exit_record is None and is_alive(run):
        return True, None
    return False, exit_record


def status(run: RunDirectory) -> RunStatus:
    """Return how a run stands.

    Raises:
        ProblemError: The lock or the log cannot be read.
    """
    from engine.runs.picture import read_head

    # What shows that there was a start is read before the lock: a worker that takes the run meanwhile did not crash.
    owner = read_owner(run)
    head = read_head(run)
    alive, exit_record = look_for_end(run)
    # A worker that died before its first event leaves a name in the lock file.
    attempts = max(int(head.get("attempts") or 0), int(owner is not None))
    state = derive_state(str(head.get("state") or "created"), attempts, alive, exit_record)
    if alive:
        owner = read_owner(run)
        return RunStatus(state, True, owner.pid if owner else None)
    if state == "crashed":
        return RunStatus(state, False, reason=_crash_reason(run, owner), last_log_lines=last_log_lines(run))
    lines = last_log_lines(run) if state == "failed" else ()
    reason = clean_line(exit_record.reason) if exit_record else ""
    return RunStatus(state, False, None, exit_record.exit_code if exit_record else None, reason, lines)


def _crash_reason(run: RunDirectory, owner: Owner | None) -> str:
    killed: bool | None = None
    if owner is not None and owner.host == socket.gethostname():
        if owner.boot_id != _read_boot_id():
            return "The machine was restarted while the run was going."
        counter = Path(owner.memory_counter) if owner.memory_counter else None
        killed = crash.killed_for_memory(owner.pid, counter, owner.memory_kills)
        if killed:
            return "The machine ran out of host memory (not GPU memory) and the system killed the worker."
    unknown = "The worker ended without an exit status: it was killed or the machine stopped."
    # Nobody says that it was memory; what the worker sampled last may make it likely.
    return f"{unknown} {likely}" if killed is None and (likely := _likely_cause(run)) else unknown


def _likely_cause(run: RunDirectory) -> str:
    # Late, because hardly any reader of a run finds it crashed.
    from engine.hardware.host import read_host
    from engine.hardware.readings import known
    from engine.runs.picture import open_picture

    resident, total = open_picture(run)[0].latest.get("rss_bytes"), known(read_host().ram_total_bytes)
    if not crash.held_nearly_all(resident, total):
        return ""
    return f"It held {human_bytes(resident)} of {human_bytes(total)} of host memory last: memory is the likely cause."


def last_log_lines(run: RunDirectory, count: int = LAST_LOG_LINES) -> tuple[str, ...]:
    """Return the end of the worker's log, cleaned for a terminal; empty without a log."""
    try:
        with run.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _LOG_TAIL_BYTES))
            tail = log.read(_LOG_TAIL_BYTES)
    except OSError:
        return ()
    # A progress bar rewrites its line with carriage returns; the last state is what counts.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in tail.decode("utf-8", "replace").split("\n")]
    return tuple(clean(line, max_chars=500) for line in lines if line.strip())[-count:]


# --- ending a worker ------------------------------------------------------------------------------------------------


def terminate(run: RunDirectory, signal_number: int = signal.SIGTERM, *, wait_s: float = 30.0) -> bool:
    """Send a signal to the worker of a run and wait for its end.

    SIGTERM saves and stops; SIGKILL also ends the worker's children.

    Args:
        run: The run.
        signal_number: Signal to send.
        wait_s: How long to wait, in seconds.

    Returns:
        Whether the process has verifiably ended.

    Raises:
        ProblemError: `run.not_alive`, `run.elsewhere` or `run.not_permitted`; no signal was sent then.
    """
    owner = read_owner(run)
    if owner is None or not is_alive(run):
        problem = Problem("run.not_alive", f"No worker carries run {clean_line(run.folder_name)}.")
        raise ProblemError(problem)
    if not owner.is_visible():
        message = f"Run {clean_line(run.folder_name)} is carried by {owner.sentence()}, which is not here."
        raise ProblemError(Problem("run.elsewhere", message, "Send the signal there, or use `ftwizard stop`."))
    try:
        # The descriptor pins the process: whoever gets its pid later is not hit.
        process = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return True
    try:
        if not owner.is_running():
            return True
        _send(owner.pid, process, signal_number)
        ended, _, _ = select.select([process], [], [], wait_s)
        return bool(ended)
    except ProcessLookupError:
        # It ended between the look and the signal.
        return True
    except PermissionError as error:
        message = f"Run {clean_line(run.folder_name)} belongs to another user: {owner.sentence()}."
        raise ProblemError(Problem("run.not_permitted", message, "Ask its owner to stop it.")) from error
    finally:
        os.close(process)


def _send(pid: int, process: int, signal_number: int) -> None:
    # A worker leads its own group; killing the group leaves no data loader behind.
    if signal_number == signal.SIGKILL and os.getpgid(pid) == pid != os.getpgrp():
        os.killpg(pid, signal_number)
    else:
        signal.pidfd_send_signal(process, signal_number)
