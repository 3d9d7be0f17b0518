"""What this machine is made of, as plain data. Each value is a number or `Unavailable(reason)`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from engine.hardware.readings import Unavailable, json_ready


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process that holds memory on a GPU."""

    pid: int
    user: str | Unavailable
    name: str | Unavailable
    used_bytes: int | Unavailable


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as NVML sees it.

    Attributes:
        index: Position in NVML's (PCI bus) order, as in `nvidia-smi`.
        compute_capability: Such as `(9, 0)`.
        free_bytes: Free memory now; `Unavailable` where the driver does not say (unified memory, some MIG containers).
        processes: Compute processes on the device; bytes may be hidden from containers.
    """

    index: int
    name: str | Unavailable
    uuid: str | Unavailable
    compute_capability: tuple[int, int] | Unavailable
    total_bytes: int | Unavailable
    free_bytes: int | Unavailable
    used_bytes: int | Unavailable
    utilization_percent: int | Unavailable
    temperature_c: int | Unavailable
    power_w: float | Unavailable
    processes: list[GpuProcess] | Unavailable


@dataclass(frozen=True, slots=True)
class Host:
    """Memory and processor of the machine, as far as this process may use them.

    Attributes:
        ram_total_bytes: RAM, or the limit of the control group where that is lower.
        ram_available_bytes: What a new process can take now without swapping, under the same limit.
        ram_limited_by: `machine` or `control group`.
        cores: Cores this process may use: affinity and control group quota, at least 1.
        cpu_flags: The instruction sets that decide on number formats, such as `avx512_bf16` and `amx_bf16`.
    """

    ram_total_bytes: int | Unavailable
    ram_available_bytes: int | Unavailable
    swap_free_bytes: int | Unavailable
    cores: int
    cpu_name: str | Unavailable
    cpu_flags: frozenset[str]
    ram_limited_by: str = "machine"


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds a folder."""

    path: Path
    total_bytes: int | Unavailable
    free_bytes: int | Unavailable


@dataclass(frozen=True, slots=True)
class Hardware:
    """Everything that a plan knows of the machine.

    Attributes:
        gpus: GPUs in NVML order; empty when there are none or NVML cannot tell.
        driver: Version of the NVIDIA driver, or why there is none.
        cuda: Newest CUDA version that the driver runs, or why there is none.
        disks: File systems of the folders that a run writes to.
        torch_cuda: CUDA version that the installed torch was built for, or why it cannot use a GPU.
        libraries: `{distribution: version}` of the engine's libraries that are installed.
        visible_devices: Value of `CUDA_VISIBLE_DEVICES`; None when it is not set.
        gpus_known: False when the driver did not answer in time, so that there may be more GPUs than are listed.
    """

    gpus: list[Gpu]
    host: Host
    disks: list[Disk]
    driver: str | Unavailable
    cuda: str | Unavailable
    torch_cuda: str | Unavailable
    libraries: Mapping[str, str] = field(default_factory=dict)
    visible_devices: str | None = None
    gpus_known: bool = True

    def usable_gpus(self) -> list[Gpu]:
        """Return the GPUs that `CUDA_VISIBLE_DEVICES` leaves, in its order."""
        if self.visible_devices is None:
            return list(self.gpus)
        chosen: list[Gpu] = []
        for entry in self.visible_devices.split(","):
            gpu = self._named(entry.strip())
            # CUDA itself ignores everything after the first entry that it cannot resolve.
            if gpu is None or gpu in chosen:
                break
            chosen.append(gpu)
        return chosen

    def _named(self, entry: str) -> Gpu | None:
        if entry.isdecimal():
            return next((gpu for gpu in self.gpus if gpu.index == int(entry)), None)
        if not entry.startswith(("GPU-", "MIG-")):
            return None
        matching = [gpu for gpu in self.gpus if isinstance(gpu.uuid, str) and gpu.uuid.startswith(entry)]
        return matching[0] if len(matching) == 1 else None

    def disk_for(self, path: Path) -> Disk | None:
        """Return the measured disk of a folder, None when it was not measured."""
        wanted = os.path.abspath(path)
        return next((disk for disk in self.disks if os.path.abspath(disk.path) == wanted), None)


def hardware_json(value: Any) -> Any:
    """Return any of these values as JSON-ready data; unavailable ones become `{"unavailable": reason}`."""
    if isinstance(value, Unavailable):
        return json_ready(value)
    if is_dataclass(value):
        return {item.name: hardware_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): hardware_json(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [hardware_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
