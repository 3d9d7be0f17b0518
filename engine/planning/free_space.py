"""Free space on the disks that a run writes to."""

from pathlib import Path

from engine.hardware.devices import Hardware
from engine.hardware.readings import known
from engine.planning.profiles import ModelProfile

SAME_DISK_BYTES = 64 * 2**20


def free_bytes(hardware: Hardware, folder: Path) -> int | None:
    """Return what is free on the disk of a folder; None when that is not known."""
    disk = hardware.disk_for(folder)
    return None if disk is None else known(disk.free_bytes)


def download_free_bytes(hardware: Hardware, model: ModelProfile, runs_folder: Path) -> int | None:
    """Return what is free where downloads are kept; None when that is the disk of the runs, or not known."""
    if model.download_folder is None:
        return None
    runs, downloads = hardware.disk_for(runs_folder), hardware.disk_for(Path(model.download_folder))
    if runs is None or downloads is None:
        return None
    sizes = [known(value) for value in (runs.total_bytes, downloads.total_bytes, runs.free_bytes, downloads.free_bytes)]
    # The two were measured one after the other while others may write, so that free space differs a little.
    same = sizes[0] == sizes[1] and abs((sizes[2] or 0) - (sizes[3] or 0)) < SAME_DISK_BYTES
    return None if same else sizes[3]
