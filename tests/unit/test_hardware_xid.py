"""Errors of the NVIDIA driver in the kernel log."""

import os
import time
from pathlib import Path

import pytest

from engine.hardware import xid as xid_module
from engine.hardware.readings import Unavailable
from engine.hardware.xid import MAX_XIDS, read_xids

LINE = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def test_a_copy_of_the_log_is_read_where_the_kernels_own_is_not_there(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.write_bytes(
        b"Nov 20 box kernel: [1.0] \xff\xfe noise\n"
        + f"Nov 20 box kernel: [2.0] {LINE}\n".encode()
        + b"Nov 20 box kernel: [3.0] NVRM: Xid (PCI:00000000:AF:00.1): 31, pid=7\n"
        + b"Nov 20 box kernel: [4.0] NVRM: Xid (PCI:nonsense): 31\n"
    )
    found = read_xids(tmp_path / "none", (tmp_path / "missing", log))
    assert not isinstance(found, Unavailable)
    assert [(item.bus_id, item.code, item.age_s) for item in found] == [
        ("0000:3b:00.0", 79, None),
        ("0000:af:00.1", 31, None),
    ]
    assert "fallen off" in found[0].meaning


def test_only_the_end_of_a_long_log_is_read_and_only_the_newest_errors_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    old = LINE.replace("79", "13") + "\n"
    log.write_text(old + "x" * xid_module.TAIL_BYTES + "\n" + f"{LINE}\n" * (MAX_XIDS + 5))
    found = read_xids(tmp_path / "none", (log,))
    assert not isinstance(found, Unavailable)
    assert [item.code for item in found] == [79] * MAX_XIDS


def test_records_of_the_kernel_carry_their_age(monkeypatch: pytest.MonkeyPatch) -> None:
    now_us = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
    records = [
        f"4,1,{now_us - 60_000_000},-;{LINE}\n".encode(),
        b"6,2,12,-;something else\n",
        BrokenPipeError("overwritten"),
        f"4,3,nonsense;{LINE}\n".encode(),
        BlockingIOError("nothing more"),
    ]

    def read(descriptor: int, size: int) -> bytes:
        record = records.pop(0)
        if isinstance(record, OSError):
            record.errno = 32 if isinstance(record, BrokenPipeError) else 11
            raise record
        return record

    monkeypatch.setattr(xid_module.os, "read", read)
    found = xid_module._records(3)
    assert not isinstance(found, Unavailable)
    first, second = found
    assert first.age_s is not None
    assert 59 < first.age_s < 600
    assert second.age_s is None


@pytest.mark.parametrize(
    ("error", "words"), [(PermissionError(), "no permission"), (OSError(5, "bad"), "cannot be read")]
)
def test_a_log_that_is_closed_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: OSError, words: str
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(xid_module.os, "open", refuse)
    found = read_xids(tmp_path / "kmsg", (tmp_path / "missing",))
    assert isinstance(found, Unavailable)
    assert words in found.reason


def test_an_empty_log_has_no_errors(tmp_path: Path) -> None:
    (tmp_path / "kmsg").touch()
    assert read_xids(tmp_path / "kmsg", ()) == []
    assert os.path.getsize(tmp_path / "kmsg") == 0
