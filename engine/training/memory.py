"""Memory of the worker, read at most once a second."""

import resource
import time

import torch

from engine.training.event_log import EventLog

SAMPLE_EVERY_S = 1.0


class MemorySampler:
    """Writes `memory.sampled` events."""

    def __init__(self, events: EventLog, *, on_gpu: bool) -> None:
        self._events = events
        self._on_gpu = on_gpu
        self._next = 0.0

    def sample(self) -> None:
        """Write one event, unless the last one is younger than a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SAMPLE_EVERY_S
        self._events.write("memory.sampled", **host_memory(), **gpu_memory(on_gpu=self._on_gpu))


def host_memory() -> dict[str, int]:
    """Return resident and peak resident bytes of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        resident_pages = int(file.read().split()[1])
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rss_bytes": resident_pages * resource.getpagesize(), "peak_rss_bytes": peak_kib * 1024}


def gpu_memory(*, on_gpu: bool) -> dict[str, int | None]:
    """Return what PyTorch holds on the current GPU, in bytes; None without one."""
    if not on_gpu:
        return {"gpu_allocated_bytes": None, "gpu_reserved_bytes": None, "gpu_peak_bytes": None}
    return {
        "gpu_allocated_bytes": torch.cuda.memory_allocated(),
        "gpu_reserved_bytes": torch.cuda.memory_reserved(),
        "gpu_peak_bytes": torch.cuda.max_memory_allocated(),
    }
