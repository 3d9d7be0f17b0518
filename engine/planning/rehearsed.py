"""From what a rehearsal found to the estimate that a plan shows."""

from collections.abc import Mapping

from engine.planning.calibration import Calibration, middle_ratio, ratio_band
from engine.planning.memory import CUDA_CONTEXT_BYTES, NCCL_BYTES, PROCESS_BASE_BYTES
from engine.planning.plan import MemoryEstimate, Plan
from engine.planning.rehearsal import RehearsalResult
from engine.recipe.problems import ProblemError
from engine.text import human_bytes

STANDING = ("model weights", "quantisation constants", "adapter", "gradients", "optimizer states", "cuBLAS workspace")
WHOLE = ("merged model", "copies for the checkpoint")
"""Components that stay, and those made once in large pieces; the others come and go and leave holes in a processor's
heap."""
_LEAVE_HOLES = ("training", "evaluation")
SMALL_PARTS = "small parts"
_LINKS_ASSUMED = f"What the links between GPUs take is assumed ({human_bytes(NCCL_BYTES)}), not rehearsed."
_SLIVER = 0.0005
_HOLES_FULL = 0.2
_HOLES_ADAPTER = 0.5
"""Holes of the C heap as a share of what comes and goes: measured 0.0 to 0.25 in full fine-tuning, 0.6 to 0.8 of what
moves with adapters and their many small temporaries."""


def estimate_from(result: RehearsalResult, plan: Plan, calibration: Calibration | None = None) -> MemoryEstimate:
    """Return the estimate of a plan's memory that a rehearsal gives.

    On a GPU the run needs what the allocator's replay needs at least, with the CUDA context; on a processor it needs
    its tensors, the process around them and the holes of its heap. 8 % to both sides without a calibration, what was
    measured and at least 3 % with one.

    Args:
        result: What the rehearsal of this plan found.
        plan: Says where the run computes and what is free there.
        calibration: What was measured on this machine.
    """
    allocated = result.peaks[result.peak_phase]
    shared = plan.steps.num_gpus > 1
    if result.device_kind == "cuda":
        framework, most_framework = _context(calibration)
        least, most = result.reserved_low_bytes or allocated, result.smallest_card_bytes or allocated
        held = min(least, most)
        name = "CUDA context"
        if shared:
            # The rehearsal is one process; what the links take is outside of its allocator.
            framework, most_framework = framework + NCCL_BYTES, most_framework + NCCL_BYTES
    else:
        framework, most_framework = PROCESS_BASE_BYTES, round(1.3 * PROCESS_BASE_BYTES)
        held, most = _with_holes(result, plan, 1), _with_holes(result, plan, 2)
        name = "process"
    low_ratio, high_ratio = ratio_band(calibration)
    slack = max(0, round(middle_ratio(calibration) * held) - allocated)
    expected = allocated + slack + framework
    return MemoryEstimate(
        components=_shown_components(result.components, {name: framework, "slack": slack}),
        expected_bytes=expected,
        low_bytes=min(expected, round(low_ratio * allocated + 0.85 * framework)),
        high_bytes=max(expected, round(high_ratio * most) + most_framework),
        available_bytes=plan.memory.available_bytes,
        where=plan.memory.where,
        basis=_basis(calibration),
        depth="simulated",
        peaks=result.peaks,
        allocated_bytes=allocated,
        smallest_card_bytes=None if result.smallest_card_bytes is None else result.smallest_card_bytes + framework,
        confidence="low" if shared else result.confidence,
        notes=[*result.notes, _LINKS_ASSUMED] if shared else result.notes,
    )


def _shown_components(tensors: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """Return components without those too small to be seen: four bytes of a counter are no component.

    Together they are one, or part of the slack where even that is too small.
    """
    least = _SLIVER * sum(tensors.values())
    shown = {name: size for name, size in tensors.items() if size >= least}
    rest = sum(tensors.values()) - sum(shown.values())
    if rest >= least:
        return {**shown, SMALL_PARTS: rest, **others}
    return {**shown, **others, "slack": others["slack"] + rest}


def not_rehearsed(plan: Plan, error: ProblemError) -> MemoryEstimate:
    """Return the plan's own estimate marked with low confidence, and why it could not be rehearsed."""
    why = [problem.message for problem in error.problems]
    return plan.memory.model_copy(update={"confidence": "low", "notes": [*plan.memory.notes, *why]})


def _context(calibration: Calibration | None) -> tuple[int, int]:
    measured = calibration.context_bytes if calibration is not None else None
    if measured is not None:
        return measured, round(1.05 * measured)
    return CUDA_CONTEXT_BYTES, round(1.3 * CUDA_CONTEXT_BYTES)


def _with_holes(result: RehearsalResult, plan: Plan, times: int) -> int:
    """Return what the highest phase reaches with the holes of the C heap.

    A phase with fewer bytes reaches higher where more of them come and go. Of phases below the peak only the sum is
    known: what the formula knows to stay is taken off it.

    Args:
        result: What the rehearsal found.
        plan: Says how the weights learn; its own estimate says what stays.
        times: How many times the holes count.
    """
    share = _HOLES_FULL if plan.recipe.method.facts.trains_base else _HOLES_ADAPTER
    moving = sum(size for name, size in result.components.items() if name not in STANDING + WHOLE)
    peak = result.peaks[result.peak_phase]
    reached = [peak + times * (share * moving + 0.02 * (peak - moving))]
    staying = sum(size for name, size in plan.memory.components.items() if name in STANDING)
    for phase in _LEAVE_HOLES:
        size = result.peaks.get(phase, 0)
        if phase != result.peak_phase and size:
            reached.append(size + times * share * max(0, size - staying))
    return round(max(reached))


def _basis(calibration: Calibration | None) -> str:
    count = len(calibration.memory_ratios) if calibration is not None else 0
    return f"rehearsal, checked against {count} measurements" if count else "rehearsal"
