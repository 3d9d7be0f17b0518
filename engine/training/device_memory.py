"""Memory of the device that a process computes on, read in three ways: PyTorch's counters, NVML, the host's `/proc`.

The one place that asks `torch.cuda` for memory, so that tests can put a small fake in its place.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from engine.hardware import nvml as nvml_calls
from engine.hardware.bounded import BoundedCaller
from engine.hardware.host import read_host
from engine.hardware.readings import Unavailable, known
from engine.planning.plan import Device

PeakKind = Literal["device", "reserved", "tensors", "rss"]
NVML_LIMIT_S = 0.25
SLOW_START_LIMIT_S = 10.0
"""Without persistence mode a driver that nobody uses takes seconds to start."""
_MAX_BYTES = 16 * 2**40
_RESET_PEAK = "5"
"""Written to `/proc/self/clear_refs` it sets the peak of the resident memory back to what is resident now."""


# --- NVML -----------------------------------------------------------------------------------------------------------


class NvmlDevice:
    """What NVML says of one GPU's memory; every answer is None where the driver keeps it to itself.

    Args:
        uuid: Name of the GPU or of the MIG slice; its index counts when empty.
        index: Position in NVML's order.
        load: Loads `pynvml`.
        limit_s: Longest wait for one answer, in seconds.
    """

    def __init__(
        self,
        uuid: str,
        index: int,
        *,
        load: Callable[[], Any | Unavailable] = nvml_calls.load,
        limit_s: float = NVML_LIMIT_S,
    ) -> None:
        self._uuid = uuid
        self._index = index
        self._load = load
        self._limit_s = limit_s
        self._caller: BoundedCaller[Any] = BoundedCaller("the NVIDIA driver")
        self._nvml: Any = None

    def free_bytes(self) -> int | None:
        """Return what no process holds now."""
        info = self._ask(lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle))
        return None if info is None else _plausible(info.free)

    def used_bytes(self) -> int | None:
        """Return what all processes hold now, and the driver itself."""
        info = self._ask(lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle))
        return None if info is None else _plausible(info.used)

    def process_bytes(self, pid: int) -> int | None:
        """Return what one process holds; None in containers, whose process numbers the driver does not know."""
        entries = self._ask(lambda nvml, handle: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
        own = [entry.usedGpuMemory for entry in entries or [] if entry.pid == pid]
        return _plausible(own[0]) if own and own[0] else None

    def _ask(self, question: Callable[[Any, Any], Any]) -> Any:
        answer = self._caller.call(lambda: self._answer(question), limit_s=self._limit_s)
        return None if isinstance(answer, Unavailable) else answer

    def _answer(self, question: Callable[[Any, Any], Any]) -> Any:
        if self._nvml is None:
            self._nvml = self._load()
        nvml = self._nvml
        if isinstance(nvml, Unavailable):
            return nvml
        handle = nvml_calls.ask(nvml, lambda: self._handle(nvml))
        return handle if isinstance(handle, Unavailable) else nvml_calls.ask(nvml, lambda: question(nvml, handle))

    def _handle(self, nvml: Any) -> Any:
        if self._uuid:
            return nvml.nvmlDeviceGetHandleByUUID(self._uuid)
        return nvml.nvmlDeviceGetHandleByIndex(self._index)


def _plausible(value: Any) -> int | None:
    """Return a size that the driver can mean; unset fields hold 2^64 - 1."""
    return value if isinstance(value, int) and 0 <= value <= _MAX_BYTES else None


def device_free_bytes(device: Device) -> int | None:
    """Return what a plan's device has free now, without waking CUDA; None when nobody tells."""
    if device.kind == "cpu":
        return known(read_host().ram_available_bytes)
    return NvmlDevice(device.uuid, device.index, limit_s=SLOW_START_LIMIT_S).free_bytes()


# --- meters ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Peak:
    """Highest memory since a meter's `begin`.

    Attributes:
        tensor_bytes: What tensors occupied; on the host, what the process grew by.
        held_bytes: What was held for them: CUDA's allocator without the context; on the host like `tensor_bytes`.
    """

    tensor_bytes: int
    held_bytes: int


class Meter(Protocol):
    """Measures one process's memory on its device."""

    kind: PeakKind

    def open(self) -> int | None:
        """Make the device usable and return the memory that this alone costs; None where it cannot be told."""

    def free_bytes(self) -> int | None:
        """Return what a process can take now; None when unknown."""

    def begin(self) -> None:
        """Begin a new peak."""

    def peak(self) -> Peak:
        """Return the highest memory since `begin`."""


class CudaMeter:
    """The current CUDA device, through PyTorch's counters and NVML.

    Args:
        nvml: The same device in NVML's words.
        cuda: `torch.cuda`.
    """

    kind: PeakKind = "device"

    def __init__(self, nvml: NvmlDevice, cuda: Any = torch.cuda) -> None:
        self._nvml = nvml
        self._cuda = cuda

    def open(self) -> int | None:
        """Make the CUDA context with the kernels that training loads first, and measure it.

        What NVML says of this process, less what PyTorch reserved. Where the driver hides processes, as in containers,
        what the whole device's use grew by; another process that moves meanwhile makes that wrong by as much.
        """
        used_before = self._nvml.used_bytes()
        matrix = torch.ones((256, 256), device="cuda")
        (matrix @ matrix).sum().item()
        self._cuda.synchronize()
        reserved = int(self._cuda.memory_reserved())
        own = self._nvml.process_bytes(os.getpid())
        if own is None:
            used = self._nvml.used_bytes()
            own = None if used is None or used_before is None else used - used_before
        return own - reserved if own is not None and own > reserved else None

    def free_bytes(self) -> int | None:
        """Return what NVML calls free; where memory is shared with the host, the lesser of CUDA's and the host's."""
        free = self._nvml.free_bytes()
        if free is not None:
            return free
        host = known(read_host().ram_available_bytes)
        of_cuda = int(self._cuda.mem_get_info()[0])
        return of_cuda if host is None else min(of_cuda, host)

    def begin(self) -> None:
        """Begin a new peak."""
        self._cuda.synchronize()
        self._cuda.reset_peak_memory_stats()

    def peak(self) -> Peak:
        """Return the highest counters since `begin`."""
        self._cuda.synchronize()
        return Peak(int(self._cuda.max_memory_allocated()), int(self._cuda.max_memory_reserved()))


class HostMeter:
    """Resident memory of this process, beyond what it holds with its libraries imported.

    Args:
        own: This process in `/proc`.
    """

    kind: PeakKind = "rss"

    def __init__(self, own: Path = Path("/proc/self")) -> None:
        self._own = own
        self._base_bytes = 0

    def open(self) -> int | None:
        """Return what the process holds before any model."""
        self._base_bytes = resident_bytes(self._own)
        return self._base_bytes

    def free_bytes(self) -> int | None:
        """Return what the host can give, what this process holds already included."""
        free = known(read_host().ram_available_bytes)
        return None if free is None else free + self._base_bytes

    def begin(self) -> None:
        """Begin a new peak, where the system lets a process reset its own; elsewhere peaks only grow."""
        clear_resident_peak(self._own)

    def peak(self) -> Peak:
        """Return how far the process grew since `begin`."""
        grown = max(0, peak_resident_bytes(self._own) - self._base_bytes)
        return Peak(grown, grown)


def meter_for(device: Device) -> Meter:
    """Return the meter of a plan's device."""
    if device.kind == "cpu":
        return HostMeter()
    return CudaMeter(NvmlDevice(device.uuid, device.index, limit_s=SLOW_START_LIMIT_S))


# --- /proc ----------------------------------------------------------------------------------------------------------


def resident_bytes(own: Path = Path("/proc/self")) -> int:
    """Return the resident memory of this process."""
    return _status_bytes(own, "VmRSS")


def peak_resident_bytes(own: Path = Path("/proc/self")) -> int:
    """Return the peak of the resident memory of this program.

    Not `getrusage`: its peak survives `exec`, so that a restarted worker would show the one before it.
    """
    return _status_bytes(own, "VmHWM")


def clear_resident_peak(own: Path = Path("/proc/self")) -> None:
    """Set the peak of this process's resident memory to what is resident now, where the system allows it."""
    with contextlib.suppress(OSError):
        (own / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def _status_bytes(own: Path, name: str) -> int:
    for line in (own / "status").read_text(encoding="ascii", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise OSError(f"{own}/status names no {name}")
