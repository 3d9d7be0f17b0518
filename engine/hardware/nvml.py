"""NVML through `pynvml`: loading it, asking it, and telling in plain words why it does not answer."""

from collections.abc import Callable
from typing import Any

from engine.hardware.readings import Unavailable, within
from engine.text import clean_line

MAX_GPUS = 64
OLD_DRIVER = Unavailable("the NVIDIA driver is too old for this value")
NOT_SUPPORTED = Unavailable("not supported by this GPU or driver")
NOT_FOUND = Unavailable("not found by the driver")
INVALID = Unavailable("the driver knows no such part of this GPU")

# NVML's return codes, as in nvml.h; pynvml has no words for a third of them and would ask the driver for the rest.
_REASONS = {
    1: "NVML is not initialised",
    2: INVALID.reason,
    3: NOT_SUPPORTED.reason,
    4: "no permission, as in some containers and MIG instances",
    5: "NVML was initialised twice",
    6: NOT_FOUND.reason,
    7: "the driver's answer is larger than it can be",
    8: "the GPU has too little power: a power cable is missing",
    9: "the NVIDIA driver is not loaded",
    10: "the GPU did not answer the driver in time",
    11: "the kernel has a problem with the interrupts of this GPU",
    12: "no NVIDIA driver on this machine",
    13: OLD_DRIVER.reason,
    14: "the information memory of the GPU is damaged",
    15: "the GPU has fallen off the bus; restart the machine",
    16: "the GPU needs a reset",
    17: "the operating system has blocked the driver",
    18: "the NVIDIA driver was updated and its old version still runs; restart the machine",
    19: "the GPU is in use by something else",
    20: "the driver is out of memory",
    21: "the driver has no data yet",
    22: "vGPU with ECC is not supported",
    23: "the GPU lacks the resources for it",
    24: "this clock is not supported",
    25: "NVML does not know this version of the question",
    26: "NVML no longer answers this question",
    27: "the GPU is not ready yet",
    28: "the GPU was not found",
    29: "the GPU is in a state that does not allow it",
    30: "this kind of reset is not supported",
    999: "the driver reports an unknown error",
}
NO_DRIVER = Unavailable(_REASONS[12])
NOT_INSTALLED = Unavailable("nvidia-ml-py is not installed")


def reason(error: Exception) -> str:
    """Return in plain words why an NVML call failed."""
    code = getattr(error, "value", None)
    if not isinstance(code, int):
        return clean_line(error, max_chars=80)
    # Never `str(error)`: for a code it does not know, pynvml asks the driver and decodes whatever comes back.
    return _REASONS.get(code, f"the driver reports error {code}")


def load() -> Any | Unavailable:
    """Return the initialised `pynvml` module, or why there is none."""
    try:
        import pynvml
    except ImportError:
        return NOT_INSTALLED
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
        return OLD_DRIVER
    except (UnicodeDecodeError, ValueError, OverflowError, MemoryError) as error:
        return Unavailable(f"the driver's answer cannot be read: {clean_line(error, max_chars=60)}")


def number(value: Any, low: float, high: float, what: str) -> Any:
    """Return a number of the driver when it can be true, else why not."""
    if isinstance(value, Unavailable):
        return value
    return within(value, low, high, what) or value


def text(value: Any) -> str | Unavailable:
    """Return a text of the driver, made harmless; the driver's own silence passes through."""
    if isinstance(value, Unavailable):
        return value
    raw = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
    return clean_line(raw, max_chars=96).strip() or Unavailable("the driver reports an empty text")


def switch(value: Any, what: str) -> bool | Unavailable:
    """Return an on/off answer of the driver; anything but 0 and 1 is no answer."""
    checked = number(value, 0, 1, what)
    return checked if isinstance(checked, Unavailable) else bool(checked)


def cuda_version(nvml: Any) -> str | Unavailable:
    """Return the newest CUDA version that the driver runs, such as `13.0`."""
    version = number(ask(nvml, nvml.nvmlSystemGetCudaDriverVersion), 1000, 99_999, "CUDA version")
    return version if isinstance(version, Unavailable) else f"{version // 1000}.{version % 1000 // 10}"


def driver_version(nvml: Any) -> str | Unavailable:
    """Return the version of the NVIDIA driver."""
    return text(ask(nvml, nvml.nvmlSystemGetDriverVersion))


def gpu_count(nvml: Any) -> int | Unavailable:
    """Return the number of GPUs."""
    count: int | Unavailable = number(ask(nvml, nvml.nvmlDeviceGetCount), 0, MAX_GPUS, "number of GPUs")
    return count
