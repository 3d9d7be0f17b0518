"""Driver and GPUs: every fact that the driver gives, and what is wrong with them."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from engine.hardware.checks import Check, Status, listed
from engine.hardware.devices import NOT_ASKED, Gpu, GpuProcess, Hardware, Xid
from engine.hardware.evidence import Evidence
from engine.hardware.nvml import NO_DRIVER, NOT_INSTALLED
from engine.hardware.nvml_processes import user_name
from engine.hardware.nvml_topology import matrix
from engine.hardware.readings import Unavailable, known, shown
from engine.hardware.xid import PROGRAM_FAULTS
from engine.text import clean_line, human_bytes, human_duration

GIB = 2**30
BUSY_PERCENT = 10
"""Above it a GPU is at work, and its PCIe link has no reason to rest."""
MUCH_BYTES = GIB // 2
MAX_PROCESSES_SHOWN = 6
MAX_GPUS_IN_TABLE = 9
"""What 80 columns have room for; of more GPUs the pairs are counted."""
_HARMFUL = ("heat", "hardware slowdown", "power brake")
_GPUS: Literal["GPUs"] = "GPUs"


def gpu_checks(hardware: Hardware, evidence: Evidence, user: str | None = None) -> Iterator[Check]:
    """Yield the checks of driver and GPUs.

    Args:
        hardware: What the machine has.
        evidence: What tells of GPUs besides the driver.
        user: Who looks; the user of this process when None.
    """
    # Embedded boards reach their GPU through other files.
    if not hardware.host.board:
        yield from _files(evidence)
    if not hardware.gpus:
        yield _no_gpu(hardware, evidence)
        return
    yield _driver(hardware)
    me = user or user_name(os.getuid())
    for gpu in hardware.gpus:
        yield _gpu(gpu)
        yield from _troubles(gpu)
        for device in gpu.devices():
            if device.instance is not None:
                yield _gpu(device)
            yield from _others(device, me)
    yield from _links(hardware)
    yield from _xids(hardware)
    yield from _visible(hardware)


def _files(evidence: Evidence) -> Iterator[Check]:
    if evidence.closed_files:
        names = listed(f"/dev/{name}" for name in evidence.closed_files)
        group = next((name for name in evidence.owners if name != "root"), "")
        fix = f"Run: sudo usermod -aG {group} $USER, and log in again." if group else "Ask the administrator."
        yield Check("device files", "error", f"no permission to open {names}", fix, _GPUS)
    elif evidence.device_files and not evidence.memory_file:
        fix = "Run: sudo modprobe nvidia-uvm. In a container: start it with --gpus all."
        yield Check("device files", "error", "/dev/nvidia-uvm is missing; CUDA does not start", fix, _GPUS)


def _no_gpu(hardware: Hardware, evidence: Evidence) -> Check:
    status, value, fix = _why_none(hardware, evidence)
    return Check("gpu", status, value, fix, _GPUS)


def _why_none(hardware: Hardware, evidence: Evidence) -> tuple[Status, str, str]:
    driver = hardware.driver
    if not hardware.gpus_known:
        fix = "Look again; if it stays silent, look at the kernel log and restart the machine."
        return "error", f"not known: {shown(driver)}", fix
    if isinstance(driver, str):
        return "warning", f"driver {driver}, but no GPU", "Check the power and the seat of the card."
    if driver not in (NO_DRIVER, NOT_INSTALLED):
        return "warning", f"none: {driver.reason}", _mend(driver.reason)
    if hardware.host.wsl and evidence.windows_gpu:
        fix = "Install the NVIDIA driver in Windows, not in Linux; then run: wsl --shutdown"
        return "warning", f"Windows offers a GPU, but {driver.reason}", fix
    if evidence.device_files:
        fix = "In a container: start it with --gpus all (NVIDIA Container Toolkit). Else install the driver again."
        return "warning", f"device files are here, but {driver.reason}", fix
    if evidence.pci_cards:
        fix = (
            "Install the NVIDIA driver (Ubuntu: sudo ubuntu-drivers install). In a container: start it with --gpus all."
        )
        return "warning", f"an NVIDIA card at PCI {listed(evidence.pci_cards)}, but {driver.reason}", fix
    return "ok", f"none: {driver.reason}; runs compute on the processor", ""


def _mend(reason: str) -> str:
    if "not loaded" in reason:
        return "Run: sudo modprobe nvidia. If that fails, install the driver for this kernel again."
    if "permission" in reason:
        return "In a container: start it with --gpus all. Else ask for access to /dev/nvidia*."
    if "restart" in reason:
        return "Restart the machine."
    return "Install or reload the NVIDIA driver, then look again."


def _driver(hardware: Hardware) -> Check:
    value = f"NVIDIA {shown(hardware.driver)}, up to CUDA {shown(hardware.cuda)}"
    if hardware.stale:
        value += f"; read {human_duration(hardware.age_s)} ago" if hardware.age_s else "; it is slow to answer"
        fix = "Keep the driver loaded: sudo nvidia-smi -pm 1. If it stays silent, restart the machine."
        return Check("driver", "warning", value, fix, _GPUS)
    return Check("driver", "ok", value, group=_GPUS)


def _gpu(gpu: Gpu) -> Check:
    name = f"gpu {gpu.label}"
    if isinstance(gpu.name, Unavailable) and isinstance(gpu.total_bytes, Unavailable):
        fix = "Restart the machine; if it comes again, look at the kernel log."
        return Check(name, "error", gpu.name.reason, fix, _GPUS)
    details = tuple(_details(gpu))
    if gpu.unified_memory:
        return Check(name, "ok", f"{shown(gpu.name)}, shares the memory of the host", "", _GPUS, details)
    memory = f"{shown(gpu.free_bytes, human_bytes)} free of {shown(gpu.total_bytes, human_bytes)}"
    value = f"{shown(gpu.name)}, {memory}"
    if gpu.mig is True:
        count = len(gpu.instances)
        value = f"{shown(gpu.name)}, split into {count or 'no'} MIG instance{'' if count == 1 else 's'}"
    elif isinstance(gpu.free_bytes, Unavailable):
        fix = "Plans cannot check the GPU memory; watch the first steps of a run."
        return Check(name, "warning", value, fix, _GPUS, details)
    return Check(name, "ok", value, "", _GPUS, details)


def _details(gpu: Gpu) -> Iterator[str]:
    facts = list(_facts(gpu))
    lines: dict[str, list[str]] = {}
    silent: dict[str, list[str]] = {}
    for line, label, reading, form in facts:
        if isinstance(reading, Unavailable):
            # A fact of the whole GPU is told there.
            if reading != NOT_ASKED and "as a whole" not in reading.reason:
                silent.setdefault(str(reading), []).append(label)
        else:
            lines.setdefault(line, []).append(form(reading))
    yield from (text for found in lines.values() if (text := _joined(found)))
    yield from (f"{', '.join(dict.fromkeys(labels))}: {why}" for why, labels in silent.items())
    yield from _processes(gpu)


def _joined(facts: Iterable[str]) -> str:
    """Return facts as one line; a limit (`of 450 W`) follows its fact without a comma, and the unit stands once."""
    text = ", ".join(filter(None, facts)).replace(", of ", " of ")
    return text.replace(" W of ", " of ").replace(" MHz of ", " of ")


def _facts(gpu: Gpu) -> Iterator[tuple[str, str, Any, Callable[[Any], str]]]:
    """Yield `(line, label, reading, form)` of everything shown below a GPU."""
    yield (
        "identity",
        "compute capability",
        gpu.compute_capability,
        lambda pair: f"compute capability {pair[0]}.{pair[1]}",
    )
    yield "identity", "brand", gpu.brand, str
    yield "identity", "virtualisation", gpu.virtualization, lambda mode: "" if mode == "none" else mode
    yield "identity", "PCI address", gpu.bus_id, lambda address: f"PCI {address}"
    yield "uuid", "UUID", gpu.uuid, str
    yield "gauges", "utilisation", gpu.utilization_percent, lambda share: f"{share} % busy"
    yield "gauges", "temperature", gpu.temperature_c, lambda degrees: f"{degrees} °C"
    yield "gauges", "power", gpu.power_w, lambda watts: f"{watts:.0f} W"
    yield "gauges", "power limit", gpu.power_limit_w, lambda watts: f"of {watts:.0f} W"
    yield "clocks", "SM clock", gpu.sm_clock_mhz, lambda mhz: f"SM clock {mhz} MHz"
    yield "clocks", "highest SM clock", gpu.sm_clock_max_mhz, lambda mhz: f"of {mhz} MHz"
    yield "clocks", "memory clock", gpu.memory_clock_mhz, lambda mhz: f"memory clock {mhz} MHz"
    yield "clocks", "highest memory clock", gpu.memory_clock_max_mhz, lambda mhz: f"of {mhz} MHz"
    yield (
        "throttling",
        "throttling",
        gpu.throttling,
        lambda words: f"clocks held back by {listed(words)}" if words else "",
    )
    yield "link", "PCIe generation", gpu.pcie_generation, lambda number: f"PCIe generation {number}"
    yield "link", "highest PCIe generation", gpu.pcie_generation_max, lambda number: f"of {number}"
    yield "link", "PCIe width", gpu.pcie_width, lambda lanes: f"x{lanes}"
    yield "link", "highest PCIe width", gpu.pcie_width_max, lambda lanes: f"of x{lanes}"
    yield "modes", "persistence mode", gpu.persistence, lambda on: f"persistence mode {_on(on)}"
    yield "modes", "ECC", gpu.ecc, lambda on: f"ECC {_on(on)}"
    yield "modes", "MIG", gpu.mig, lambda on: f"MIG {_on(on)}" if gpu.instance is None else ""
    yield "modes", "screen", gpu.display_active, lambda on: "drives a screen" if on else ""
    yield "modes", "NVLink", gpu.nvlinks, _links_up
    yield "errors", "corrected memory errors", gpu.ecc_corrected, lambda n: f"{n} memory errors corrected" if n else ""
    yield "errors", "uncorrected memory errors", gpu.ecc_uncorrected, lambda n: f"{n} not corrected" if n else ""
    yield (
        "errors",
        "memory errors ever",
        gpu.ecc_uncorrected_ever,
        lambda n: f"{n} over the life of the card" if n else "",
    )
    yield "errors", "memory rows", gpu.remap_failed, lambda on: ""


def _on(state: bool) -> str:
    return "on" if state else "off"


def _links_up(links: tuple[Any, ...]) -> str:
    if not links:
        return "no NVLink"
    return f"{sum(link.active is True for link in links)} of {len(links)} NVLinks up"


def _processes(gpu: Gpu) -> Iterator[str]:
    if isinstance(gpu.processes, Unavailable):
        if gpu.processes != NOT_ASKED and "as a whole" not in gpu.processes.reason:
            yield f"processes: {gpu.processes}"
        return
    yield from map(_process, gpu.processes[:MAX_PROCESSES_SHOWN])
    if len(gpu.processes) > MAX_PROCESSES_SHOWN:
        yield f"and {len(gpu.processes) - MAX_PROCESSES_SHOWN} more processes"


def _process(process: GpuProcess) -> str:
    # Owner and name are mostly unknown for one and the same reason.
    who = dict.fromkeys((shown(process.user, lambda user: f"user {user}"), shown(process.name)))
    draws = ["draws only"] if process.kind == "graphics" else []
    return ", ".join([f"pid {process.pid}", *who, *draws, f"memory {shown(process.used_bytes, human_bytes)}"])


def _troubles(gpu: Gpu) -> Iterator[Check]:
    name = f"gpu {gpu.label}"
    yield from _memory_errors(gpu, f"{name} memory")
    harmful = [word for word in known(gpu.throttling) or () if word.startswith(_HARMFUL)]
    if harmful:
        fix = "Clean the fans and filters, let more air in, or check the power supply."
        yield Check(f"{name} clocks", "warning", f"slowed down by {listed(harmful)}", fix, _GPUS)
    yield from _narrow_link(gpu, f"{name} PCIe")
    yield from _broken_links(gpu, f"{name} NVLink")
    if gpu.mig is True and not gpu.instances:
        fix = (
            f"Create one (sudo nvidia-smi mig -i {gpu.index} -lgip lists the sizes), "
            f"or switch MIG off: sudo nvidia-smi -i {gpu.index} -mig 0"
        )
        yield Check(f"{name} MIG", "error", "MIG is on and there is no instance to compute on", fix, _GPUS)


def _memory_errors(gpu: Gpu, name: str) -> Iterator[Check]:
    lost = known(gpu.ecc_uncorrected) or 0
    if gpu.remap_failed is True:
        value = "a bad memory row could not be replaced"
        yield Check(name, "error", value, "Have the card replaced; runs on it will fail.", _GPUS)
    elif gpu.remap_pending is True or lost:
        waits = ["a bad memory row waits to be replaced"] if gpu.remap_pending is True else []
        errors = [f"{lost} memory error{'s' if lost > 1 else ''} not corrected"] if lost else []
        fix = f"End what runs on it, then: sudo nvidia-smi -i {gpu.index} --gpu-reset. If it comes again, replace it."
        yield Check(name, "warning", "; ".join(errors + waits), fix, _GPUS)


def _narrow_link(gpu: Gpu, name: str) -> Iterator[Check]:
    width, widest = known(gpu.pcie_width), known(gpu.pcie_width_max)
    if width and widest and width < widest:
        fix = "Seat the card again, without a riser if there is one, in a slot with all lanes."
        yield Check(name, "warning", f"runs on {width} of {widest} lanes", fix, _GPUS)
    speed, fastest = known(gpu.pcie_generation), known(gpu.pcie_generation_max)
    at_work = (known(gpu.utilization_percent) or 0) > BUSY_PERCENT
    if speed and fastest and speed < fastest and at_work:
        fix = "Check the riser and the slot's speed in the firmware settings."
        yield Check(f"{name} speed", "warning", f"runs at generation {speed} of {fastest} while busy", fix, _GPUS)


def _broken_links(gpu: Gpu, name: str) -> Iterator[Check]:
    links = known(gpu.nvlinks) or ()
    down = [link.index for link in links if link.active is False]
    if down and len(down) < len(links):
        value = f"{len(down)} of {len(links)} links are down: {listed(map(str, down))}"
        yield Check(name, "warning", value, "Look at: nvidia-smi nvlink --status; have bridge or card checked.", _GPUS)


def _others(gpu: Gpu, me: str) -> Iterator[Check]:
    """Yield whether somebody else holds memory of a device."""
    holders = [process for process in known(gpu.processes) or [] if process.user != me]
    sized = [(process, known(process.used_bytes)) for process in holders if process.kind == "compute"]
    large = [(process, size) for process, size in sized if size is not None and size >= MUCH_BYTES]
    if large:
        who = listed(f"{_who(process)} (pid {process.pid}) {human_bytes(size)}" for process, size in large[:3])
        fix = "Wait or ask, or choose another GPU with CUDA_VISIBLE_DEVICES."
        yield Check(f"gpu {gpu.label} others", "warning", f"others hold memory: {who}", fix, _GPUS)
    used = known(gpu.used_bytes)
    if used is not None and used >= GIB and gpu.processes == [] and gpu.mig is not True:
        value = f"{human_bytes(used)} are used by processes that cannot be seen from here"
        fix = "Look at nvidia-smi outside of this container."
        yield Check(f"gpu {gpu.label} others", "warning", value, fix, _GPUS)


def _who(process: GpuProcess) -> str:
    return process.user if isinstance(process.user, str) else "somebody outside"


def _links(hardware: Hardware) -> Iterator[Check]:
    if len(hardware.gpus) < 2:
        return
    rows = matrix(hardware.gpus, hardware.pairs)
    labels = [gpu.label for gpu in hardware.gpus]
    header = "     " + "".join(f"{label:>6}" for label in labels)
    table = [f"{label:>5}" + "".join(f"{cell:>6}" for cell in row) for label, row in zip(labels, rows, strict=True)]
    if len(labels) > MAX_GPUS_IN_TABLE:
        cells = Counter(cell for place, row in enumerate(rows) for cell in row[place + 1 :])
        header, table = "pairs: " + ", ".join(f"{count} x {cell}" for cell, count in cells.most_common()), []
    counts = [known(pair.nvlinks) or 0 for pair in hardware.pairs]
    joined = sum(count > 0 for count in counts)
    value = f"NVLink joins {joined} of {len(counts)} pairs" if joined else "over PCIe, no NVLink"
    peers = {pair.peer_access for pair in hardware.pairs if isinstance(pair.peer_access, str)} - {"yes"}
    words = [f"reading each other's memory: {clean_line(answer)}" for answer in sorted(peers)]
    legend = "NVn: n NVLinks. PIX, PXB: PCIe switches. PHB: one root. NODE: one NUMA node. SYS: across."
    yield Check("gpu links", "ok", value, "", _GPUS, (header, *table, legend, *words))


def _xids(hardware: Hardware) -> Iterator[Check]:
    name = "driver log"
    if hardware.xids == NOT_ASKED:
        return
    if isinstance(hardware.xids, Unavailable):
        yield Check(name, "ok", f"Xid {hardware.xids}", "Look yourself: sudo dmesg | grep Xid", _GPUS)
        return
    serious = [xid for xid in hardware.xids if xid.code not in PROGRAM_FAULTS]
    details = tuple(map(_xid, _latest(hardware.xids)))
    if serious:
        fix = "Restart the machine before a long run; if it comes again, have the card checked."
        if all(xid.age_s is None for xid in serious):
            fix = f"See in the log when that was. If it was since the last start: {fix[0].lower()}{fix[1:]}"
        count = f"{len(serious)} error{'s' if len(serious) > 1 else ''}"
        yield Check(name, "warning", f"{count} of the GPU (Xid)", fix, _GPUS, details)
    elif hardware.xids:
        count = f"{len(hardware.xids)} error{'s' if len(hardware.xids) > 1 else ''}"
        value = f"{count} of programs on the GPU (Xid), none of the GPU itself"
        yield Check(name, "ok", value, "", _GPUS, details)
    else:
        yield Check(name, "ok", "no errors (Xid)", group=_GPUS)


def _latest(xids: Iterable[Xid]) -> list[Xid]:
    """Return the newest error of each kind and GPU."""
    return list({(xid.bus_id, xid.code): xid for xid in xids}.values())


def _xid(xid: Xid) -> str:
    age = f", {human_duration(xid.age_s)} ago" if xid.age_s is not None else ""
    return f"Xid {xid.code} at PCI {xid.bus_id}: {xid.meaning}{age}"


def _visible(hardware: Hardware) -> Iterator[Check]:
    if hardware.visible_devices is None:
        return
    usable = hardware.usable_gpus()
    chosen = ", ".join(gpu.label for gpu in usable) or "none"
    value = f"CUDA_VISIBLE_DEVICES={clean_line(hardware.visible_devices, max_chars=60)}: GPU {chosen}"
    status: Status = "ok" if usable else "warning"
    yield Check("visible GPUs", status, value, "" if usable else "Unset it to use a GPU.", _GPUS)
