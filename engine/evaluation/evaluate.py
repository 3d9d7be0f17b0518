"""Measure a model on held-out rows: the frame around what each task measures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from engine.catalog.objectives import Signal
from engine.catalog.tasks import Task
from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.evaluation import hidden_words, labels, pairs, rewarded_pairs, rewards, tags, texts
from engine.evaluation.few_shot import FewShot
from engine.evaluation.generation import EvaluationInterrupted
from engine.evaluation.isolation import undisturbed
from engine.evaluation.job import Emit, Examined, Job
from engine.evaluation.measurement import COMPARED_PHASES, TEST_PHASES, Measurement, Phase, save_measurement
from engine.objectives.references import References
from engine.objectives.rewarding import Rewarding
from engine.out_of_memory import give_back_memory
from engine.recipe.schema import Recipe

__all__ = ["EvaluationInterrupted", "Measurement", "measure"]

_EXAMINERS: dict[Signal, Callable[..., Examined]] = {
    "answers": texts.examine,
    "text": texts.examine,
    "labels": labels.examine,
    "tags": tags.examine,
    "prompts": rewards.examine,
    "preferences": pairs.examine,
    "rewards": rewarded_pairs.examine,
}
"""Called as `examine(job, want_generation=...)`."""


def _examiner(task: Task) -> Callable[..., Examined]:
    return hidden_words.examine if task.head == "masked-lm" else _EXAMINERS[task.signal]


def measure(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    renderer: Renderer,
    rows: Sequence[Row],
    recipe: Recipe,
    *,
    phase: Phase,
    step: int,
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
    want_generation: bool = True,
    folder: Path | None = None,
    micro_batch: int | None = None,
    few_shot: FewShot | None = None,
    rewarding: Rewarding | None = None,
    references: References | None = None,
) -> Measurement:
    """Measure a model; training goes on afterwards as if nothing had happened.

    What is measured is the task's: see the modules that `_EXAMINERS` names.

    Args:
        model: Full, PEFT or 4-bit model.
        rows: Held-out rows in canonical form.
        recipe: The plan's recipe, with every value filled in.
        emit: Called as `emit(type, **payload)` with `evaluation.*`, `samples.generated` and `notice.raised` events.
        should_stop: Asked between batches and at every generated token.
        want_generation: Generate at all; otherwise only the teacher-forced numbers.
        folder: The run's `evaluation/` folder; the measurement is written there when given.
        micro_batch: Rows that training holds in memory at once, where that is no longer what the recipe says.
        few_shot: Examples to put in front of every question; the same rows, questions and answers are measured.
        rewarding: Who judges answers, where a run learns from rewards.
        references: What the untouched model makes of the run's rows, where the loss compares with it.

    Where memory runs out, the same rows are taken in smaller batches, down to single rows; what even then does not fit
    is left out, with a remark and a notice, and the rest is measured.

    Raises:
        EvaluationInterrupted: `should_stop` became true; nothing was written.
    """
    ask, stop = emit or _ignore, should_stop or _never
    at_once = micro_batch or recipe.training.micro_batch or 1
    known = _of_rows(references, phase)
    job = Job(
        model, tokenizer, renderer, rows, recipe, phase, step, ask, stop, at_once, few_shot, rewarding, known, folder
    )
    return _measured(job, want_generation=want_generation)


def _of_rows(references: References | None, phase: Phase) -> torch.Tensor | None:
    """Return what the untouched model makes of the rows that a phase measures; None where nothing compares with it."""
    if references is None:
        return None
    return references.test if phase in TEST_PHASES else references.held_out


def _measured(job: Job, *, want_generation: bool) -> Measurement:
    started = time.monotonic()
    try:
        with undisturbed(job.model):
            found = _examiner(job.renderer.task)(job, want_generation=want_generation)
    finally:
        # What measuring took is not kept from training.
        give_back_memory()
    measurement = _measurement(job, found, time.monotonic() - started)
    if job.folder is not None:
        save_measurement(measurement, job.folder)
    _report(job, measurement)
    return measurement


def _measurement(job: Job, found: Examined, elapsed_s: float) -> Measurement:
    return Measurement(
        phase=job.phase,
        step=job.step,
        metrics=found.metrics,
        samples=found.samples,
        num_rows=found.num_rows,
        num_tokens=found.num_tokens,
        num_generated=found.num_generated,
        elapsed_s=round(elapsed_s, 3),
        answers=found.answers,
        remarks=job.remarks,
        confusion=found.confusion,
        rows=found.rows if job.phase in COMPARED_PHASES else [],
        examples=list(job.few_shot.examples) if job.few_shot else [],
    )


def _report(job: Job, measurement: Measurement) -> None:
    """Emit what was found."""
    # What is wrong with rows is so at each evaluation; it is told once and kept in every file.
    told = measurement.remarks if job.phase in ("before", "test_before") else job.alarms
    shown = {"num_examples": len(measurement.examples)} if job.few_shot else {}
    for remark in told:
        job.emit("notice.raised", severity="warning", code="evaluation.remark", message=remark)
    job.emit(
        "evaluation.completed",
        phase=job.phase,
        step=job.step,
        metrics=measurement.metrics,
        num_rows=measurement.num_rows,
        elapsed_s=measurement.elapsed_s,
        **shown,
    )
    if measurement.samples:
        samples = [asdict(sample) for sample in measurement.samples]
        job.emit("samples.generated", phase=job.phase, step=job.step, samples=samples)


def _ignore(event_type: str, **payload: Any) -> None:
    """Drop an event."""


def _never() -> bool:
    return False
