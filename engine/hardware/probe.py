"""Read the machine: once for a plan, or again and again for a live panel. Never raises, never waits for ever."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.hardware import nvml as nvml_calls
from engine.hardware.bounded import BoundedCaller
from engine.hardware.devices import Gpu, Hardware
from engine.hardware.host import PROC, read_disk, read_host
from engine.hardware.libraries import read_libraries, read_torch_cuda
from engine.hardware.readings import Unavailable
from engine.runs.home import home_folders

NVML_LIMIT_S = 1.5
SLOW_START_LIMIT_S = 10.0
"""Without persistence mode a driver that nobody uses takes seconds per GPU to start."""
LISTED_GPUS = Path("/proc/driver/nvidia/gpus")
DISK_LIMIT_S = 0.4
_NVML: BoundedCaller[None] = BoundedCaller("the NVIDIA driver")


def read_hardware(folders: Iterable[Path] | None = None) -> Hardware:
    """Return what this machine has, within 2 s; within 11 s where GPUs are listed whose driver is slow to start.

    Args:
        folders: Folders that will be written to; the free space of each is measured. They need not exist yet. Runs and
            caches of ftwizard when None.
    """
    if folders is None:
        home = home_folders()
        folders = (home.runs, home.cache)
    gpus, driver, cuda, answered = _read_gpus()
    return Hardware(
        gpus=gpus,
        gpus_known=answered,
        host=read_host(),
        disks=[read_disk(folder, limit_s=DISK_LIMIT_S) for folder in dict.fromkeys(folders)],
        driver=driver,
        cuda=cuda,
        torch_cuda=read_torch_cuda(),
        libraries=read_libraries(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )


def _nvml_limit_s() -> float:
    try:
        return SLOW_START_LIMIT_S if any(LISTED_GPUS.iterdir()) else NVML_LIMIT_S
    except OSError:
        return NVML_LIMIT_S


def _read_gpus() -> tuple[list[Gpu], str | Unavailable, str | Unavailable, bool]:
    drafts: list[nvml_calls.GpuDraft] = []
    versions: dict[str, str | Unavailable] = {}

    def read() -> None:
        nvml = nvml_calls.load()
        if isinstance(nvml, Unavailable):
            versions.update(driver=nvml, cuda=nvml)
            return
        versions["driver"] = nvml_calls.driver_version(nvml)
        versions["cuda"] = nvml_calls.cuda_version(nvml)
        count = nvml_calls.gpu_count(nvml)
        for index in range(count if isinstance(count, int) else 0):
            draft = nvml_calls.GpuDraft(index)
            drafts.append(draft)
            nvml_calls.read_gpu(nvml, draft)

    outcome = _NVML.call(read, limit_s=_nvml_limit_s(), patient=True)
    silent = outcome if isinstance(outcome, Unavailable) else Unavailable("the driver does not say")
    # The reading thread may still append: take a copy of what is there.
    gpus = [draft.gpu() for draft in list(drafts)]
    answered = not isinstance(outcome, Unavailable)
    return gpus, versions.get("driver", silent), versions.get("cuda", silent), answered


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
    """Gauges of all GPUs for a live panel: memory, utilisation, temperature, power.

    A sample costs well under a millisecond per GPU once NVML is loaded. When the driver hangs, `sample` comes back
    after `limit_s` with `Unavailable` values, and at once from then on until the driver answers again.
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
        draft = nvml_calls.GpuDraft(index)
        known = self._static.get(index)
        if known is None:
            nvml_calls.read_gpu(self._nvml, draft, with_processes=False)
            self._static[index] = {name: draft.values[name] for name in ("name", "uuid", "compute_capability")}
            return draft.gpu()
        nvml: Any = self._nvml
        handle = nvml_calls.ask(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(index))
        if isinstance(handle, Unavailable):
            return _without_gauges(Gpu(index=index, **known, **dict.fromkeys(_GAUGES, handle)), handle)
        draft.values.update(known)
        nvml_calls.read_gauges(nvml, handle, draft.values)
        draft.values["processes"] = Unavailable("not asked")
        return draft.gpu()


_GAUGES = (
    "total_bytes",
    "free_bytes",
    "used_bytes",
    "utilization_percent",
    "temperature_c",
    "power_w",
    "processes",
)


def _without_gauges(gpu: Gpu, why: Unavailable) -> Gpu:
    return Gpu(
        index=gpu.index,
        name=gpu.name,
        uuid=gpu.uuid,
        compute_capability=gpu.compute_capability,
        total_bytes=gpu.total_bytes,
        free_bytes=why,
        used_bytes=why,
        utilization_percent=why,
        temperature_c=why,
        power_w=why,
        processes=why,
    )
