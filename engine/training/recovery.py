"""What to do when training cannot go on in this process: smaller micro-batches, a fresh process, or an honest end."""

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.disk import write_atomically
from engine.runs.liveness import Lock
from engine.training.batching import Batching, halved, shared_by
from engine.training.faults import Fault, name_rows

RESTART_VARIABLE = "FTWIZARD_LOCK_FD"
"""Set for a restarted worker: the descriptor of the lock that it already holds."""
MAX_DEVICE_RESTARTS = 3
ATTEMPTS_FILE = "attempts.json"


@dataclass(slots=True)
class Attempts:
    """What earlier attempts of a run have learnt about this machine; `attempts.json` in the run directory.

    Attributes:
        count: Attempts so far, this one included.
        batching: Cut of a step that fitted the memory; None while the plan's is in use.
        faults: Faults since a person last started or resumed the run: `{"kind", "step"}`.
        packing_off: The model does not keep packed rows apart, so that each row has a sequence of its own.
    """

    count: int = 0
    batching: Batching | None = None
    faults: list[dict[str, Any]] = field(default_factory=list)
    packing_off: bool = False

    def save(self, run: RunDirectory) -> None:
        """Write the file."""
        document = {
            "count": self.count,
            "batching": self.batching and asdict(self.batching),
            "faults": self.faults,
            "packing_off": self.packing_off,
        }
        write_atomically(_file(run), json.dumps(document).encode())


def begin_attempt(run: RunDirectory, *, restarted: bool) -> Attempts:
    """Count this attempt and return what is known; a person's own restart forgives earlier faults."""
    attempts = _read(run)
    attempts.count += 1
    if not restarted:
        attempts.faults = []
    attempts.save(run)
    return attempts


def decide(fault: Fault, attempts: Attempts, batching: Batching, effective_batch: int) -> Batching:
    """Return how the next process is to cut a step.

    Raises:
        ProblemError: Another process would fail the same way.
    """
    earlier = list(attempts.faults)
    entry = {"kind": fault.kind, "step": fault.step, "where": fault.where, "rows": list(fault.micro_row_ids)}
    attempts.faults.append(entry)
    if fault.kind == "not_finite":
        raise ProblemError(_not_finite(fault))
    if fault.kind == "out_of_memory":
        if problem := _hopeless(fault, entry, earlier, batching):
            raise ProblemError(problem)
        attempts.batching = halved(batching, effective_batch)
        return attempts.batching
    if fault.kind == "rank":
        # What one GPU does, all do: it fits alone too, and only takes longer.
        if fault.where == "start" or any(entry["kind"] == "rank" for entry in earlier):
            attempts.batching = shared_by(batching, 1, effective_batch)
        return attempts.batching or batching
    device_faults = [entry for entry in earlier if entry["kind"] == "device"]
    if any(entry["step"] == fault.step for entry in device_faults) or len(device_faults) >= MAX_DEVICE_RESTARTS:
        raise ProblemError(_device_gone(fault, len(device_faults)))
    return batching


def restart_process(run: RunDirectory, lock: Lock) -> None:
    """Replace this program by a fresh one that goes on with the run; does not return.

    A fresh one, since memory of a failed step stays fragmented and a broken CUDA context stays broken. The process id,
    the session, the log and the lock stay.
    """
    os.environ[RESTART_VARIABLE] = str(lock.keep_through_exec())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "engine.worker", str(run.path)])


def _file(run: RunDirectory) -> Path:
    return run.path / ATTEMPTS_FILE


def _read(run: RunDirectory) -> Attempts:
    try:
        document = json.loads(_file(run).read_bytes())
        batching = document["batching"]
        return Attempts(
            int(document["count"]),
            Batching(**batching) if batching else None,
            list(document["faults"]),
            # Runs that were begun by an earlier version do not say.
            document.get("packing_off") is True,
        )
    except FileNotFoundError:
        return Attempts()
    except (ValueError, KeyError, TypeError):
        # Only hints are in it: the worst that forgetting them costs is one more restart.
        return Attempts()


def _not_finite(fault: Fault) -> Problem:
    return Problem(
        "training.not_finite",
        f"At step {fault.step} {fault.text}.{fault.rows}",
        "Choose a smaller learning rate, or look at these rows; the last checkpoint before it is kept.",
        "training.learning_rate",
    )


def _hopeless(fault: Fault, entry: dict[str, Any], earlier: list[dict[str, Any]], batching: Batching) -> Problem | None:
    """Return why fewer rows at a time would not help; None when they may.

    Halving changes what is in memory, unless a single row is what does not fit, or no row has a part in it: then the
    same happens twice.
    """
    if batching.micro_batch > 1 and entry not in earlier:
        return None
    times = "twice " if entry in earlier else ""
    if fault.where == "micro_step":
        return _rows_too_large(
            fault, "with one row at a time" if batching.micro_batch == 1 else "twice with the same rows"
        )
    if fault.where == "optimizer":
        return Problem(
            "training.out_of_memory",
            f"Out of memory {times}{fault.place}: {fault.text}. "
            "Its states do not fit, however few rows are read at once.",
            "Choose LoRA or QLoRA, or an 8-bit optimizer, then start a new run.",
            "training.optimizer",
        )
    return Problem(
        "training.out_of_memory",
        f"Out of memory {times}{fault.place}: {fault.text}.",
        "Free memory (`ftwizard doctor` shows who uses it), then resume.",
    )


def _rows_too_large(fault: Fault, how: str) -> Problem:
    rows = name_rows(fault.micro_row_ids, limit=3)
    return Problem(
        "training.out_of_memory",
        f"Out of memory at step {fault.step} {how}, reading {rows}.",
        "Choose a shorter sequence length, activation checkpointing, or QLoRA, then start a new run.",
        "training.max_length",
    )


def going_on(fault: Fault, before: Batching, after: Batching) -> str:
    """Return what is told when a fresh process takes over: what happened, from where it goes on and how."""
    start = f"from step {fault.kept_step}" if fault.kept_step else "from the beginning"
    if fault.kind == "rank":
        how = (
            f"The run goes on with one GPU: {_rows(after.micro_batch)} at a time and {after.accumulation} "
            "micro-batches in a step; the effective batch stays the same."
            if after.num_gpus == 1
            else f"All processes start afresh {start}."
        )
        what = "start together" if fault.where == "start" else f"go on together {fault.place}"
        return f"The GPUs cannot {what}: {fault.text}. {how}"
    if fault.kind != "out_of_memory":
        return f"The device failed {fault.place} ({fault.text}). A fresh process goes on from the last checkpoint."
    lost = fault.step - 1 - fault.kept_step
    steps = "no step is lost" if lost <= 0 else f"{lost} {'step is' if lost == 1 else 'steps are'} done again"
    return (
        f"Out of memory {fault.place} with {_rows(before.micro_batch)} at a time. A fresh process goes on {start} "
        f"({steps}) with {_rows(after.micro_batch)} at a time and {after.accumulation} micro-batches in a step; the "
        "effective batch stays the same."
    )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _device_gone(fault: Fault, restarts: int) -> Problem:
    times = "again" if restarts <= 1 else f"after {restarts} restarts"
    return Problem(
        "training.device_failed",
        f"The device failed {times} {fault.place}: {fault.text}.{fault.rows}",
        "Look at the rows and at the GPU (`ftwizard doctor`), then resume.",
    )
