"""Memory, cores and disks that this process may use: `/proc`, control groups (v1 and v2), `statvfs`."""

import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.hardware.bounded import BoundedCaller
from engine.hardware.devices import Disk, Host
from engine.hardware.readings import Unavailable
from engine.text import clean_line

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
SHARED = Path("/dev/shm")
ROOT = Path("/")
# v1 writes "no limit" as the largest page-aligned 63-bit number; nobody sets a limit above this.
_NO_LIMIT = 2**60
FORMAT_FLAGS = frozenset({"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "bf16"})


def read_host(proc: Path = PROC, cgroup: Path = CGROUP, root: Path = ROOT) -> Host:
    """Return memory and processor of the machine, control group limits applied.

    Args:
        proc: Where `/proc` is mounted.
        cgroup: Where the control groups are mounted.
        root: Root of the file system, for what tells containers and boards apart.
    """
    meminfo = _meminfo(proc)
    total, available = meminfo.get("MemTotal"), meminfo.get("MemAvailable")
    limited_by = "machine"
    for limit, used in _memory_limits(proc, cgroup):
        room = max(0, limit - used)
        if total is not None and limit < total:
            total, limited_by = limit, "control group"
        if available is not None and room < available:
            available, limited_by = room, "control group"
    name, flags = _processor(proc)
    shared_total, shared_free = shared_memory(root / "dev/shm")
    unreadable = Unavailable(f"{proc / 'meminfo'} does not say")
    return Host(
        ram_total_bytes=unreadable if total is None else total,
        ram_available_bytes=unreadable if available is None else available,
        swap_free_bytes=meminfo.get("SwapFree", unreadable),
        cores=_cores(proc, cgroup),
        cpu_name=name,
        cpu_flags=flags,
        ram_limited_by=limited_by,
        swap_total_bytes=meminfo.get("SwapTotal", unreadable),
        shared_total_bytes=shared_total,
        shared_free_bytes=shared_free,
        numa_nodes=_numa_nodes(root / "sys/devices/system/node"),
        container=_container(proc, root),
        wsl="microsoft" in _text(proc / "sys/kernel/osrelease").lower(),
        board=clean_line(_text(proc / "device-tree/model").strip("\0 \n"), max_chars=60),
    )


def shared_memory(folder: Path = SHARED) -> tuple[int | Unavailable, int | Unavailable]:
    """Return size and free bytes of the shared memory, which lives in RAM and so answers at once."""
    try:
        if not folder.is_dir():
            return Unavailable(f"{folder} is missing"), Unavailable(f"{folder} is missing")
        usage = shutil.disk_usage(folder)
    except OSError as error:
        why = Unavailable(clean_line(error.strerror or error, max_chars=80))
        return why, why
    return usage.total, usage.free


def _numa_nodes(folder: Path) -> int | None:
    # A range list such as `0-1,4`.
    spans = [span.partition("-") for span in _text(folder / "online").strip().split(",")]
    if not all(low.isdecimal() and (high or low).isdecimal() for low, _, high in spans):
        return None
    return sum(int(high or low) - int(low) + 1 for low, _, high in spans)


def _container(proc: Path, root: Path) -> str:
    """Return the kind of container around this process, empty outside of one."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / "var/run/secrets/kubernetes.io").is_dir():
        return "kubernetes"
    marked = _text(root / "run/systemd/container").strip()
    if marked:
        return clean_line(marked, max_chars=20)
    groups = _text(proc / "self/cgroup")
    return next((kind for kind in ("kubepods", "docker", "libpod", "lxc", "containerd") if f"/{kind}" in groups), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _meminfo(proc: Path) -> dict[str, int]:
    values: dict[str, int] = {}
    for line in _text(proc / "meminfo").splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            values[key] = int(words[0]) * 1024
    return values


@dataclass(frozen=True, slots=True)
class _Groups:
    """Control group paths of this process: the unified hierarchy and one per v1 controller."""

    unified: str | None
    v1: dict[str, str]


def _groups(proc: Path) -> _Groups:
    unified: str | None = None
    v1: dict[str, str] = {}
    for line in _text(proc / "self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            unified = path
        for controller in filter(None, controllers.split(",")):
            v1[controller] = path
    return _Groups(unified, v1)


def _chain(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folders of a control group and its ancestors, as far as they are visible here.

    A container may see its group as the mount's root although `/proc/self/cgroup` gives the host's path.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:depth])
        if folder.is_dir():
            yield folder


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _memory_limits(proc: Path, cgroup: Path) -> Iterator[tuple[int, int]]:
    """Yield `(limit, used)` in bytes of each control group that limits this process; page cache is not used."""
    groups = _groups(proc)
    for mount, path, limit_name, used_name, cache_key in (
        (cgroup, groups.unified, "memory.max", "memory.current", "inactive_file"),
        (
            cgroup / "memory",
            groups.v1.get("memory"),
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        for folder in _chain(mount, path) if path is not None else ():
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and limit < _NO_LIMIT:
                yield limit, max(0, (used or 0) - _stat(folder / "memory.stat", cache_key))


def _stat(path: Path, key: str) -> int:
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdecimal():
            return int(value)
    return 0


def _cores(proc: Path, cgroup: Path) -> int:
    cores = float(len(os.sched_getaffinity(0)))
    groups = _groups(proc)
    if groups.unified is not None:
        for folder in _chain(cgroup, groups.unified):
            quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
            if quota.isdecimal() and period.isdecimal() and int(period) > 0:
                cores = min(cores, int(quota) / int(period))
    if "cpu" in groups.v1:
        for folder in _chain(cgroup / "cpu", groups.v1["cpu"]):
            quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
            if quota_us and period_us:
                cores = min(cores, quota_us / period_us)
    return max(1, int(cores))


def _processor(proc: Path) -> tuple[str | Unavailable, frozenset[str]]:
    name: str | Unavailable = Unavailable("the processor has no name")
    flags: frozenset[str] = frozenset()
    for line in _first_processor(proc / "cpuinfo"):
        key, _, value = line.partition(":")
        match key.strip():
            case "model name":
                name = clean_line(value.strip(), max_chars=60) or name
            case "flags" | "Features":  # x86 and ARM
                flags = FORMAT_FLAGS & frozenset(value.split())
    return name, flags


def _first_processor(path: Path) -> list[str]:
    """Return the lines of the first processor; the file repeats them for each of hundreds."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return list(itertools.takewhile(str.strip, file))
    except OSError:
        return []


def existing_parent(path: Path) -> Path:
    """Return the nearest folder above a path that exists."""
    candidate = Path(os.path.abspath(path))
    while not candidate.exists() and candidate != candidate.parent:
        candidate = candidate.parent
    return candidate


# One for each folder: a network disk that hangs says nothing of the others.
_DISK_CALLERS: dict[Path, BoundedCaller[tuple[int, int]]] = {}


def read_disk(path: Path, *, limit_s: float = 1.0) -> Disk:
    """Return size and free space of the file system that holds (or will hold) a folder.

    A network disk that hangs costs at most `limit_s` seconds.
    """

    def measure() -> tuple[int, int]:
        usage = shutil.disk_usage(existing_parent(path))
        return usage.total, usage.free

    try:
        sizes = _DISK_CALLERS.setdefault(path, BoundedCaller("the disk")).call(measure, limit_s=limit_s)
    except OSError as error:
        sizes = Unavailable(clean_line(error.strerror or error, max_chars=80))
    if isinstance(sizes, Unavailable):
        return Disk(path, sizes, sizes)
    return Disk(path, *sizes)
