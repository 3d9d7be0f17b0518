"""Memory of the worker, read at most once a second and at both ends of each phase."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from engine.planning.plan import Device
from engine.training.device_memory import (
    NvmlDevice,
    PeakKind,
    clear_resident_peak,
    peak_resident_bytes,
    resident_bytes,
)
from engine.training.requests import EventSink

SAMPLE_EVERY_S = 1.0
PHASES = ("loading", "training", "evaluation", "saving", "merging")
"""Phases of a memory estimate (`MemoryEstimate.peaks`)."""


class MemorySampler:
    """Writes `memory.sampled` events.

    Attributes:
        phase: Phase that memory is counted for now, one of `PHASES`.
        tensor_peaks: `{phase: most bytes that tensors occupied on the GPU}`, as far as it was read; empty without one.
        context_bytes: What the process holds of the GPU besides tensors; None until it is known.
    """

    def __init__(self, events: EventSink, device: Device, *, cuda: Any = torch.cuda) -> None:
        """Make a sampler.

        Args:
            events: Where samples go.
            device: Where the run computes.
            cuda: `torch.cuda`.
        """
        self.phase = "loading"
        self.tensor_peaks: dict[str, int] = {}
        self.context_bytes: int | None = None
        self._events = events
        self._next = 0.0
        self._host = _HostPeak()
        self._gpu = _GpuPeak(NvmlDevice(device.uuid, device.index), cuda) if device.kind == "cuda" else None

    def sample(self) -> None:
        """Write one event, unless the last one is younger than a second."""
        if time.monotonic() >= self._next:
            self._write()

    def enter(self, phase: str) -> None:
        """Write the peak of the phase that ends, and begin another."""
        self._write()
        self.phase = phase
        self._host.begin()
        if self._gpu is not None:
            self._gpu.begin()

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """Count a block as a phase of its own; the phase around it goes on afterwards."""
        before = self.phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def _write(self) -> None:
        self._next = time.monotonic() + SAMPLE_EVERY_S
        host = self._host.read()
        kind: PeakKind = "rss"
        peak_bytes, gpu = self._host.peak_bytes, dict.fromkeys(_GPU_FIELDS)
        if self._gpu is not None:
            gpu = self._gpu.read()
            self.tensor_peaks[self.phase] = max(self.tensor_peaks.get(self.phase, 0), self._gpu.tensor_bytes)
            self.context_bytes = self._gpu.context_bytes or self.context_bytes
            peak_bytes, kind = self._gpu.peak(self.context_bytes)
        self._events.write("memory.sampled", phase=self.phase, peak_bytes=peak_bytes, peak_kind=kind, **host, **gpu)


class _HostPeak:
    """Resident memory of this process: of the phase, and of the whole program.

    Where the system does not let a process reset its peak, a peak that has not grown since the phase began belongs to
    an earlier one, and what was seen at the samples is all that is known of this.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._highest_bytes = 0
        self._known_bytes = 0

    def begin(self) -> None:
        """Begin a phase."""
        clear_resident_peak()
        self.peak_bytes = 0
        self._known_bytes = peak_resident_bytes()

    def read(self) -> dict[str, int]:
        """Return resident and peak resident bytes of this process, and follow the phase's peak."""
        resident, peak = resident_bytes(), peak_resident_bytes()
        self.peak_bytes = max(self.peak_bytes, resident, peak if peak > self._known_bytes else 0)
        self._highest_bytes = max(self._highest_bytes, peak)
        return {"rss_bytes": resident, "peak_rss_bytes": self._highest_bytes}


_GPU_FIELDS = (
    "gpu_allocated_bytes",
    "gpu_reserved_bytes",
    "gpu_peak_bytes",
    "gpu_process_bytes",
    "gpu_used_bytes",
)


class _GpuPeak:
    """Memory of the current GPU: of the phase, and of the whole program.

    Attributes:
        context_bytes: What the driver counts for this process beyond what PyTorch reserved; None where it hides that.
        tensor_bytes: Most that tensors occupied in this phase.
    """

    def __init__(self, nvml: NvmlDevice, cuda: Any) -> None:
        self.context_bytes: int | None = None
        self._nvml = nvml
        self._cuda = cuda
        self.tensor_bytes = 0
        self._highest_bytes = 0
        self._seen_bytes = 0

    def begin(self) -> None:
        """Begin a phase."""
        self._cuda.reset_peak_memory_stats()
        self._seen_bytes = 0

    def read(self) -> dict[str, int | None]:
        """Return what PyTorch holds, what the driver counts for this process, and what all processes use, in bytes."""
        self.tensor_bytes = int(self._cuda.max_memory_allocated())
        self._highest_bytes = max(self._highest_bytes, self.tensor_bytes)
        reserved, own = int(self._cuda.memory_reserved()), self._nvml.process_bytes(os.getpid())
        if own is not None and own > reserved > 0:
            self.context_bytes = own - reserved
            self._seen_bytes = max(self._seen_bytes, own)
        values = (int(self._cuda.memory_allocated()), reserved, self._highest_bytes, own, self._nvml.used_bytes())
        return dict(zip(_GPU_FIELDS, values, strict=True))

    def peak(self, context_bytes: int | None) -> tuple[int, PeakKind]:
        """Return the highest memory of the phase: with the context where that is known."""
        reserved = int(self._cuda.max_memory_reserved())
        if context_bytes is None:
            return reserved, "reserved"
        return max(reserved + context_bytes, self._seen_bytes), "device"
