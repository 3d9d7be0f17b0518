"""Errors of the NVIDIA driver ("Xid") in the kernel log. NVML tells only those that come while somebody waits."""

import errno
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from engine.hardware.devices import Xid
from engine.hardware.readings import Unavailable

KMSG = Path("/dev/kmsg")
LOGS = (Path("/var/log/kern.log"), Path("/var/log/messages"))
MAX_RECORDS = 50_000
TAIL_BYTES = 2**20
MAX_XIDS = 20
_RECORD_BYTES = 8192
_LINE = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(\.[0-7])?\): (\d{1,4})\b")
# https://docs.nvidia.com/deploy/xid-errors/
_MEANINGS = {
    8: "a kernel ran too long",
    13: "a program computed something illegal",
    31: "a program touched memory that is not its own",
    32: "damaged commands arrived over PCIe",
    38: "the firmware of the driver failed",
    43: "a program on the GPU was stopped",
    45: "a program was ended while it used the GPU",
    48: "a memory error that could not be corrected",
    61: "the GPU's own controller failed",
    62: "the GPU's own controller stopped",
    63: "a bad memory row or page was set aside",
    64: "a bad memory row or page could not be set aside",
    69: "a program gave the GPU an illegal order",
    74: "NVLink failed",
    79: "the GPU has fallen off the bus",
    92: "many memory errors were corrected",
    94: "a memory error was contained to one program",
    95: "a memory error reached other programs too",
    109: "switching between programs took too long",
    119: "the GPU's firmware (GSP) did not answer",
    120: "the GPU's firmware (GSP) failed",
    140: "memory errors that could not be corrected",
    143: "the GPU did not start",
    154: "the GPU asks for a reset or a restart",
}
PROGRAM_FAULTS = frozenset({8, 13, 31, 43, 45, 69})
"""Errors that a program causes by itself; the GPU is well."""


def read_xids(kmsg: Path = KMSG, logs: Iterable[Path] = LOGS) -> list[Xid] | Unavailable:
    """Return the newest errors of the driver, the newest last, or why the kernel log cannot be read.

    Args:
        kmsg: The kernel's own log; root only on most machines.
        logs: Where the system log keeps a copy; the group `adm` may read it on most.
    """
    found = _from_kmsg(kmsg)
    refused = found
    for log in logs:
        if not isinstance(found, Unavailable):
            break
        found = _from_log(log)
    # The reason that counts is why the kernel's own log is closed; that a copy does not exist is usual.
    return refused if isinstance(found, Unavailable) else found


def _from_kmsg(path: Path) -> list[Xid] | Unavailable:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return _refused(error)
    try:
        return _records(descriptor)
    finally:
        os.close(descriptor)


def _records(descriptor: int) -> list[Xid] | Unavailable:
    """Read record by record: `priority,sequence,microseconds,flags;text`, microseconds since the machine started."""
    found: list[Xid] = []
    now_s = time.clock_gettime(time.CLOCK_MONOTONIC)
    for _ in range(MAX_RECORDS):
        try:
            record = os.read(descriptor, _RECORD_BYTES)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno == errno.EPIPE:  # this record was overwritten while we read; the next one is whole
                continue
            return _refused(error)
        if not record:
            break
        head, _, text = record.decode("utf-8", errors="replace").partition(";")
        words = head.split(",")
        age_s = max(0.0, now_s - int(words[2]) / 1e6) if len(words) > 2 and words[2].isdecimal() else None
        found += _found_in(text, age_s)
    return found[-MAX_XIDS:]


def _from_log(path: Path) -> list[Xid] | Unavailable:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        return _refused(error)
    return _found_in(text, None)[-MAX_XIDS:]


def _refused(error: OSError) -> Unavailable:
    if isinstance(error, PermissionError):
        return Unavailable("no permission to read the kernel log")
    if isinstance(error, FileNotFoundError):
        return Unavailable("no kernel log here")
    return Unavailable("the kernel log cannot be read")


def _found_in(text: str, age_s: float | None) -> list[Xid]:
    return [
        Xid(
            _bus_id(match[1], match[2]), int(match[3]), _MEANINGS.get(int(match[3]), "see NVIDIA's list of Xids"), age_s
        )
        for match in _LINE.finditer(text)
    ]


def _bus_id(address: str, function: str | None) -> str:
    domain, _, rest = address.lower().partition(":")
    return f"{domain[-4:]}:{rest}{function or '.0'}"
