"""Read the machine: once for a plan, or again and again for a live panel. Never raises, never waits for ever."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.hardware import nvml as nvml_calls
from engine.hardware.bounded import BoundedCaller
from engine.hardware.devices import FACTS, NOT_ASKED, Gpu, Hardware
from engine.hardware.driver import Driver, start_limit_s
from engine.hardware.host import PROC, read_disk, read_host
from engine.hardware.libraries import read_libraries, read_quantisation_cuda, read_torch_cuda
from engine.hardware.nvml_gpu import GpuDraft, open_gpu, read_gauges, read_identity, read_instances
from engine.hardware.readings import Unavailable
from engine.runs.home import home_folders

SNAPSHOT_LIMIT_S = 0.15
"""What a screen may wait for a snapshot."""
DISK_LIMIT_S = 0.4
_DRIVER = Driver()


def read_hardware(folders: Iterable[Path] | None = None, *, patient: bool = False) -> Hardware:
    """Return what this machine has.

    A driver that needs longer than 150 ms leaves the last snapshot, or what it has told so far, marked `stale`; the
    reading goes on, and a later call finds its result.

    Args:
        folders: Folders that will be written to; the free space of each is measured. They need not exist yet. Runs and
            caches of ftwizard when None.
        patient: Wait for the driver as long as a sound one may need to start: 1.5 s, or 10 s where GPUs are listed.
            For what is decided once: a plan on the command line, the doctor.
    """
    if folders is None:
        home = home_folders()
        folders = (home.runs, home.cache)
    started = time.monotonic()
    reading = _DRIVER.begin()
    hardware = read_this_side(folders, disk_limit_s=DISK_LIMIT_S if patient else SNAPSHOT_LIMIT_S / 2)
    limit_s = start_limit_s() if patient else SNAPSHOT_LIMIT_S
    report = _DRIVER.wait(reading, limit_s - (time.monotonic() - started))
    return replace(
        hardware,
        gpus=report.gpus,
        gpus_known=report.complete,
        driver=report.driver,
        cuda=report.cuda,
        pairs=report.pairs,
        xids=report.xids,
        stale=report.stale,
        age_s=report.age_s,
    )


def read_this_side(folders: Iterable[Path], *, disk_limit_s: float) -> Hardware:
    """Return everything but the GPUs: host, disks, libraries.

    Args:
        folders: Folders whose free space is measured.
        disk_limit_s: Longest wait for a disk, in seconds; one that hangs is waited for once.
    """
    return Hardware(
        gpus=[],
        host=read_host(),
        disks=[read_disk(folder, limit_s=disk_limit_s) for folder in dict.fromkeys(folders)],
        driver=NOT_ASKED,
        cuda=NOT_ASKED,
        torch_cuda=read_torch_cuda(),
        libraries=read_libraries(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        quantisation_cuda=read_quantisation_cuda(),
    )


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """RAM of one process: now and at its peak."""

    rss_bytes: int | Unavailable
    peak_bytes: int | Unavailable


def process_memory(pid: int, proc: Path = PROC) -> ProcessMemory:
    """Return the RAM of a process.

    Args:
        pid: Process id.
        proc: Where `/proc` is mounted.
    """
    try:
        text = (proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        gone = Unavailable("the process is gone")
        return ProcessMemory(gone, gone)
    fields = dict(line.partition(":")[::2] for line in text.splitlines())
    return ProcessMemory(_kibibytes(fields.get("VmRSS")), _kibibytes(fields.get("VmHWM")))


def _kibibytes(value: str | None) -> int | Unavailable:
    words = (value or "").split()
    if not words or not words[0].isdecimal():
        return Unavailable("the process has ended or hides it")
    return int(words[0]) * 1024


class GpuSampler:
    """Gauges of all GPUs for a live panel: memory, utilisation, temperature, power, clock, throttling.

    MIG instances are inside their GPU, with their memory. A sample costs well under a millisecond per GPU once NVML is
    loaded. When the driver hangs, `sample` comes back after `limit_s` with `Unavailable` values, and at once from then
    on until the driver answers again.
    """

    def __init__(self, *, limit_s: float = 0.15) -> None:
        """Make a sampler; NVML is loaded at the first sample.

        Args:
            limit_s: Longest time that one `sample` may take, in seconds.
        """
        self._limit_s = limit_s
        self._caller: BoundedCaller[list[Gpu]] = BoundedCaller("the NVIDIA driver")
        self._nvml: Any | None = None
        self._static: dict[int, dict[str, Any]] = {}
        self._last: list[Gpu] = []
        self.problem: Unavailable | None = None

    def sample(self) -> list[Gpu]:
        """Return one `Gpu` per device; empty when there are none. `problem` says why when the driver is silent."""
        answer = self._caller.call(self._read, limit_s=self._limit_s)
        if isinstance(answer, Unavailable):
            self.problem = answer
            return [_without_gauges(gpu, answer) for gpu in self._last]
        self._last = answer
        return answer

    def _read(self) -> list[Gpu]:
        if self._nvml is None:
            loaded = nvml_calls.load()
            if isinstance(loaded, Unavailable):
                self.problem = loaded
                return []
            self._nvml = loaded
        count = nvml_calls.gpu_count(self._nvml)
        self.problem = count if isinstance(count, Unavailable) else None
        return [self._sample_one(index) for index in range(count)] if isinstance(count, int) else []

    def _sample_one(self, index: int) -> Gpu:
        draft = GpuDraft(index)
        answers = open_gpu(self._nvml, draft)
        if answers:
            if index not in self._static:
                read_identity(self._nvml, draft)
                self._static[index] = dict(draft.values)
            draft.values = dict.fromkeys(FACTS, NOT_ASKED) | self._static[index]
            read_gauges(self._nvml, draft)
            read_instances(self._nvml, draft, with_processes=False)
        else:
            draft.values.update(self._static.get(index, {}))
        return draft.gpu()


_GAUGES = (
    "free_bytes",
    "used_bytes",
    "utilization_percent",
    "temperature_c",
    "power_w",
    "sm_clock_mhz",
    "throttling",
)


def _without_gauges(gpu: Gpu, why: Unavailable) -> Gpu:
    silent: dict[str, Any] = dict.fromkeys(_GAUGES, why)
    return replace(gpu, instances=tuple(_without_gauges(part, why) for part in gpu.instances), **silent)
