"""What tells of an NVIDIA GPU besides its driver: device files, the PCI bus, Windows under WSL."""

import grp
import os
from dataclasses import dataclass
from pathlib import Path

from engine.text import clean_line

_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASSES = ("0x0300", "0x0302")  # VGA and 3D controllers; class codes of the PCI specification


@dataclass(frozen=True, slots=True)
class Evidence:
    """Traces of NVIDIA GPUs.

    Attributes:
        device_files: Names of the driver's files in `/dev`.
        closed_files: Those that this user may not open for reading and writing.
        owners: Groups that may.
        memory_file: Whether `/dev/nvidia-uvm` is there, without which CUDA does not start.
        pci_cards: PCI addresses of NVIDIA GPUs, with or without a driver.
        windows_gpu: Whether Windows offers a GPU to this Linux (WSL).
    """

    device_files: tuple[str, ...] = ()
    closed_files: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    memory_file: bool = False
    pci_cards: tuple[str, ...] = ()
    windows_gpu: bool = False


def read_evidence(root: Path = Path("/")) -> Evidence:
    """Return the traces of NVIDIA GPUs below a root folder."""
    dev = root / "dev"
    files = [dev / "nvidiactl", dev / "nvidia-uvm", *sorted(dev.glob("nvidia[0-9]*"))]
    present = [path for path in files if path.exists()]
    closed = [path for path in present if not os.access(path, os.R_OK | os.W_OK)]
    return Evidence(
        device_files=tuple(path.name for path in present),
        closed_files=tuple(path.name for path in closed),
        owners=tuple(dict.fromkeys(name for path in closed if (name := _group(path)))),
        memory_file=(dev / "nvidia-uvm").exists(),
        pci_cards=_pci_cards(root / "sys/bus/pci/devices"),
        windows_gpu=(dev / "dxg").exists(),
    )


def _group(path: Path) -> str:
    try:
        return clean_line(grp.getgrgid(path.stat().st_gid).gr_name, max_chars=32)
    except (OSError, KeyError):
        return ""


def _pci_cards(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(clean_line(device.name, max_chars=16) for device in folder.glob("*") if _is_card(device)))


def _is_card(device: Path) -> bool:
    try:
        vendor = (device / "vendor").read_text(encoding="ascii", errors="replace").strip()
        kind = (device / "class").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return False
    return vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASSES)
