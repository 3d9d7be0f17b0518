"""What the worker asks of a probe and what the probe answers: plain data, JSON in and out."""

from typing import Any, Literal

from pydantic import Field

from engine.planning.calibration import LEAST_SPREAD
from engine.planning.plan import MemoryEstimate, Plan
from engine.planning.profiles import Profile

NOTES = "notes.jsonl"
"""File in the scratch folder that a probe writes its lines to."""
Outcome = Literal["measured", "out_of_memory", "failed"]


class ProbeSegment(Profile):
    """One rendered row, as `engine.objectives.sequences.Segment`."""

    row_id: str
    input_ids: list[int]
    labels: list[int]
    targets: list[int] = Field(default_factory=list)


class ProbeRequest(Profile):
    """One probe.

    Attributes:
        plan: The run's plan, its base model pinned.
        folder: Folder of the base model.
        scratch: Folder for everything that the probe writes.
        micro_batch: Rows in memory at once.
        sequences: The sequences that the steps read.
        steps: Indices into them for each micro-batch of each optimizer step.
        held_out: Held-out rows of one evaluation batch.
        small_layers: Depths of the small random models to measure first; none on a processor.
    """

    plan: Plan
    folder: str
    scratch: str
    micro_batch: int
    sequences: list[list[ProbeSegment]]
    steps: list[list[list[int]]]
    held_out: list[dict[str, Any]] = Field(default_factory=list)
    small_layers: list[int] = Field(default_factory=list)


class Note(Profile):
    """One line that a probe leaves behind; what it says counts also when the probe is killed afterwards.

    Attributes:
        begun: Phase that begins.
        phase: Phase that is measured: `loading`, `training`, `evaluation`, `saving`, or `small 2` for a small model.
        tensor_bytes: Peak of its tensors.
        held_bytes: Peak of what was held for them, without the context.
        context_bytes: What the device costs before any tensor.
        free_bytes: What the device had free before that.
        skipped: Phase that was left out, with `text` saying why.
        outcome: How the probe ended; its last line.
        text: First line of an error, or a reason.
    """

    begun: str = ""
    phase: str = ""
    tensor_bytes: int | None = None
    held_bytes: int | None = None
    context_bytes: int | None = None
    free_bytes: int | None = None
    skipped: str = ""
    outcome: Outcome | None = None
    text: str = ""


class Findings(Profile):
    """What a probe found out.

    Attributes:
        outcome: `measured`; `out_of_memory`; `failed` when something else ended it, so that it says little.
        phases: `{phase: peak bytes of tensors}`.
        held_bytes: Highest peak of what was held for tensors, over all phases of the real model.
        context_bytes: What the device costs before any tensor; None when it cannot be told.
        free_bytes: What the device had free before the probe; None when it cannot be told.
        small: `{layers: peak bytes of tensors}` of the small random models.
        ended_in: Phase in which it ended; empty when it came to its end.
        text: Why it ended there.
        skipped: `{phase: why it was left out}`.
        elapsed_s: How long it took.
    """

    outcome: Outcome
    phases: dict[str, int] = Field(default_factory=dict)
    held_bytes: int = 0
    context_bytes: int | None = None
    free_bytes: int | None = None
    small: dict[int, int] = Field(default_factory=dict)
    ended_in: str = ""
    text: str = ""
    skipped: dict[str, str] = Field(default_factory=dict)
    elapsed_s: float = 0.0

    @property
    def peak_bytes(self) -> int:
        """What the run needs of the device: the context, and the most that was held for tensors."""
        return self.held_bytes + (self.context_bytes or 0)

    @property
    def tensor_bytes(self) -> int:
        """Highest peak of tensors over all phases."""
        return max(self.phases.values(), default=0)

    @property
    def fits(self) -> bool | None:
        """Whether the run fits what is free; None when the probe cannot tell.

        Not only whether it ran: some drivers move what does not fit to the host without a word (WSL, unified memory).
        """
        if self.outcome == "out_of_memory":
            return False
        if self.outcome == "failed" or "training" not in self.phases:
            return None
        return self.free_bytes is None or self.peak_bytes <= self.free_bytes


_FRAMEWORKS = ("CUDA context", "process")


def measured_estimate(planned: MemoryEstimate, findings: Findings) -> MemoryEstimate | None:
    """Return an estimate of what a probe measured, in place of what was predicted; None where it did not measure.

    What a probe leaves out stays as it was predicted: merging, and answers longer than the few tokens that it writes.

    Args:
        planned: Of the plan; may be of more rows at once than were probed.
        findings: Of the probe.
    """
    if findings.outcome != "measured" or "training" not in findings.phases:
        return None
    name = next((name for name in _FRAMEWORKS if name in planned.components), _FRAMEWORKS[0])
    framework = planned.components.get(name, 0) if findings.context_bytes is None else findings.context_bytes
    others = {phase: size for phase, size in planned.peaks.items() if phase not in ("training", "saving")}
    unprobed = max((size for phase, size in others.items() if phase not in findings.phases), default=0)
    tensors = max(findings.tensor_bytes, unprobed)
    held = max(findings.held_bytes, tensors)
    return planned.model_copy(
        update={
            "components": {"tensors": tensors, name: framework, "slack": held - tensors},
            "expected_bytes": held + framework,
            "low_bytes": round((1 - LEAST_SPREAD) * (held + framework)),
            "high_bytes": round((1 + LEAST_SPREAD) * (max(held, *others.values(), 0) + framework)),
            "available_bytes": planned.available_bytes if findings.free_bytes is None else findings.free_bytes,
            "basis": "probe",
            "depth": "measured",
            "peaks": planned.peaks | findings.phases,
            "allocated_bytes": tensors,
            "smallest_card_bytes": None,
            "confidence": "normal",
            "notes": [],
        }
    )


SMALL = "small "
"""Begins the name of the phase of a small random model; the number of its layers follows."""


def findings_of(notes: list[Note], *, outcome: Outcome, text: str, elapsed_s: float) -> Findings:
    """Return what the lines of a probe say.

    Args:
        notes: Its lines, in order.
        outcome: How it ended, when no line says so.
        text: Why, when no line says so.
        elapsed_s: How long it took.
    """
    real = [note for note in notes if note.phase and not note.phase.startswith(SMALL)]
    small = [note for note in notes if note.phase.startswith(SMALL)]
    last = next((note for note in reversed(notes) if note.outcome is not None), None)
    device = next((note for note in notes if note.free_bytes is not None or note.context_bytes is not None), Note())
    ended = last.outcome if last is not None and last.outcome is not None else outcome
    begun = next((note.begun for note in reversed(notes) if note.begun), "")
    return Findings(
        outcome=ended,
        phases={note.phase: note.tensor_bytes or 0 for note in real},
        held_bytes=max((note.held_bytes or 0 for note in real), default=0),
        context_bytes=device.context_bytes,
        free_bytes=device.free_bytes,
        small={int(note.phase.removeprefix(SMALL)): note.tensor_bytes or 0 for note in small},
        ended_in="" if ended == "measured" else begun,
        text=last.text if last is not None else text,
        skipped={note.skipped: note.text for note in notes if note.skipped},
        elapsed_s=elapsed_s,
    )
