"""How the GPUs of a machine reach each other: NVLink, or the way over the PCI tree."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from engine.hardware.devices import Gpu, GpuPair
from engine.hardware.nvml import ask
from engine.hardware.nvml_gpu import GpuDraft
from engine.hardware.readings import Unavailable, known

_PATHS = {
    0: "same board",
    10: "one PCIe switch",
    20: "several PCIe switches",
    30: "one PCIe root",
    40: "one NUMA node",
    50: "across NUMA nodes",
}
_SHORT = dict(zip(_PATHS.values(), ("board", "PIX", "PXB", "PHB", "NODE", "SYS"), strict=True))
_PEER_ACCESS = {
    0: "yes",
    1: "no: not supported by the chipset",
    2: "no: not supported by the GPU",
    3: "no: not supported over this path",
    4: "no: disabled in the driver",
    5: "no: not supported",
}
# pynvml writes `NVML_P2P_CAPS_INDEX_READ = 0,`, a tuple by a slip; nvml.h says 0.
_READ = 0


def read_pairs(nvml: Any, drafts: list[GpuDraft]) -> Iterator[GpuPair]:
    """Yield every pair of the GPUs that answer."""
    for first, second in combinations([draft for draft in drafts if draft.handle is not None], 2):
        handles = first.handle, second.handle
        level = ask(nvml, lambda pair=handles: nvml.nvmlDeviceGetTopologyCommonAncestor(*pair))  # type: ignore[misc]
        access = ask(nvml, lambda pair=handles: nvml.nvmlDeviceGetP2PStatus(*pair, _READ))  # type: ignore[misc]
        nvlink = ask(nvml, lambda pair=handles: nvml.nvmlDeviceGetP2PStatus(*pair, nvml.NVML_P2P_CAPS_INDEX_NVLINK))  # type: ignore[misc]
        joined = None if isinstance(nvlink, Unavailable) else nvlink == 0
        yield GpuPair(
            first=first.index,
            second=second.index,
            path=_word(_PATHS, level, "place on the PCI tree"),
            nvlinks=links_between(first.gpu(), second.gpu(), joined),
            peer_access=_word(_PEER_ACCESS, access, "peer access"),
        )


def _word(words: dict[int, str], value: Any, what: str) -> str | Unavailable:
    if isinstance(value, Unavailable):
        return value
    return words.get(value, Unavailable(f"the driver reports an unknown {what}"))


def links_between(first: Gpu, second: Gpu, joined: bool | None) -> int | Unavailable:
    """Return the active NVLinks that lead from one GPU to the other, directly or through switches.

    Args:
        first: The one GPU.
        second: The other.
        joined: Whether the driver says that they reach each other over NVLink; None when it does not say.
    """
    if isinstance(first.nvlinks, Unavailable):
        return first.nvlinks
    if isinstance(second.nvlinks, Unavailable):
        return second.nvlinks
    ours = [known(link.peer_bus_id) for link in first.nvlinks if link.active is True]
    theirs = [known(link.peer_bus_id) for link in second.nvlinks if link.active is True]
    direct = sum(end is not None and end == known(second.bus_id) for end in ours)
    if direct or joined is False:
        return direct
    # Through switches every GPU reaches every other one with all of its links.
    switches = set(ours) & set(theirs) - {None}
    return min(len(ours), len(theirs)) if joined or switches else 0


def matrix(gpus: list[Gpu], pairs: list[GpuPair]) -> list[list[str]]:
    """Return a table of short words as `nvidia-smi topo -m` has: `NV18`, `PIX`, `PHB`, `SYS`, `X` for itself."""
    table = {(pair.first, pair.second): _short(pair) for pair in pairs}
    indices = [gpu.index for gpu in gpus]
    return [
        ["X" if row == column else table.get((min(row, column), max(row, column)), "?") for column in indices]
        for row in indices
    ]


def _short(pair: GpuPair) -> str:
    links = known(pair.nvlinks)
    if links:
        return f"NV{links}"
    return _SHORT[pair.path] if isinstance(pair.path, str) else "?"
