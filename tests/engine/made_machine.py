"""The machine that tests plan for: two cores, enough memory and disk, and no GPU."""

from pathlib import Path

from engine.hardware.devices import Disk, Hardware, Host
from engine.hardware.readings import Unavailable

GIB = 2**30


def machine_without_gpu(disk: Path) -> Hardware:
    """Return a machine with 16 GiB, 12 of them free, whose runs lie on `disk`."""
    none = Unavailable("no GPU in this test")
    return Hardware(
        gpus=[],
        host=Host(16 * GIB, 12 * GIB, 0, 2, "Some CPU", frozenset({"avx2"})),
        disks=[Disk(disk, 100 * GIB, 50 * GIB)],
        driver=none,
        cuda=none,
        torch_cuda=none,
        libraries={"torch": "2.13.0", "bitsandbytes": "0.50.2"},
    )
