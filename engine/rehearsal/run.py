"""From a plan to what its run needs: carry it through on hollow tensors and read the trace."""

import time
import traceback
from contextlib import nullcontext

from transformers import PretrainedConfig

from engine.planning.plan import Plan
from engine.planning.rehearsal import RehearsalResult
from engine.recipe.problems import Problem, ProblemError
from engine.rehearsal.after import STAGES
from engine.rehearsal.allocator import reserved_band, smallest_card
from engine.rehearsal.cuda import as_on_cuda
from engine.rehearsal.hollow import HollowMode
from engine.rehearsal.kernels import own_memory
from engine.rehearsal.models import model_config
from engine.rehearsal.peaks import components_at, consumers_at, find_peaks
from engine.rehearsal.step import train
from engine.rehearsal.trace import Trace
from engine.rehearsal.tracer import Tracer
from engine.text import clean_line, human_bytes


def rehearse(plan: Plan, key: str) -> RehearsalResult:
    """Return the memory of a run without running it.

    Args:
        plan: With every value filled in; its model's `config.json` is read where there is one, no weights.
        key: Of the result, see `engine.planning.rehearse.rehearsal_key`.

    Raises:
        ProblemError: The model cannot be built or its training cannot be carried out without content.
    """
    started_s = time.process_time()
    if plan.task.signal == "prompts":
        # What a model writes decides how long its rows get, and without weights it writes nothing.
        message = "What a model writes cannot be rehearsed."
        raise ProblemError(Problem("rehearsal.writes", message, "The formula counts answers of full length."))
    config = model_config(plan.model)
    trace, notes = _carry_through(plan, config)
    low = high = card = None
    if plan.device.kind == "cuda":
        low, high = reserved_band(trace)
        card = smallest_card(trace)
    peaks = {phase: peak for phase, peak in find_peaks(trace).items() if phase != "loading"}
    phase = max(peaks, key=lambda name: peaks[name].num_bytes)
    at = peaks[phase].event
    return RehearsalResult(
        key=key,
        device_kind=plan.device.kind,
        peaks={name: peak.num_bytes for name, peak in peaks.items()},
        peak_phase=phase,
        components=components_at(trace, at),
        consumers=consumers_at(trace, at),
        reserved_low_bytes=low,
        reserved_high_bytes=high,
        smallest_card_bytes=card,
        num_layers=config.get_text_config().num_hidden_layers,
        cpu_s=round(time.process_time() - started_s, 3),
        confidence="low" if notes else "normal",
        notes=[*notes, *_remarks(plan)],
    )


def _carry_through(plan: Plan, config: PretrainedConfig) -> tuple[Trace, list[str]]:
    """Return the trace, and what could not be rehearsed."""
    tracer = Tracer()
    on_cuda = plan.device.kind == "cuda"
    notes: list[str] = []
    mode = HollowMode(tracer.note, special=own_memory(tracer, on_cuda=on_cuda))
    with mode, as_on_cuda(plan, tracer) if on_cuda else nullcontext():
        try:
            rehearsed = train(plan, config, mode, tracer)
        except ProblemError:
            raise
        except Exception as error:
            traceback.print_exc()
            raise ProblemError(_cannot("training", error)) from error
        for phase, stage in STAGES.items():
            tracer.phase(phase)
            try:
                stage(rehearsed, mode, tracer)
            except Exception as error:
                # A part that is left out is said so; the others are still worth knowing.
                traceback.print_exc()
                notes.append(_cannot(phase, error).message)
    # What is released from here on belongs to no phase of the run.
    trace = Trace(list(tracer.trace.events), tracer.trace.marks, tracer.trace.names, tracer.trace.cleared)
    return trace, notes


def _cannot(phase: str, error: Exception) -> Problem:
    text = clean_line(f"{type(error).__name__}: {str(error).strip().split(chr(10), 1)[0]}", max_chars=240)
    return Problem(
        "rehearsal.cannot",
        f"The {phase} of this model cannot be rehearsed ({text}).",
        "The estimate is the formula's; start with a small micro-batch.",
        "model.base",
    )


def _remarks(plan: Plan) -> list[str]:
    """Return what the person should know of how it was rehearsed."""
    recipe = plan.recipe
    remarks = []
    if plan.device.kind == "cuda" and recipe.training.optimizer == "paged_adamw_8bit":
        remarks.append("Paged optimizer states are counted as host memory; the driver moves them when a GPU is full.")
    if plan.device.kind == "cuda" and recipe.method.facts.bits is not None and recipe.delivery.merge:
        needed = 2 * plan.model.num_params
        remarks.append(
            f"Merging loads the base model again in 16 bits ({human_bytes(needed)}): on the GPU where that fits, "
            "in host memory where it does not."
        )
    return remarks
