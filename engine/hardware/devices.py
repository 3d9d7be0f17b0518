"""What this machine is made of, as plain data. Each value is a number or `Unavailable(reason)`."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from engine.hardware.readings import Unavailable, json_ready, known

NOT_ASKED = Unavailable("not asked")
_MOST_DIGITS = 9
"""Of a GPU's number in `CUDA_VISIBLE_DEVICES`; Python itself refuses to read thousands of them."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process that holds memory on a GPU.

    Attributes:
        kind: `compute`, or `graphics` for a desktop that only draws.
    """

    pid: int
    user: str | Unavailable
    name: str | Unavailable
    used_bytes: int | Unavailable
    kind: str = "compute"


@dataclass(frozen=True, slots=True)
class NvLink:
    """One NVLink of a GPU.

    Attributes:
        index: Position among the links of the GPU.
        active: Whether the link is up.
        peer_bus_id: PCI address of what is at its other end: a GPU, or a switch that joins all of them.
    """

    index: int
    active: bool | Unavailable
    peer_bus_id: str | Unavailable


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of a GPU, as NVML sees it.

    Attributes:
        index: Position in NVML's (PCI bus) order, as in `nvidia-smi`; a MIG instance has the index of its GPU.
        compute_capability: Such as `(9, 0)`.
        free_bytes: Free memory now; `Unavailable` where the driver does not say (unified memory, some MIG containers).
        processes: Processes that hold memory of the device; bytes may be hidden from containers.
        power_limit_w: Power at which the driver slows the GPU down.
        sm_clock_mhz: Clock of the processors now; `sm_clock_max_mhz` is the most they reach.
        throttling: Why the clocks are lower than they could be, in words; empty when nothing holds them down.
        persistence: Whether the driver stays loaded while nobody uses the GPU.
        ecc: Whether memory errors are found and corrected.
        ecc_corrected: Errors corrected since the driver was loaded.
        ecc_uncorrected: Errors that could not be corrected since the driver was loaded; each ends the work on it.
        ecc_uncorrected_ever: The same over the life of the card.
        remap_pending: Whether a bad memory row waits for a reset to be replaced.
        remap_failed: Whether a bad memory row could not be replaced.
        mig: Whether the GPU is split into instances (MIG).
        instances: The MIG instances, each a device of its own.
        instance: Position among the MIG instances of the GPU; None for a whole GPU.
        virtualization: `none`, `passthrough`, `vGPU` or a host mode.
        pcie_generation: Generation of the PCIe link now; it falls while the GPU is idle.
        pcie_width: Lanes of the PCIe link now.
        nvlinks: Its NVLinks; empty when it has none.
        display_active: Whether a screen hangs on the GPU.
        unified_memory: Whether the GPU shares the memory of the host (GB10, Jetson), so that NVML gives no figures.
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
    power_limit_w: float | Unavailable = NOT_ASKED
    sm_clock_mhz: int | Unavailable = NOT_ASKED
    sm_clock_max_mhz: int | Unavailable = NOT_ASKED
    memory_clock_mhz: int | Unavailable = NOT_ASKED
    memory_clock_max_mhz: int | Unavailable = NOT_ASKED
    throttling: tuple[str, ...] | Unavailable = NOT_ASKED
    persistence: bool | Unavailable = NOT_ASKED
    ecc: bool | Unavailable = NOT_ASKED
    ecc_corrected: int | Unavailable = NOT_ASKED
    ecc_uncorrected: int | Unavailable = NOT_ASKED
    ecc_uncorrected_ever: int | Unavailable = NOT_ASKED
    remap_pending: bool | Unavailable = NOT_ASKED
    remap_failed: bool | Unavailable = NOT_ASKED
    mig: bool | Unavailable = NOT_ASKED
    brand: str | Unavailable = NOT_ASKED
    virtualization: str | Unavailable = NOT_ASKED
    bus_id: str | Unavailable = NOT_ASKED
    pcie_generation: int | Unavailable = NOT_ASKED
    pcie_generation_max: int | Unavailable = NOT_ASKED
    pcie_width: int | Unavailable = NOT_ASKED
    pcie_width_max: int | Unavailable = NOT_ASKED
    nvlinks: tuple[NvLink, ...] | Unavailable = NOT_ASKED
    display_active: bool | Unavailable = NOT_ASKED
    instances: tuple["Gpu", ...] = ()
    instance: int | None = None
    unified_memory: bool = False

    @property
    def label(self) -> str:
        """The number a person sees: `0`, or `0:2` for the third MIG instance of GPU 0."""
        return str(self.index) if self.instance is None else f"{self.index}:{self.instance}"

    def devices(self) -> tuple["Gpu", ...]:
        """Return what programs can compute on: the GPU itself, or its instances where MIG is on."""
        return self.instances if self.mig is True else (self,)


FACTS = tuple(
    item.name for item in fields(Gpu) if item.name not in ("index", "instances", "instance", "unified_memory")
)
"""The fields of `Gpu` that a driver answers or refuses."""


@dataclass(frozen=True, slots=True)
class GpuPair:
    """How two GPUs reach each other.

    Attributes:
        first: Index of the one.
        second: Index of the other.
        path: Nearest common place on the PCI tree: `same board`, `one PCIe switch`, `several PCIe switches`,
            `one PCIe root`, `one NUMA node` or `across NUMA nodes`.
        nvlinks: Active NVLinks between them, directly or through a switch; 0 when there are none.
        peer_access: Whether the one can read the other's memory: `yes`, or why not.
    """

    first: int
    second: int
    path: str | Unavailable
    nvlinks: int | Unavailable
    peer_access: str | Unavailable


@dataclass(frozen=True, slots=True)
class Xid:
    """One error that the NVIDIA driver wrote to the kernel log.

    Attributes:
        bus_id: PCI address of the GPU.
        code: Number of the error.
        meaning: The error in a few words.
        age_s: Seconds since it was written; None when the log does not tell.
    """

    bus_id: str
    code: int
    meaning: str
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Host:
    """Memory and processor of the machine, as far as this process may use them.

    Attributes:
        ram_total_bytes: RAM, or the limit of the control group where that is lower.
        ram_available_bytes: What a new process can take now without swapping, under the same limit.
        ram_limited_by: `machine` or `control group`.
        cores: Cores this process may use: affinity and control group quota, at least 1.
        cpu_flags: The instruction sets that decide on number formats, such as `avx512_bf16` and `amx_bf16`.
        shared_total_bytes: Size of `/dev/shm`, through which data loaders and NCCL pass data.
        numa_nodes: Memory nodes of the machine; None when unknown.
        container: Kind of container around this process, such as `docker`; empty outside of one.
        wsl: Whether this is Linux inside Windows.
        board: Name of an embedded board such as a Jetson; empty elsewhere.
    """

    ram_total_bytes: int | Unavailable
    ram_available_bytes: int | Unavailable
    swap_free_bytes: int | Unavailable
    cores: int
    cpu_name: str | Unavailable
    cpu_flags: frozenset[str]
    ram_limited_by: str = "machine"
    swap_total_bytes: int | Unavailable = NOT_ASKED
    shared_total_bytes: int | Unavailable = NOT_ASKED
    shared_free_bytes: int | Unavailable = NOT_ASKED
    numa_nodes: int | None = None
    container: str = ""
    wsl: bool = False
    board: str = ""


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
        gpus: Whole GPUs in NVML order; empty when there are none or NVML cannot tell. MIG instances are inside them.
        driver: Version of the NVIDIA driver, or why it gives no GPU.
        cuda: Newest CUDA version that the driver runs, or why there is none.
        disks: File systems of the folders that a run writes to.
        torch_cuda: CUDA version that the installed torch was built for, or why it cannot use a GPU.
        libraries: `{distribution: version}` of the engine's libraries that are installed.
        visible_devices: Value of `CUDA_VISIBLE_DEVICES`; None when it is not set.
        gpus_known: False when the driver did not answer in time, so that there may be more GPUs than are listed.
        pairs: How the GPUs reach each other; empty with fewer than two.
        xids: Errors of the driver in the kernel log, newest last, or why it cannot be read.
        quantisation_cuda: CUDA versions, such as `13.0`, for which the installed bitsandbytes has a library.
        stale: Whether the driver was too slow: the GPUs are those of `age_s` ago, or only those read so far.
        age_s: Seconds since the GPUs were read; 0 when that was just now.
        hypothetical: What somebody asked for, where the GPUs are made up; empty for a machine that is here.
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
    pairs: list[GpuPair] = field(default_factory=list)
    xids: list[Xid] | Unavailable = NOT_ASKED
    quantisation_cuda: tuple[str, ...] | Unavailable = NOT_ASKED
    stale: bool = False
    age_s: float = 0.0
    hypothetical: str = ""

    def devices(self) -> Iterator[Gpu]:
        """Yield what programs can compute on: whole GPUs, and the instances of those that MIG splits."""
        for gpu in self.gpus:
            yield from gpu.devices()

    def usable_gpus(self) -> list[Gpu]:
        """Return the devices that `CUDA_VISIBLE_DEVICES` leaves, in its order.

        A process of CUDA sees one MIG instance at most: instances are alternatives, they cannot share a run.
        """
        if self.visible_devices is None:
            return list(self.devices())
        chosen: list[Gpu] = []
        for entry in self.visible_devices.split(","):
            gpu = self._named(entry.strip())
            # CUDA itself ignores everything after the first entry that it cannot resolve.
            if gpu is None or gpu in chosen:
                break
            chosen.append(gpu)
        return chosen

    def training_gpu(self) -> Gpu | None:
        """Return the GPU that a run takes: the usable one with the most free memory; None for the processor."""
        usable = [gpu for gpu in self.usable_gpus() if _computes(gpu)]
        if not usable or isinstance(self.torch_cuda, Unavailable):
            return None
        return max(usable, key=lambda item: (known(item.free_bytes) or 0, -item.index))

    def training_memory(self) -> tuple[int | None, str]:
        """Return the bytes that a run can take, None when unknown, and the name of that memory."""
        gpu = self.training_gpu()
        if gpu is None:
            return known(self.host.ram_available_bytes), "host RAM"
        free = known(gpu.free_bytes)
        if free is not None:
            return free, f"GPU {gpu.label}"
        # Unified memory: NVML answers "not supported", and what the host has free is what the GPU can take.
        if isinstance(gpu.total_bytes, Unavailable):
            return known(self.host.ram_available_bytes), f"unified memory of GPU {gpu.label}"
        return None, f"GPU {gpu.label}"

    def _named(self, entry: str) -> Gpu | None:
        if entry.isdecimal():
            if len(entry) > _MOST_DIGITS:
                return None
            # A number names a whole GPU; where MIG is on, CUDA takes its first instance.
            return next((device for device in self.devices() if device.index == int(entry)), None)
        if not entry.startswith(("GPU-", "MIG-")):
            return None
        matching = [device for device in self.devices() if str(device.uuid).startswith(entry)]
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


def _computes(gpu: Gpu) -> bool:
    # A lost GPU answers nothing at all; unified memory only hides its size.
    return not isinstance(gpu.name, Unavailable) or not isinstance(gpu.total_bytes, Unavailable)
