"""Measurements of this machine on its disk: one small file per machine key in the cache folder.

Nothing here is needed to carry a run: a damaged file is forgotten and begins anew. Two writers take turns at a lock.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from engine.planning.calibration import Calibration, MachineKey
from engine.recipe.problems import Problem, ProblemError
from engine.runs.disk import PRIVATE_FILE_MODE, disk_problem, private_folder, write_atomically
from engine.text import clean_line

FOLDER = "calibration"
MAX_RATIOS = 50
LOCK_LIMIT_S = 5.0
_LOCK_POLL_S = 0.02
_MAX_FILE_BYTES = 256 * 1024
_MAX_CONTEXT_BYTES = 64 * 2**30
_RATIO_RANGE = (0.1, 10.0)
_FLOPS_RANGE = (1e6, 1e18)
"""Measurements beyond these are no measurements: another process's memory, a counter that wrapped, an edited file."""


def read(cache: Path, key: MachineKey) -> Calibration | None:
    """Return what was measured on a machine; None when nothing was, or when the file cannot be read.

    Args:
        cache: Cache folder of the user.
        key: The machine.
    """
    try:
        with _file(cache, key).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError:
        return None
    if len(content) > _MAX_FILE_BYTES:
        return None
    try:
        stored = Calibration.model_validate_json(content)
    except ValidationError:
        return None
    return _sound(stored) if stored.key == key else None


def record(
    cache: Path,
    key: MachineKey,
    *,
    context_bytes: int | None = None,
    memory_ratio: float | None = None,
    flops: dict[str, float] | None = None,
) -> Calibration:
    """Add measurements to what is known of a machine and return all of it.

    Args:
        cache: Cache folder of the user.
        key: The machine.
        context_bytes: Memory of the device that a process holds besides tensors.
        memory_ratio: Measured over rehearsed peak of tensors.
        flops: `{precision: rate}`.

    Raises:
        ProblemError: The file cannot be written; `calibration.busy` when another process keeps the lock.
    """
    path = _file(cache, key)
    private_folder(path.parent)
    try:
        with _locked(path.with_suffix(".lock")):
            before = read(cache, key) or Calibration(key=key)
            ratios = before.memory_ratios + ([] if memory_ratio is None else [memory_ratio])
            after = _sound(
                Calibration(
                    key=key,
                    context_bytes=before.context_bytes if context_bytes is None else context_bytes,
                    memory_ratios=ratios,
                    flops=before.flops | _possible(flops or {}),
                ),
                before.context_bytes,
            )
            if after != before:
                write_atomically(path, after.model_dump_json(indent=1).encode() + b"\n", sync=False)
    except OSError as error:
        raise ProblemError(disk_problem(error, path, "keep what was measured on this machine")) from error
    return after


def _file(cache: Path, key: MachineKey) -> Path:
    content = json.dumps(key.model_dump(), sort_keys=True).encode()
    return cache / FOLDER / f"{hashlib.sha256(content).hexdigest()[:16]}.json"


def _sound(calibration: Calibration, context_before: int | None = None) -> Calibration:
    """Return what of a calibration can be true; files may have been edited, counters may have wrapped."""
    context = calibration.context_bytes
    if context is not None and not 0 < context < _MAX_CONTEXT_BYTES:
        context = context_before
    low, high = _RATIO_RANGE
    return Calibration(
        key=calibration.key,
        context_bytes=context,
        memory_ratios=[ratio for ratio in calibration.memory_ratios if low < ratio < high][-MAX_RATIOS:],
        flops=_possible(calibration.flops),
    )


def _possible(flops: Mapping[str, float]) -> dict[str, float]:
    low, high = _FLOPS_RANGE
    return {name: rate for name, rate in flops.items() if low < rate < high}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file of a calibration; a writer that hangs must not hold up a run for ever."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)
    try:
        ends = time.monotonic() + LOCK_LIMIT_S
        while not _try_lock(descriptor):
            if time.monotonic() > ends:
                shown = clean_line(path)
                message = f"Another process keeps {shown} locked, so this machine's measurements were not added."
                raise ProblemError(Problem("calibration.busy", message, "Nothing to do: the next run adds its own."))
            time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
