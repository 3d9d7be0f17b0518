"""Measure a model that tells classes apart: its loss, and how often it is right.

Shapes: B rows, T tokens, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from engine.data.cleaning.personal import hide_secrets
from engine.data.rows import Row
from engine.evaluation.job import Examined, Job
from engine.evaluation.kept_rows import RowGroup
from engine.evaluation.measurement import Confusion, Sample
from engine.evaluation.row_groups import label_groups, mean_group
from engine.evaluation.scores import score_labels
from engine.objectives.class_loss import class_losses, targets_of
from engine.objectives.label_batches import LabelCollator

NUM_SAMPLES = 3
"""Rows whose classes are shown as samples."""
SURE = 0.5
"""Probability from which on a class counts as given, where a text can have several."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row ready for the model.

    Attributes:
        row: The canonical row.
        input_ids: Token ids, cut to the sequence length.
        targets: Numbers of its classes.
    """

    row: Row
    input_ids: list[int]
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelScore:
    """What a model makes of one row: its loss in nats, the numbers of the classes that it gives, what is right."""

    loss: float
    given: tuple[int, ...]
    right: tuple[int, ...]


def examine(job: Job, *, want_generation: bool) -> Examined:
    """Measure loss and classes of the first `evaluation.max_rows` rows; nothing is written.

    Args:
        job: The measurement.
        want_generation: Whether samples are wanted too.
    """
    rows = label_rows(job)
    job.begin(len(rows), len(rows))
    scores = job.unless_too_large("the loss", lambda: _score(job, rows)) or []
    samples = [_sample(job, row, score) for row, score in zip(rows, scores, strict=False)][:NUM_SAMPLES]
    metrics, confusion = _metrics(job, scores)
    loss = {"loss": sum(score.loss for score in scores) / len(scores)} if scores else {}
    if not rows:
        job.remarks.append(f"There is no {job.kind} row to measure the classes of.")
    return Examined(
        confusion=confusion,
        metrics=loss | metrics,
        samples=samples if want_generation else [],
        num_rows=len(scores),
        answers=[_answer(job, row, score) for row, score in zip(rows, scores, strict=False)],
        rows=_groups(rows[: len(scores)], scores, loss | metrics),
    )


def _groups(rows: Sequence[LabelRow], scores: Sequence[LabelScore], metrics: Mapping[str, float]) -> list[RowGroup]:
    ids = [str(row.row["id"]) for row in rows]
    given, right = [score.given for score in scores], [score.right for score in scores]
    return [*mean_group("loss", ids, [score.loss for score in scores]), *label_groups(ids, given, right, metrics)]


def _metrics(job: Job, scores: Sequence[LabelScore]) -> tuple[dict[str, float], Confusion | None]:
    task = job.renderer.task
    given = [[task.labels[number] for number in score.given] for score in scores]
    right = [[task.labels[number] for number in score.right] for score in scores]
    if task.multi_label:
        return score_labels(given, right, task.labels, job.metrics, multi_label=True)
    return score_labels([one for (one,) in given], [one for (one,) in right], task.labels, job.metrics)


def label_rows(job: Job) -> list[LabelRow]:
    """Return the rows to be judged as the model reads them; rows without any tokens are left out with a remark."""
    wanted = job.rows[: job.recipe.evaluation.max_rows]
    rendered = job.renderer.render_rows(wanted)
    if dropped := rendered.dropped.total():
        job.remarks.append(f"{dropped} of {len(wanted)} {job.kind} rows are not judged: they have no tokens.")
    by_id = {row["id"]: row for row in wanted}
    return [LabelRow(by_id[each.id], each.input_ids, each.targets) for each in rendered.sequences]


def _score(job: Job, rows: Sequence[LabelRow]) -> list[LabelScore]:
    return job.each(rows, lambda row: len(row.input_ids), lambda batch: _score_batch(job, batch))


def _score_batch(job: Job, rows: Sequence[LabelRow]) -> list[LabelScore]:
    task = job.renderer.task
    logits_BC = class_logits(job, rows)
    targets_BC = targets_of([row.targets for row in rows], task).to(logits_BC.device)
    losses_B = class_losses(logits_BC, targets_BC, multi_label=task.multi_label)
    if task.multi_label:
        given = [tuple(torch.nonzero(row > SURE).flatten().tolist()) for row in logits_BC.sigmoid()]
    else:
        given = [(int(number),) for number in logits_BC.argmax(dim=-1)]
    return [LabelScore(float(loss), guess, row.targets) for loss, guess, row in zip(losses_B, given, rows, strict=True)]


def class_logits(job: Job, rows: Sequence[LabelRow]) -> torch.Tensor:
    """Return what the head gives out for each row, of shape [B, C] in float32."""
    batch = LabelCollator(job.tokenizer, job.renderer.task)([{"input_ids": row.input_ids} for row in rows])
    device = next(job.model.parameters()).device
    with torch.autocast(device.type, dtype=job.precision, enabled=job.precision != torch.float32):
        output = job.model(**{name: tensor.to(device) for name, tensor in batch.items()})
    logits: torch.Tensor = output.logits.float()
    return logits


def _names(job: Job, numbers: Sequence[int]) -> str:
    return ", ".join(job.renderer.task.labels[number] for number in numbers) or "(none)"


def _sample(job: Job, row: LabelRow, score: LabelScore) -> Sample:
    return Sample(hide_secrets(row.row["text"]), _names(job, score.right), _names(job, score.given))


def _answer(job: Job, row: LabelRow, score: LabelScore) -> dict[str, str]:
    return {
        "id": str(row.row["id"]),
        "prompt": hide_secrets(row.row["text"]),
        "expected": _names(job, score.right),
        "text": _names(job, score.given),
    }
