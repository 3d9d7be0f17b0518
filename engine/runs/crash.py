"""Why a worker died without a word: what the kernel's out-of-memory killer says."""

import os
from pathlib import Path

_KERNEL_LOG = Path("/dev/kmsg")
_MAX_KERNEL_RECORDS = 20_000
_NEARLY_ALL = 0.8
"""Share of the host's memory in one process at which the system's killer is the likely end of it."""
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def memory_cgroup() -> Path | None:
    """Return the file that counts memory kills of this process's control group; None when there is none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        relative = path.lstrip("/")
        if controllers == "":
            candidate = _CGROUP_ROOT / relative / "memory.events"
        elif "memory" in controllers.split(","):
            candidate = _CGROUP_ROOT / "memory" / relative / "memory.oom_control"
        else:
            continue
        if candidate.is_file():
            return candidate
    return None


def count_memory_kills(counter: Path) -> int | None:
    """Return the kills that a control group's counter file has seen; None when it cannot be read."""
    try:
        fields = [line.split() for line in counter.read_text().splitlines()]
        return next(int(field[1]) for field in fields if field[0] == "oom_kill")
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def killed_for_memory(pid: int, counter: Path | None, kills_at_start: int | None) -> bool | None:
    """Return whether the host ran out of memory and killed the worker; None when nobody says.

    Args:
        pid: Process id of the dead worker.
        counter: Its `memory_cgroup`.
        kills_at_start: `count_memory_kills` when it started.
    """
    if _kernel_log_names(pid):
        return True
    if counter is None or kills_at_start is None:
        return None
    kills = count_memory_kills(counter)
    return None if kills is None else kills > kills_at_start


def held_nearly_all(resident_bytes: object, total_bytes: int | None) -> bool:
    """Return whether a worker's last known memory was so much of the host's that the system probably killed it.

    Args:
        resident_bytes: As the worker sampled it last; anything that is no number counts as unknown.
        total_bytes: RAM of the host, or the limit of its control group; None when unknown.
    """
    if not isinstance(resident_bytes, int | float) or not total_bytes:
        return False
    return resident_bytes >= _NEARLY_ALL * total_bytes


def _kernel_log_names(pid: int) -> bool:
    """Return whether the kernel log, where it may be read, names a process as killed for memory."""
    try:
        descriptor = os.open(_KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    wanted = f"Killed process {pid} ".encode()
    try:
        for _ in range(_MAX_KERNEL_RECORDS):
            try:
                record = os.read(descriptor, 8192)
            except BrokenPipeError:
                continue  # The record was overwritten while it was read.
            except OSError:
                return False
            if wanted in record:
                return True
    finally:
        os.close(descriptor)
    return False
