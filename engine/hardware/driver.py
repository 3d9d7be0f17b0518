"""The NVIDIA driver, read in a thread of its own: whoever asks waits as long as they like, and no longer."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.hardware import nvml as nvml_calls
from engine.hardware.devices import NOT_ASKED, Gpu, GpuPair, Xid
from engine.hardware.nvml_gpu import (
    GpuDraft,
    open_gpu,
    read_details,
    read_gauges,
    read_identity,
    read_instances,
    read_memory,
    read_nvlinks,
)
from engine.hardware.nvml_processes import read_processes
from engine.hardware.nvml_topology import read_pairs
from engine.hardware.readings import Unavailable
from engine.hardware.xid import read_xids

LISTED_GPUS = Path("/proc/driver/nvidia/gpus")
START_LIMIT_S = 1.5
SLOW_START_LIMIT_S = 10.0
"""Without persistence mode a driver that nobody uses takes seconds per GPU to start."""


def start_limit_s() -> float:
    """Return how long the driver may take before it counts as silent."""
    try:
        return SLOW_START_LIMIT_S if any(LISTED_GPUS.iterdir()) else START_LIMIT_S
    except OSError:
        return START_LIMIT_S


@dataclass(frozen=True, slots=True)
class DriverReport:
    """What the driver told.

    Attributes:
        gpus: Whole GPUs in NVML's order.
        driver: Its version, or why it gives no GPU.
        cuda: Newest CUDA version it runs.
        pairs: How the GPUs reach each other.
        xids: Its errors in the kernel log.
        complete: Whether everything was asked; otherwise the driver was too slow.
        stale: Whether this is not the state of now.
        age_s: Seconds since it was read.
    """

    gpus: list[Gpu]
    driver: str | Unavailable
    cuda: str | Unavailable
    pairs: list[GpuPair] = field(default_factory=list)
    xids: list[Xid] | Unavailable = NOT_ASKED
    complete: bool = True
    stale: bool = False
    age_s: float = 0.0


class _Reading:
    """One pass over the driver. What has been read so far can be taken at any moment."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.ended = threading.Event()
        self.failure: BaseException | None = None
        self._drafts: list[GpuDraft] = []
        self._pairs: list[GpuPair] = []
        self._facts: dict[str, Any] = {}

    def run(self) -> None:
        """Read everything; what a plan needs first, so that a slow driver costs the rest."""
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self.failure = error
        finally:
            self.ended.set()

    def _read(self) -> None:
        nvml = nvml_calls.load()
        if isinstance(nvml, Unavailable):
            self._facts.update(driver=nvml, cuda=nvml)
            return
        self._facts["driver"] = nvml_calls.driver_version(nvml)
        self._facts["cuda"] = nvml_calls.cuda_version(nvml)
        count = nvml_calls.gpu_count(nvml)
        if isinstance(count, Unavailable):
            # A driver that does not tell its GPUs is as good as none, and has to say why.
            self._facts["driver"] = count
            return
        for index in range(count):
            draft = GpuDraft(index)
            self._drafts.append(draft)
            if open_gpu(nvml, draft):
                read_identity(nvml, draft)
                read_memory(nvml, draft)
                # A GPU that is split is taken for a whole one until its instances are known.
                read_instances(nvml, draft)
        self._read_rest(nvml, [draft for draft in self._drafts if draft.handle is not None])

    def _read_rest(self, nvml: Any, drafts: list[GpuDraft]) -> None:
        for draft in drafts:
            read_gauges(nvml, draft)
            draft.values["processes"] = read_processes(nvml, draft.handle)
            read_details(nvml, draft)
            read_nvlinks(nvml, draft)
        for pair in read_pairs(nvml, drafts):
            self._pairs.append(pair)
        self._facts["xids"] = read_xids() if self._drafts else NOT_ASKED

    def report(self) -> DriverReport:
        """Return what has been read so far."""
        silent = Unavailable("the NVIDIA driver did not answer in time")
        complete = self.ended.is_set()
        # The reading thread may still append: take copies of what is there.
        gpus = [draft.gpu() for draft in list(self._drafts)]
        return DriverReport(
            gpus=gpus,
            driver=self._facts.get("driver", silent),
            cuda=self._facts.get("cuda", silent),
            pairs=list(self._pairs),
            xids=self._facts.get("xids", NOT_ASKED),
            complete=complete,
            stale=not complete,
        )


class Driver:
    """Reads the driver again and again, one reading at a time, and keeps the last whole report.

    Who asks while a reading is under way waits for that one: a hung driver must not pile up threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without a report.

        Args:
            clock: Seconds that only grow.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: _Reading | None = None
        self._last: tuple[float, DriverReport] | None = None

    def begin(self) -> "_Reading":
        """Start a reading, or join the one that is under way."""
        with self._lock:
            self._take_over()
            if self._under_way is None:
                reading = _Reading()
                threading.Thread(target=reading.run, name="NVIDIA driver", daemon=True).start()
                self._under_way = reading
            return self._under_way

    def _take_over(self) -> None:
        """Keep the report of a reading that has ended; the lock is held."""
        reading = self._under_way
        if reading is None or not reading.ended.is_set():
            return
        self._under_way = None
        if reading.failure is None:
            self._last = reading.started, reading.report()

    def wait(self, reading: "_Reading", limit_s: float) -> DriverReport:
        """Return the report of a reading, or after `limit_s` seconds the last whole one, or what is there.

        A reading that has hung for longer than a driver may take is not waited for again.
        """
        hung = self._clock() - reading.started > start_limit_s()
        if reading.ended.wait(0 if hung else max(0.0, limit_s)):
            if reading.failure is not None:
                raise reading.failure
            with self._lock:
                self._take_over()
            return reading.report()
        with self._lock:
            last = self._last
        if last is None:
            return reading.report()
        taken, report = last
        return replace(report, stale=True, age_s=self._clock() - taken)
