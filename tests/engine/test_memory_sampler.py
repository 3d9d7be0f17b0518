"""Memory of the worker by phase: from `/proc`, from PyTorch's counters and from the driver, told apart."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.hardware.readings import Unavailable
from engine.planning.plan import Device
from engine.training import memory as memory_module
from engine.training.device_memory import (
    CudaMeter,
    HostMeter,
    NvmlDevice,
    Peak,
    clear_resident_peak,
    meter_for,
    peak_resident_bytes,
)
from engine.training.memory import MemorySampler

MIB = 2**20


@dataclass
class Told:
    """Keeps events."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def write(self, event_type: str, /, **payload: Any) -> None:
        self.events.append({"type": event_type, **payload})


@dataclass
class FakeCuda:
    """Counters as `torch.cuda` gives them."""

    allocated: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0

    def use(self, allocated: int, reserved: int) -> None:
        self.allocated, self.reserved = allocated, reserved
        self.peak_allocated = max(self.peak_allocated, allocated)
        self.peak_reserved = max(self.peak_reserved, reserved)

    def memory_allocated(self) -> int:
        return self.allocated

    def memory_reserved(self) -> int:
        return self.reserved

    def max_memory_allocated(self) -> int:
        return self.peak_allocated

    def max_memory_reserved(self) -> int:
        return self.peak_reserved

    def reset_peak_memory_stats(self) -> None:
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def synchronize(self) -> None:
        return

    def mem_get_info(self) -> tuple[int, int]:
        return 7 * MIB, 100 * MIB


class FakeNvml:
    """A driver with one GPU; `None` for what it keeps to itself."""

    NVMLError = RuntimeError
    NVMLLibraryMismatchError = OSError

    def __init__(self, *, free: int | None = None, used: int | None = None, own: int | None = None) -> None:
        self.free, self.used, self.own = free, used, own
        self.pid = os.getpid()

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> SimpleNamespace:
        if self.free is None and self.used is None:
            raise self.NVMLError("not supported")
        return SimpleNamespace(free=self.free, used=self.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=1, usedGpuMemory=3), SimpleNamespace(pid=self.pid, usedGpuMemory=self.own)]


def nvml_device(nvml: Any) -> NvmlDevice:
    return NvmlDevice("GPU-1", 0, load=lambda: nvml, limit_s=10.0)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


def gpu_sampler(told: Told, cuda: FakeCuda, nvml: Any, monkeypatch: pytest.MonkeyPatch) -> MemorySampler:
    monkeypatch.setattr(memory_module, "NvmlDevice", lambda uuid, index: nvml_device(nvml))
    return MemorySampler(told, Device(kind="cuda", uuid="GPU-1"), cuda=cuda)


# --- the sampler ----------------------------------------------------------------------------------------------------


def test_each_phase_of_a_gpu_has_its_own_peak(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    sampler = gpu_sampler(told, cuda, FakeNvml(own=None), monkeypatch)
    cuda.use(5 * MIB, 10 * MIB)
    cuda.use(1 * MIB, 10 * MIB)
    sampler.enter("training")
    with sampler.within("evaluation"):
        cuda.use(8 * MIB, 20 * MIB)
        cuda.use(1 * MIB, 4 * MIB)
    sampler.enter("merging")
    peaks = [(event["phase"], event["peak_bytes"] // MIB) for event in told.events]
    assert peaks == [("loading", 10), ("training", 10), ("evaluation", 20), ("training", 4)]
    assert {event["peak_kind"] for event in told.events} == {"reserved"}
    assert told.events[-1]["gpu_peak_bytes"] == 8 * MIB, "the peak of the whole process outlives its phases"
    assert sampler.tensor_peaks == {"loading": 5 * MIB, "training": MIB, "evaluation": 8 * MIB}


def test_the_context_is_counted_as_soon_as_the_driver_tells_it(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    told, nvml = Told(), FakeNvml(used=900 * MIB, free=1, own=510 * MIB)
    sampler = gpu_sampler(told, cuda, nvml, monkeypatch)
    cuda.use(5 * MIB, 10 * MIB)
    sampler.sample()
    event = told.events[0]
    assert (event["peak_bytes"], event["peak_kind"]) == (510 * MIB, "device")
    assert (event["gpu_process_bytes"], event["gpu_used_bytes"]) == (510 * MIB, 900 * MIB)
    assert sampler.context_bytes == 500 * MIB


def test_a_context_that_the_probe_measured_is_used_where_the_driver_hides_processes(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    sampler = gpu_sampler(told, cuda, FakeNvml(own=None), monkeypatch)
    sampler.context_bytes = 400 * MIB
    cuda.use(5 * MIB, 10 * MIB)
    sampler.sample()
    assert (told.events[0]["peak_bytes"], told.events[0]["peak_kind"]) == (410 * MIB, "device")


def test_samples_within_a_second_are_one(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    sampler = gpu_sampler(told, cuda, FakeNvml(), monkeypatch)
    sampler.sample()
    sampler.sample()
    assert len(told.events) == 1
    sampler.enter("training")
    assert len(told.events) == 2, "the end of a phase is always told"


def test_a_processor_counts_what_is_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    sampler = MemorySampler(told, Device(kind="cpu"))
    with sampler.within("training"):
        block = b"x" * (64 * MIB)
        held = len(block)
        del block
    loading, training = told.events
    assert training["phase"] == "training"
    assert training["peak_bytes"] - loading["rss_bytes"] > 0.8 * held
    assert (loading["peak_kind"], loading["gpu_peak_bytes"], loading["gpu_used_bytes"]) == ("rss", None, None)
    assert training["peak_rss_bytes"] >= loading["rss_bytes"]


def test_a_peak_that_cannot_be_reset_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = {"resident": 100, "peak": 900}
    monkeypatch.setattr(memory_module, "clear_resident_peak", lambda: None)
    monkeypatch.setattr(memory_module, "resident_bytes", lambda: readings["resident"])
    monkeypatch.setattr(memory_module, "peak_resident_bytes", lambda: readings["peak"])
    told = Told()
    sampler = MemorySampler(told, Device(kind="cpu"))
    sampler.enter("training")
    readings["resident"] = 200
    sampler.enter("evaluation")
    readings["peak"] = 1000
    sampler.enter("training")
    assert [event["peak_bytes"] for event in told.events] == [900, 200, 1000]


# --- meters ---------------------------------------------------------------------------------------------------------


class NoMatrix:
    """Stands for the small product that wakes CUDA."""

    def __matmul__(self, other: object) -> "NoMatrix":
        return self

    def sum(self) -> "NoMatrix":
        return self

    def item(self) -> float:
        return 0.0


def waking(monkeypatch: pytest.MonkeyPatch, effect: Any) -> None:
    def ones(size: object, device: str) -> NoMatrix:
        assert device == "cuda"
        effect()
        return NoMatrix()

    monkeypatch.setattr("engine.training.device_memory.torch.ones", ones)


def test_the_context_is_what_the_driver_counts_beyond_the_tensors(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    waking(monkeypatch, lambda: cuda.use(MIB, 2 * MIB))
    meter = CudaMeter(nvml_device(FakeNvml(used=1, free=5, own=502 * MIB)), cuda)
    assert meter.open() == 500 * MIB


def test_in_a_container_the_context_is_what_the_device_lost(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(used=1000 * MIB, free=5, own=None)

    def wake() -> None:
        cuda.use(MIB, 2 * MIB)
        nvml.used = 1602 * MIB

    waking(monkeypatch, wake)
    assert CudaMeter(nvml_device(nvml), cuda).open() == 600 * MIB


@pytest.mark.parametrize("nvml", [Unavailable("no driver"), FakeNvml(), FakeNvml(used=2**64 - 1, free=1)])
def test_a_context_that_nobody_tells_is_unknown(nvml: Any, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    waking(monkeypatch, lambda: cuda.use(MIB, 2 * MIB))
    assert CudaMeter(nvml_device(nvml), cuda).open() is None


def test_free_memory_is_the_drivers_word_else_the_lesser_of_cuda_and_host(cuda: FakeCuda) -> None:
    assert CudaMeter(nvml_device(FakeNvml(free=3 * MIB, used=1)), cuda).free_bytes() == 3 * MIB
    assert CudaMeter(nvml_device(FakeNvml()), cuda).free_bytes() == 7 * MIB


def test_a_gpu_meter_counts_each_phase_anew(cuda: FakeCuda) -> None:
    meter = CudaMeter(nvml_device(FakeNvml()), cuda)
    cuda.use(9 * MIB, 12 * MIB)
    cuda.use(2 * MIB, 4 * MIB)
    meter.begin()
    cuda.use(5 * MIB, 6 * MIB)
    assert meter.peak() == Peak(5 * MIB, 6 * MIB)


def test_the_meter_is_that_of_the_plans_device() -> None:
    assert meter_for(Device(kind="cpu")).kind == "rss"
    assert meter_for(Device(kind="cuda", uuid="GPU-1")).kind == "device"


def test_a_driver_that_hangs_is_not_waited_for() -> None:
    import threading

    release = threading.Event()
    device = NvmlDevice("GPU-1", 0, load=lambda: release.wait(30), limit_s=0.01)
    assert device.free_bytes() is None
    release.set()


def test_the_host_meter_counts_what_the_process_grew_by() -> None:
    meter = HostMeter()
    base = meter.open()
    assert base is not None
    assert base > MIB
    meter.begin()
    block = bytearray(48 * MIB)
    block[::4096] = b"x" * len(block[::4096])
    assert 40 * MIB < meter.peak().held_bytes < 120 * MIB
    free = meter.free_bytes()
    assert free is not None
    assert free > 48 * MIB


def test_a_peak_that_the_system_does_not_reset_stays(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t    200 kB\nVmRSS:\t    100 kB\n")
    (tmp_path / "clear_refs").mkdir()
    clear_resident_peak(tmp_path)
    assert peak_resident_bytes(tmp_path) == 200 * 1024
