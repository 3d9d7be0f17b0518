"""GPUs through NVML (`pynvml`). Every getter is optional on its own: one refusal hides one value, never a GPU."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.hardware.devices import Gpu, GpuProcess
from engine.hardware.readings import Unavailable, within
from engine.text import clean_line

MAX_GPU_BYTES = 16 * 2**40
MAX_PROCESSES = 256
_SLOW = Unavailable("the NVIDIA driver did not answer in time")

_REASONS = {
    1: "NVML is not initialised",
    3: "not supported by this GPU or driver",
    4: "no permission, as in some containers and MIG instances",
    9: "the NVIDIA driver is not loaded",
    12: "no NVIDIA driver on this machine",
    13: "the NVIDIA driver is too old for this value",
    15: "the GPU has fallen off the bus; restart the machine",
    16: "the GPU needs a reset",
    18: "the NVIDIA driver was updated and its old version still runs; restart the machine",
    28: "the GPU was not found",
}


def reason(error: Exception) -> str:
    """Return in plain words why an NVML call failed."""
    code = getattr(error, "value", None)
    return _REASONS.get(code, clean_line(error, max_chars=80)) if isinstance(code, int) else clean_line(error)


def load() -> Any | Unavailable:
    """Return the initialised `pynvml` module, or why there is none."""
    try:
        import pynvml
    except ImportError:
        return Unavailable("nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Unavailable(reason(error))
    return pynvml


def ask(nvml: Any, getter: Callable[[], Any]) -> Any | Unavailable:
    """Return the answer of one NVML getter, or why there is none."""
    try:
        return getter()
    except nvml.NVMLError as error:
        return Unavailable(reason(error))
    except nvml.NVMLLibraryMismatchError:
        return Unavailable(_REASONS[13])
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
        return Unavailable(f"the driver's answer cannot be read: {clean_line(error, max_chars=60)}")


class GpuDraft:
    """The readings of one GPU, filled one by one, so that a driver that hangs half-way costs only the rest."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.values: dict[str, Any] = {}

    def gpu(self) -> Gpu:
        """Return what has been read so far; the rest is `Unavailable`."""
        names = [name for name in Gpu.__slots__ if name != "index"]
        return Gpu(index=self.index, **{name: self.values.get(name, _SLOW) for name in names})


def read_gpu(nvml: Any, draft: GpuDraft, *, with_processes: bool = True) -> None:
    """Fill the draft of one GPU."""
    values = draft.values
    handle = ask(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(draft.index))
    if isinstance(handle, Unavailable):
        values.update({name: handle for name in Gpu.__slots__ if name != "index"})
        return
    values["name"] = _text(ask(nvml, lambda: nvml.nvmlDeviceGetName(handle)))
    values["uuid"] = _text(ask(nvml, lambda: nvml.nvmlDeviceGetUUID(handle)))
    values["compute_capability"] = _capability(ask(nvml, lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle)))
    read_gauges(nvml, handle, values)
    values["processes"] = read_processes(nvml, handle) if with_processes else Unavailable("not asked")


def read_gauges(nvml: Any, handle: Any, values: dict[str, Any]) -> None:
    """Fill what changes while a run is watched: memory, utilisation, temperature, power."""
    values.update(_memory(ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))))
    rates = ask(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    values["utilization_percent"] = _number(
        rates if isinstance(rates, Unavailable) else rates.gpu, 0, 100, "utilisation"
    )
    heat = ask(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    values["temperature_c"] = _number(heat, 1, 150, "temperature")
    milliwatts = ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    power = _number(milliwatts, 0, 5_000_000, "power")
    values["power_w"] = power if isinstance(power, Unavailable) else power / 1000


def _number(value: Any, low: float, high: float, what: str) -> Any:
    if isinstance(value, Unavailable):
        return value
    return within(value, low, high, what) or value


def _text(value: Any) -> str | Unavailable:
    if isinstance(value, Unavailable):
        return value
    text = clean_line(value, max_chars=96).strip()
    return text or Unavailable("the driver reports an empty text")


def _capability(value: Any) -> tuple[int, int] | Unavailable:
    if isinstance(value, Unavailable):
        return value
    major, minor = value
    wrong = within(major, 1, 99, "compute capability") or within(minor, 0, 99, "compute capability")
    return wrong or (major, minor)


def _memory(info: Any) -> dict[str, int | Unavailable]:
    if isinstance(info, Unavailable):
        return dict.fromkeys(("total_bytes", "free_bytes", "used_bytes"), info)
    total = _number(info.total, 2**20, MAX_GPU_BYTES, "memory size")
    if isinstance(total, Unavailable):
        return dict.fromkeys(("total_bytes", "free_bytes", "used_bytes"), total)
    return {
        "total_bytes": total,
        "free_bytes": _number(info.free, 0, total, "amount of free memory"),
        "used_bytes": _number(info.used, 0, total, "amount of used memory"),
    }


def read_processes(nvml: Any, handle: Any) -> list[GpuProcess] | Unavailable:
    """Return the compute processes on a GPU."""
    entries = ask(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))
    if isinstance(entries, Unavailable) and entries.reason == _REASONS[13]:
        entries = ask(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle))
    if isinstance(entries, Unavailable):
        return entries
    if len(entries) > MAX_PROCESSES:
        return Unavailable("the driver reports an impossible number of processes")
    return [_process(entry.pid, entry.usedGpuMemory) for entry in entries]


def _process(pid: int, used: int | None) -> GpuProcess:
    # pynvml turns NVML's "not available" into None; containers and WSL answer so.
    used_bytes = Unavailable("hidden by the driver") if used is None else _number(used, 0, MAX_GPU_BYTES, "memory size")
    return GpuProcess(pid, _user(pid), _command(pid), used_bytes)


def _user(pid: int) -> str | Unavailable:
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return Unavailable("the process is outside this container or gone")
    try:
        return clean_line(pwd.getpwuid(uid).pw_name, max_chars=32)
    except KeyError:
        return f"uid {uid}"


def _command(pid: int) -> str | Unavailable:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Unavailable("the process is outside this container or gone")
    return clean_line(name.strip(), max_chars=32) or Unavailable("no name")


def cuda_version(nvml: Any) -> str | Unavailable:
    """Return the newest CUDA version that the driver runs, such as `13.0`."""
    number = _number(ask(nvml, nvml.nvmlSystemGetCudaDriverVersion), 1000, 99_999, "CUDA version")
    return number if isinstance(number, Unavailable) else f"{number // 1000}.{number % 1000 // 10}"


def driver_version(nvml: Any) -> str | Unavailable:
    """Return the version of the NVIDIA driver."""
    return _text(ask(nvml, nvml.nvmlSystemGetDriverVersion))


def gpu_count(nvml: Any) -> int | Unavailable:
    """Return the number of GPUs."""
    count: int | Unavailable = _number(ask(nvml, nvml.nvmlDeviceGetCount), 0, 64, "number of GPUs")
    return count
