"""Who holds memory on a GPU: pid, user, name, bytes."""

import ctypes
import os
import pwd
from pathlib import Path
from typing import Any

from engine.hardware.devices import GpuProcess
from engine.hardware.nvml import OLD_DRIVER, ask, number
from engine.hardware.readings import Unavailable
from engine.text import clean_line

MAX_PROCESSES = 1024
MAX_PROCESS_BYTES = 10 * 2**40
_HIDDEN = Unavailable("hidden by the driver")
_ELSEWHERE = Unavailable("the process is outside this container or gone")


def read_processes(nvml: Any, handle: Any, proc: Path = Path("/proc")) -> list[GpuProcess] | Unavailable:
    """Return the processes on a device, those that compute first; a desktop's come after them."""
    compute = _entries(nvml, handle, "Compute")
    if isinstance(compute, Unavailable):
        return compute
    graphics = _entries(nvml, handle, "Graphics")
    found = {entry.pid: _process(entry, "compute", proc) for entry in compute}
    for entry in graphics if not isinstance(graphics, Unavailable) else ():
        # A process that computes and draws stands in both lists with the same memory.
        found.setdefault(entry.pid, _process(entry, "graphics", proc))
    return list(found.values())


def _entries(nvml: Any, handle: Any, kind: str) -> list[Any] | Unavailable:
    name = f"nvmlDeviceGet{kind}RunningProcesses"
    entries = ask(nvml, lambda: _list(nvml, f"{name}_v3", nvml.c_nvmlProcessInfo_v3_t, handle))
    if entries == OLD_DRIVER:
        entries = ask(nvml, lambda: _list(nvml, f"{name}_v2", nvml.c_nvmlProcessInfo_v2_t, handle))
    return entries


def _list(nvml: Any, name: str, entry: Any, handle: Any) -> list[Any]:
    """Ask with room for `MAX_PROCESSES`.

    pynvml's own wrapper asks for the count and makes room for twice as many: a driver that answers nonsense would
    make it take tens of gigabytes.
    """
    try:
        function = getattr(nvml.nvmlLib, name)
    except AttributeError:
        raise nvml.NVMLError(nvml.NVML_ERROR_FUNCTION_NOT_FOUND) from None
    count = ctypes.c_uint(MAX_PROCESSES)
    room = (entry * MAX_PROCESSES)()
    code = function(handle, ctypes.byref(count), room)
    if code != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(code)
    if count.value > MAX_PROCESSES:
        raise nvml.NVMLError(nvml.NVML_ERROR_INSUFFICIENT_SIZE)
    return list(room[: count.value])


def _process(entry: Any, kind: str, proc: Path) -> GpuProcess:
    # All bits set is NVML's "not available"; containers and WSL answer so.
    used = entry.usedGpuMemory
    used_bytes = _HIDDEN if used == 2**64 - 1 else number(used, 0, MAX_PROCESS_BYTES, "memory size")
    return GpuProcess(entry.pid, _user(entry.pid, proc), _command(entry.pid, proc), used_bytes, kind)


def _user(pid: int, proc: Path) -> str | Unavailable:
    try:
        uid = os.stat(proc / str(pid)).st_uid
    except OSError:
        return _ELSEWHERE
    return user_name(uid)


def user_name(uid: int) -> str:
    """Return the name of a user, or `uid N` where the system knows none, as in many containers."""
    try:
        return clean_line(pwd.getpwuid(uid).pw_name, max_chars=32)
    except KeyError:
        return f"uid {uid}"


def _command(pid: int, proc: Path) -> str | Unavailable:
    try:
        name = (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _ELSEWHERE
    return clean_line(name.strip(), max_chars=32) or Unavailable("no name")
