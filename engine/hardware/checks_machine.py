"""Memory, processor and disks of the machine, and what they are too small for."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from engine.hardware.checks import Check, Status
from engine.hardware.devices import Hardware, Host
from engine.hardware.host import existing_parent, read_disk
from engine.hardware.readings import Unavailable, known, shown
from engine.runs.home import HomeFolders
from engine.text import clean_line, human_bytes

GIB = 2**30
LITTLE_DISK_BYTES = 10 * GIB
NO_DISK_BYTES = GIB
LITTLE_MEMORY_BYTES = 2 * GIB
LITTLE_SHARED_BYTES = 64 * 2**20
CONTAINER_SHARED_BYTES = GIB
"""Docker gives 64 MiB, which data loaders with workers and NCCL between GPUs run out of."""
_MACHINE: Literal["Machine"] = "Machine"
_FOLDERS: Literal["Folders"] = "Folders"


def machine_checks(hardware: Hardware) -> Iterator[Check]:
    """Yield the checks of processor and memory."""
    host = hardware.host
    yield Check("system", "ok", _system(host), group=_MACHINE)
    yield _memory(host)
    yield Check("swap", "ok", _swap(host), group=_MACHINE)
    yield _shared_memory(host)


def _system(host: Host) -> str:
    words = [f"{shown(host.cpu_name)}, {host.cores} core{'s' if host.cores > 1 else ''} for us"]
    if host.numa_nodes is not None and host.numa_nodes > 1:
        words.append(f"{host.numa_nodes} NUMA nodes")
    flags = ", ".join(sorted(host.cpu_flags))
    words += filter(None, [flags, host.board, f"in a container ({host.container})" if host.container else ""])
    if host.wsl:
        words.append("Linux inside Windows (WSL)")
    return ", ".join(words)


def _memory(host: Host) -> Check:
    value = f"{shown(host.ram_available_bytes, human_bytes)} free of {shown(host.ram_total_bytes, human_bytes)}"
    if host.ram_limited_by != "machine":
        value += f", limited by the {host.ram_limited_by}"
    available = known(host.ram_available_bytes)
    if available is not None and available < LITTLE_MEMORY_BYTES:
        fix = "Close other programs; a worker alone takes more than half a GiB."
        if host.ram_limited_by != "machine":
            fix += " Or start the container with more memory."
        return Check("memory", "warning", value, fix, _MACHINE)
    return Check("memory", "ok", value, group=_MACHINE)


def _swap(host: Host) -> str:
    if host.swap_total_bytes == 0:
        return "none"
    return f"{shown(host.swap_free_bytes, human_bytes)} free of {shown(host.swap_total_bytes, human_bytes)}"


def _shared_memory(host: Host) -> Check:
    name = "shared memory"
    total = host.shared_total_bytes
    if isinstance(total, Unavailable):
        return Check(name, "warning", f"/dev/shm: {total}", "Mount a tmpfs at /dev/shm.", _MACHINE)
    value = f"{shown(host.shared_free_bytes, human_bytes)} free of {human_bytes(total)} in /dev/shm"
    if host.container and total < CONTAINER_SHARED_BYTES:
        fix = "Start the container with --shm-size=1g or more, or with --ipc=host."
        return Check(name, "warning", value, fix, _MACHINE)
    if total < LITTLE_SHARED_BYTES:
        return Check(name, "warning", value, "Run: sudo mount -o remount,size=1G /dev/shm", _MACHINE)
    return Check(name, "ok", value, group=_MACHINE)


def folder_checks(home: HomeFolders, hardware: Hardware) -> Iterator[Check]:
    """Yield the checks of the folders that runs are written to, and of others whose disk was measured."""
    yield _folder("runs folder", home.runs, hardware, "Set FTWIZARD_HOME to a folder that you can write to.")
    yield _folder("cache folder", home.cache, hardware, "Set FTWIZARD_HOME to a folder that you can write to.")
    others = [disk.path for disk in hardware.disks if disk.path not in (home.runs, home.cache)]
    for number, path in enumerate(others, start=1):
        name = "downloads" if len(others) == 1 else f"downloads {number}"
        yield _folder(name, path, hardware, "Set HF_HOME to a folder that you can write to.")


def _folder(name: str, folder: Path, hardware: Hardware, fix: str) -> Check:
    shown_folder = clean_line(folder, max_chars=120)
    if not _writable(folder):
        return Check(name, "error", f"{shown_folder} cannot be written", fix, _FOLDERS)
    disk = hardware.disk_for(folder) or read_disk(folder)
    if isinstance(disk.free_bytes, Unavailable):
        return Check(name, "warning", f"{shown_folder}: {disk.free_bytes}", "Look at the disk: df -h", _FOLDERS)
    value = f"{shown_folder}, {human_bytes(disk.free_bytes)} free of {shown(disk.total_bytes, human_bytes)}"
    if disk.free_bytes < LITTLE_DISK_BYTES:
        status: Status = "error" if disk.free_bytes < NO_DISK_BYTES else "warning"
        more = fix.replace("a folder that you can write to", "a folder on a larger disk")
        return Check(name, status, value, f"Free some space. Or: {more}", _FOLDERS)
    return Check(name, "ok", value, group=_FOLDERS)


def _writable(folder: Path) -> bool:
    parent = existing_parent(folder)
    return parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
