"""The readings of one GPU or MIG instance. Every getter is optional on its own: one refusal hides one value."""

import re
from typing import Any

from engine.hardware.devices import FACTS, NOT_ASKED, Gpu, NvLink
from engine.hardware.nvml import INVALID, NOT_FOUND, NOT_SUPPORTED, OLD_DRIVER, ask, number, switch, text
from engine.hardware.nvml_processes import read_processes
from engine.hardware.readings import Unavailable, within

MAX_GPU_BYTES = 10 * 2**40
MAX_MIG_INSTANCES = 64
CARVE_OUT_BYTES = 2**30
"""No discrete GPU with tensor cores has less; integrated ones report the little that the firmware set aside."""
MAX_CLOCK_MHZ = 50_000
MAX_COUNT = 10**12
_SLOW = Unavailable("the NVIDIA driver did not answer in time")

_THROTTLING = {
    0x2: "clocks set by the administrator",
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "kept in step with other GPUs",
    0x20: "heat (driver)",
    0x40: "heat (hardware)",
    0x80: "power brake of the machine",
    0x100: "display clock setting",
    0x200: "board limit",
    0x400: "reliability limit",
}
_IDLE = 0x1
_BRANDS = {
    1: "Quadro", 2: "Tesla", 3: "NVS", 4: "GRID", 5: "GeForce", 6: "Titan", 7: "vApps", 8: "vPC", 9: "vCS", 10: "vWS",
    11: "Cloud Gaming", 12: "Quadro RTX", 13: "NVIDIA RTX", 14: "NVIDIA", 15: "GeForce RTX", 16: "Titan RTX",
    18: "vGameDev",
}  # fmt: skip
_VIRTUALIZATION = {0: "none", 1: "passthrough", 2: "vGPU", 3: "vGPU host", 4: "vSGA host"}
_BUS_ID = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]")


class GpuDraft:
    """The readings of one device, filled one by one, so that a driver that hangs half-way costs only the rest."""

    def __init__(self, index: int, instance: int | None = None) -> None:
        """Start with nothing read.

        Args:
            index: Position of the GPU in NVML's order.
            instance: Position among its MIG instances; None for the whole GPU.
        """
        self.index = index
        self.instance = instance
        self.handle: Any = None
        self.values: dict[str, Any] = {}
        self.instances: list[GpuDraft] = []

    def gpu(self) -> Gpu:
        """Return what has been read so far; the rest is `Unavailable`."""
        values = {name: self.values.get(name, _SLOW) for name in FACTS}
        instances = tuple(draft.gpu() for draft in list(self.instances))
        unified = self.instance is None and shares_host_memory(values)
        return Gpu(index=self.index, instances=instances, instance=self.instance, unified_memory=unified, **values)


def shares_host_memory(values: dict[str, Any]) -> bool:
    """Return whether the GPU answers but has no memory of its own (GB10, Jetson, other integrated parts)."""
    named = not isinstance(values.get("name"), Unavailable)
    return named and values.get("total_bytes") in (NOT_SUPPORTED, _CARVE_OUT)


_CARVE_OUT = Unavailable("shares the host's memory; the driver counts only a small part of it")


def open_gpu(nvml: Any, draft: GpuDraft) -> bool:
    """Find the device of a draft and return whether it answers."""
    handle = ask(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(draft.index))
    if isinstance(handle, Unavailable):
        draft.values.update(dict.fromkeys(FACTS, handle))
        return False
    draft.handle = handle
    return True


def read_identity(nvml: Any, draft: GpuDraft) -> None:
    """Fill what never changes and decides on a plan: name, UUID, compute capability."""
    handle, values = draft.handle, draft.values
    values["name"] = text(ask(nvml, lambda: nvml.nvmlDeviceGetName(handle)))
    values["uuid"] = text(ask(nvml, lambda: nvml.nvmlDeviceGetUUID(handle)))
    values["compute_capability"] = _capability(ask(nvml, lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle)))


def _capability(value: Any) -> tuple[int, int] | Unavailable:
    if isinstance(value, Unavailable):
        return value
    major, minor = value
    wrong = within(major, 1, 99, "compute capability") or within(minor, 0, 99, "compute capability")
    return wrong or (major, minor)


def read_memory(nvml: Any, draft: GpuDraft) -> None:
    """Fill total, free and used memory."""
    info = ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(draft.handle))
    draft.values.update(_memory(info, draft.values.get("compute_capability")))


def _memory(info: Any, capability: Any) -> dict[str, int | Unavailable]:
    if isinstance(info, Unavailable):
        return dict.fromkeys(("total_bytes", "free_bytes", "used_bytes"), info)
    total = number(info.total, 2**20, MAX_GPU_BYTES, "memory size")
    if isinstance(total, int) and total < CARVE_OUT_BYTES and isinstance(capability, tuple) and capability >= (7, 0):
        total = _CARVE_OUT
    if isinstance(total, Unavailable):
        return dict.fromkeys(("total_bytes", "free_bytes", "used_bytes"), total)
    free = number(info.free, 0, total, "amount of free memory")
    used = number(info.used, 0, total, "amount of used memory")
    if isinstance(free, int) and isinstance(used, int) and free + used > total:
        free = used = Unavailable("the driver reports more free and used memory than there is")
    return {"total_bytes": total, "free_bytes": free, "used_bytes": used}


def read_gauges(nvml: Any, draft: GpuDraft) -> None:
    """Fill what changes while a run is watched: memory, utilisation, temperature, power, clock, throttling."""
    handle, values = draft.handle, draft.values
    read_memory(nvml, draft)
    rates = ask(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    busy = rates if isinstance(rates, Unavailable) else rates.gpu
    values["utilization_percent"] = number(busy, 0, 100, "utilisation")
    heat = ask(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    values["temperature_c"] = number(heat, 1, 150, "temperature")
    values["power_w"] = _watts(ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle)))
    clock = ask(nvml, lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    values["sm_clock_mhz"] = number(clock, 0, MAX_CLOCK_MHZ, "clock")
    values["throttling"] = _throttling(nvml, handle)


def _watts(milliwatts: Any) -> float | Unavailable:
    power = number(milliwatts, 0, 5_000_000, "power")
    return power if isinstance(power, Unavailable) else power / 1000


def _throttling(nvml: Any, handle: Any) -> tuple[str, ...] | Unavailable:
    mask = ask(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    if mask == OLD_DRIVER:
        mask = ask(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    mask = number(mask, 0, 0xFFFF, "reason for its clocks")
    if isinstance(mask, Unavailable):
        return mask
    words = [word for bit, word in _THROTTLING.items() if mask & bit]
    unknown = mask & ~(sum(_THROTTLING) | _IDLE)
    return (*words, f"unknown reason {unknown:#x}") if unknown else tuple(words)


def read_details(nvml: Any, draft: GpuDraft) -> None:
    """Fill what a person looks at when something is wrong."""
    handle, values = draft.handle, draft.values
    values["power_limit_w"] = _watts(ask(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle)))
    _read_clocks(nvml, handle, values)
    values["persistence"] = switch(ask(nvml, lambda: nvml.nvmlDeviceGetPersistenceMode(handle)), "persistence mode")
    _read_ecc(nvml, handle, values)
    values["brand"] = _word(_BRANDS, ask(nvml, lambda: nvml.nvmlDeviceGetBrand(handle)), "brand")
    mode = ask(nvml, lambda: nvml.nvmlDeviceGetVirtualizationMode(handle))
    values["virtualization"] = _word(_VIRTUALIZATION, mode, "virtualisation mode")
    values["display_active"] = switch(ask(nvml, lambda: nvml.nvmlDeviceGetDisplayActive(handle)), "display state")
    _read_pcie(nvml, handle, values)


def _mig(nvml: Any, handle: Any) -> bool | Unavailable:
    modes = ask(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle))
    # GPUs that cannot be split answer "not supported": that is a plain no.
    return (
        False if modes == NOT_SUPPORTED else switch(modes if isinstance(modes, Unavailable) else modes[0], "MIG mode")
    )


def _read_clocks(nvml: Any, handle: Any, values: dict[str, Any]) -> None:
    for name, getter, kind in (
        ("sm_clock_max_mhz", nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
        ("memory_clock_mhz", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
        ("memory_clock_max_mhz", nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM),
    ):
        clock = ask(nvml, lambda getter=getter, kind=kind: getter(handle, kind))  # type: ignore[misc]
        values[name] = number(clock, 0, MAX_CLOCK_MHZ, "clock")


def _read_ecc(nvml: Any, handle: Any, values: dict[str, Any]) -> None:
    modes = ask(nvml, lambda: nvml.nvmlDeviceGetEccMode(handle))
    values["ecc"] = switch(modes if isinstance(modes, Unavailable) else modes[0], "ECC mode")
    corrected, uncorrected = nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    for name, kind, counter in (
        ("ecc_corrected", corrected, nvml.NVML_VOLATILE_ECC),
        ("ecc_uncorrected", uncorrected, nvml.NVML_VOLATILE_ECC),
        ("ecc_uncorrected_ever", uncorrected, nvml.NVML_AGGREGATE_ECC),
    ):
        count = ask(nvml, lambda kind=kind, counter=counter: nvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter))  # type: ignore[misc]
        values[name] = number(count, 0, MAX_COUNT, "number of memory errors")
    rows = ask(nvml, lambda: nvml.nvmlDeviceGetRemappedRows(handle))
    pending, failed = (rows, rows) if isinstance(rows, Unavailable) else rows[2:]
    values["remap_pending"] = switch(pending, "state of its memory rows")
    values["remap_failed"] = switch(failed, "state of its memory rows")


def _word(words: dict[int, str], value: Any, what: str) -> str | Unavailable:
    if isinstance(value, Unavailable):
        return value
    return words.get(value, Unavailable(f"the driver reports an unknown {what}"))


def _read_pcie(nvml: Any, handle: Any, values: dict[str, Any]) -> None:
    # pynvml decodes a text of a structure when it is read, so reading it is part of the question.
    values["bus_id"] = bus_id(ask(nvml, lambda: nvml.nvmlDeviceGetPciInfo(handle).busId))
    for name, getter, most in (
        ("pcie_generation", nvml.nvmlDeviceGetCurrPcieLinkGeneration, 10),
        ("pcie_generation_max", nvml.nvmlDeviceGetMaxPcieLinkGeneration, 10),
        ("pcie_width", nvml.nvmlDeviceGetCurrPcieLinkWidth, 32),
        ("pcie_width_max", nvml.nvmlDeviceGetMaxPcieLinkWidth, 32),
    ):
        values[name] = number(ask(nvml, lambda getter=getter: getter(handle)), 1, most, "PCIe link")  # type: ignore[misc]


def bus_id(value: Any) -> str | Unavailable:
    """Return a PCI address in the form of the kernel, `0000:3b:00.0`."""
    address = text(value)
    if isinstance(address, Unavailable):
        return address
    if _BUS_ID.fullmatch(address) is None:
        return Unavailable("the driver reports an impossible PCI address")
    domain, _, rest = address.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def read_nvlinks(nvml: Any, draft: GpuDraft) -> None:
    """Fill the NVLinks of a GPU; none on a GPU that has none."""
    links: list[NvLink] = []
    for index in range(nvml.NVML_NVLINK_MAX_LINKS):
        active = switch(ask(nvml, lambda link=index: nvml.nvmlDeviceGetNvLinkState(draft.handle, link)), "NVLink state")  # type: ignore[misc]
        # The count of links is not told: the first one that the GPU does not have ends the list.
        if active in (NOT_SUPPORTED, INVALID):
            break
        if isinstance(active, Unavailable) and not links:
            draft.values["nvlinks"] = active
            return
        links.append(NvLink(index, active, _peer(nvml, draft.handle, index) if active is True else _NO_PEER))
        if isinstance(active, Unavailable):
            break
    draft.values["nvlinks"] = tuple(links)


_NO_PEER = Unavailable("the link is down")


def _peer(nvml: Any, handle: Any, link: int) -> str | Unavailable:
    return bus_id(ask(nvml, lambda: nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId))


def read_instances(nvml: Any, draft: GpuDraft, *, with_processes: bool = True) -> None:
    """Fill whether MIG is on, and add the instances to the draft, each with its own handle, identity and memory."""
    draft.values["mig"] = _mig(nvml, draft.handle)
    if draft.values["mig"] is not True:
        return
    most = number(
        ask(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(draft.handle)), 0, MAX_MIG_INSTANCES, "MIG count"
    )
    for index in range(most if isinstance(most, int) else 0):
        handle = ask(nvml, lambda slot=index: nvml.nvmlDeviceGetMigDeviceHandleByIndex(draft.handle, slot))  # type: ignore[misc]
        if handle in (NOT_FOUND, INVALID):
            continue
        instance = GpuDraft(draft.index, index)
        draft.instances.append(instance)
        if isinstance(handle, Unavailable):
            instance.values.update(dict.fromkeys(FACTS, handle))
            continue
        instance.handle = handle
        _read_instance(nvml, instance, draft)
        instance.values["processes"] = read_processes(nvml, handle) if with_processes else NOT_ASKED


def _read_instance(nvml: Any, instance: GpuDraft, parent: GpuDraft) -> None:
    instance.values.update(dict.fromkeys(FACTS, Unavailable(f"is a fact of GPU {parent.index} as a whole")))
    read_identity(nvml, instance)
    if isinstance(instance.values["compute_capability"], Unavailable):
        instance.values["compute_capability"] = parent.values["compute_capability"]
    read_memory(nvml, instance)
    instance.values["mig"] = False
