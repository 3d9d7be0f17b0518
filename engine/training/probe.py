"""Probe a run before its first step: its longest batches on the real device, in a process of its own.

What is measured replaces the estimate. What does not fit is found in the first minute: the micro-batch is halved, the
effective batch stays, and the probe begins again, down to one row.
"""

import contextlib
import heapq
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from engine.data.rows import Row
from engine.objectives.build import count_steps
from engine.objectives.sequences import Segment, Sequences
from engine.planning.calibration import Calibration
from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.disk import private_folder
from engine.text import clean_line, human_bytes
from engine.training.batching import Batching, halved
from engine.training.calibrate import MachineLog
from engine.training.event_log import EventLog
from engine.training.faults import name_rows
from engine.training.order import StepOrder
from engine.training.probe_request import NOTES, Findings, Note, ProbeRequest, ProbeSegment, findings_of
from engine.training.recovery import Attempts
from engine.training.requests import RequestDesk
from engine.training.small_rehearsal import Rehearser, small_ratio

SCRATCH = "probe"
COMMAND = (sys.executable, "-P", "-m", "engine.training.probe_process")
TIGHT_SHARE = 0.6
"""From this share of the free memory on, the upper end of an estimate is worth a look at the device."""
SMALL_LAYERS = (2, 4)
ENOUGH_RATIOS = 3
"""With so many measurements of this machine small models teach nothing new."""
BASE_LIMIT_S = 240.0
LOADED_BYTES_PER_S = 50e6
"""A slow disk; loading also looks at every weight."""
EVALUATION_ROWS = 32
_POLL_S = 0.05
_KILLED = -9


def reason_to_probe(plan: Plan, calibration: Calibration | None, free_bytes: int | None) -> str:
    """Return why a run is probed before it starts; empty when it is not.

    Args:
        plan: Its `training.probe`, device and estimate are read.
        calibration: What was measured on this machine before.
        free_bytes: What the device has free now; None when unknown.
    """
    wish, memory = plan.recipe.training.probe, plan.memory
    if wish == "never":
        return ""
    if wish == "always":
        return "the recipe asks for it"
    if plan.device.kind == "cpu":
        # Loading the weights twice to learn what the run shows anyway: the host swaps where a GPU gives up.
        return ""
    if calibration is None or calibration.context_bytes is None:
        return "nothing was measured on this machine yet"
    if free_bytes is None:
        return "the driver does not tell how much memory is free"
    if memory.confidence == "low":
        return "the estimate is of low confidence"
    if memory.high_bytes >= TIGHT_SHARE * free_bytes:
        return f"it may need {human_bytes(memory.high_bytes)} of {human_bytes(free_bytes)}"
    return ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe of one run needs.

    Attributes:
        run: The run directory; the probe writes into a folder of its own there and removes it.
        plan: Its plan, the base model pinned.
        folder: Folder of the base model.
        sequences: What the trainer will draw from.
        held_out_rows: Canonical rows to be judged on.
        events: The run's event log.
        desk: Where requests of viewers arrive; asked for stops meanwhile.
        attempts: Keeps a cut of a step that fits.
        machine: Keeps what was measured.
        rehearser: Asked for rehearsals of the small models.
    """

    run: RunDirectory
    plan: Plan
    folder: Path
    sequences: Sequences
    held_out_rows: Sequence[Row]
    events: EventLog
    desk: RequestDesk
    attempts: Attempts
    machine: MachineLog
    rehearser: Rehearser

    def fit(self, batching: Batching, *, small: bool) -> tuple[Batching, Findings]:
        """Return how a step is to be cut so that it fits, and what was measured of it.

        Args:
            batching: The cut to begin with.
            small: Measure small random models too.

        Raises:
            ProblemError: `training.out_of_memory`: not even one row at a time fits.
            StopRequested: A viewer asked for a stop.
        """
        while True:
            request = self.request(batching, small=small)
            findings = carry_out(request, self.desk, limit_s=limit_s(self.plan))
            ratio = self.ratio(findings, batching)
            self._tell(findings, batching, ratio)
            if self.plan.device.kind == "cuda":
                self.machine.learn(context_bytes=findings.context_bytes, memory_ratio=ratio)
            if findings.fits is not False:
                return batching, findings
            if batching.micro_batch == 1 or findings.ended_in in ("context", "loading"):
                raise ProblemError(self._too_large(findings, request))
            smaller = halved(batching, self.plan.recipe.training.effective_batch)
            self._notice("warning", "probe.halved", _halved_words(findings, batching, smaller))
            # Kept, so that a later resume does not try the larger one again.
            self.attempts.batching = smaller
            self.attempts.save(self.run)
            batching, small = smaller, False

    def request(self, batching: Batching, *, small: bool) -> ProbeRequest:
        """Return the probe of a cut: the steps that hold the run's largest micro-batches, and the first of them again.

        The first runs before the optimizer has states, the others beside them.
        """
        training = self.plan.recipe.training
        order = StepOrder(
            self.sequences.lengths,
            effective_batch=training.effective_batch,
            micro_batch=batching.micro_batch,
            seed=training.seed,
        )
        chosen = order.largest_micro_batches(count_steps(training, order.steps_per_epoch))
        steps = [order.micro_batches(step)[:2] for step in [*dict.fromkeys(chosen), chosen[0]]]
        wanted = sorted({row for step in steps for rows in step for row in rows})
        place = {row: index for index, row in enumerate(wanted)}
        return ProbeRequest(
            plan=self.plan,
            folder=str(self.folder),
            scratch=str(self.run.path / SCRATCH),
            micro_batch=batching.micro_batch,
            sequences=[[_probe_segment(part) for part in self.sequences.segments[row]] for row in wanted],
            steps=[[[place[row] for row in rows] for rows in step] for step in _even(steps)],
            held_out=longest_rows(self.held_out_rows, EVALUATION_ROWS),
            small_layers=list(SMALL_LAYERS) if small and self.plan.device.kind == "cuda" else [],
        )

    def _tell(self, findings: Findings, batching: Batching, ratio: float | None) -> None:
        self.events.write(
            "memory.probed",
            fits=findings.fits,
            peak_bytes=findings.peak_bytes if findings.phases else None,
            free_bytes=findings.free_bytes,
            context_bytes=findings.context_bytes,
            tensor_bytes=findings.tensor_bytes if findings.phases else None,
            phases=findings.phases,
            ratio=ratio,
            micro_batch=batching.micro_batch,
            accumulation=batching.accumulation,
            outcome=findings.outcome,
            elapsed_s=round(findings.elapsed_s, 3),
        )
        for phase, why in findings.skipped.items():
            self._notice("note", "probe.part_left_out", f"The probe left out {phase}: {clean_line(why)}.")
        if findings.fits is None:
            self._notice("warning", "probe.failed", _failed_words(findings))

    def ratio(self, findings: Findings, batching: Batching) -> float | None:
        """Return measured over rehearsed peak of tensors in training; None where there is nothing to compare.

        Of the whole model where the plan rehearsed this cut, else of the small models.
        """
        if self.plan.device.kind == "cpu" or batching.micro_batch != self.plan.steps.micro_batch:
            return None
        memory, measured = self.plan.memory, findings.phases.get("training")
        rehearsed = memory.peaks.get("training")
        if measured and memory.depth == "simulated" and rehearsed:
            return round(measured / rehearsed, 5)
        if not findings.small:
            return None
        ratio = small_ratio(self.plan, self.folder, findings.small, self.run.path / SCRATCH, self.rehearser)
        return None if ratio is None else round(ratio, 5)

    def _notice(self, severity: str, code: str, message: str) -> None:
        self.events.write("notice.raised", severity=severity, code=code, message=message)

    def _too_large(self, findings: Findings, request: ProbeRequest) -> Problem:
        free = f"{human_bytes(findings.free_bytes)} free" if findings.free_bytes is not None else "what is free"
        if findings.ended_in in ("context", "loading"):
            return Problem(
                "training.out_of_memory",
                f"The model alone does not fit {self.plan.memory.where} ({free}): {findings.text}.",
                "Choose QLoRA or a smaller base model, or free memory (`ftwizard doctor` shows who uses it).",
                "method.name",
            )
        rows = [part.row_id for sequence in request.sequences for part in sequence]
        need = f"needs {human_bytes(findings.peak_bytes)}" if findings.outcome == "measured" else "runs out of memory"
        return Problem(
            "training.out_of_memory",
            f"One row at a time {need} on {self.plan.memory.where} ({free}). The longest rows: "
            f"{name_rows(rows, limit=3)}.",
            "Choose a shorter sequence length, activation checkpointing, or QLoRA, then start a new run.",
            "training.max_length",
        )


def _probe_segment(part: Segment) -> ProbeSegment:
    return ProbeSegment(row_id=part.row_id, input_ids=part.input_ids, labels=part.labels, targets=list(part.targets))


def longest_rows(rows: Sequence[Row], limit: int) -> list[Row]:
    """Return the rows with most text: an evaluation batch holds the longest first."""
    return heapq.nlargest(limit, rows, key=lambda row: len(json.dumps(row, ensure_ascii=False)))


def limit_s(plan: Plan) -> float:
    """Return how long a probe may take, in seconds."""
    return BASE_LIMIT_S + plan.model.weights_bytes / LOADED_BYTES_PER_S


def _even(steps: list[list[list[int]]]) -> list[list[list[int]]]:
    """Return steps with the same number of micro-batches: a last one that is short repeats its first."""
    longest = max(map(len, steps))
    return [step + [step[0]] * (longest - len(step)) for step in steps]


# --- the process ----------------------------------------------------------------------------------------------------


def carry_out(
    request: ProbeRequest, desk: RequestDesk, *, limit_s: float, clock: Callable[[], float] = time.monotonic
) -> Findings:
    """Run a probe in a process of its own and return what it found; whatever ends it, its files are removed.

    Args:
        request: The probe.
        desk: Asked for stops meanwhile.
        limit_s: Longest time it may take, in seconds.
        clock: Seconds that only grow.

    Raises:
        StopRequested: A viewer asked for a stop.
        ProblemError: The scratch folder cannot be made.
    """
    scratch = Path(request.scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    private_folder(scratch)
    started = clock()
    try:
        code, text = _run(request, desk, ends=started + limit_s, clock=clock)
        killed_in_steps = code == _KILLED and request.plan.device.kind == "cpu"
        return findings_of(
            read_notes(scratch / NOTES),
            # On the host the kernel ends what takes too much; there is no error to catch.
            outcome="out_of_memory" if killed_in_steps else "failed",
            text=text or f"the process ended with {code}",
            elapsed_s=clock() - started,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(request: ProbeRequest, desk: RequestDesk, *, ends: float, clock: Callable[[], float]) -> tuple[int, str]:
    """Return the exit code of the process, and why it was ended when it was."""
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE)
    try:
        _ask(process, request)
        while process.poll() is None:
            desk.attend()
            if clock() > ends:
                process.kill()
                process.wait()
                return 0, "it took too long"
            time.sleep(_POLL_S)
        return process.returncode, ""
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdin is not None:
            # A process that is gone has nobody to flush to.
            with contextlib.suppress(OSError):
                process.stdin.close()


def _ask(process: "subprocess.Popen[bytes]", request: ProbeRequest) -> None:
    """Write the request; the pipe stays open, and its end would be the process's end."""
    if process.stdin is None:
        raise RuntimeError("the probe has no stdin")
    try:
        process.stdin.write(request.model_dump_json().encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        # It died at once; its exit code tells more than this.
        return


def read_notes(path: Path) -> list[Note]:
    """Return the lines that a probe left behind; a torn last one is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    notes: list[Note] = []
    for line in lines:
        try:
            notes.append(Note.model_validate_json(line))
        except ValidationError:
            continue
    return notes


# --- words ----------------------------------------------------------------------------------------------------------


def _halved_words(findings: Findings, before: Batching, after: Batching) -> str:
    free = f" of {human_bytes(findings.free_bytes)} free" if findings.free_bytes is not None else ""
    what = (
        f"needs {human_bytes(findings.peak_bytes)}{free}"
        if findings.outcome == "measured"
        else f"runs out of memory{f' ({human_bytes(findings.free_bytes)} free)' if findings.free_bytes else ''}"
    )
    rows = "1 row" if after.micro_batch == 1 else f"{after.micro_batch} rows"
    return (
        f"The longest batch with {before.micro_batch} rows at a time {what}. Trying {rows} at a time and "
        f"{after.accumulation} micro-batches per step; the effective batch stays the same."
    )


def _failed_words(findings: Findings) -> str:
    where = f" in the phase {findings.ended_in}" if findings.ended_in else ""
    return f"The probe ended{where} without an answer ({clean_line(findings.text)}). The run goes on without it."
