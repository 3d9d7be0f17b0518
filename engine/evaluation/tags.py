"""Measure a model that tags words: its loss, and the entities that it finds.

Shapes: B rows, T tokens, C tags.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from engine.data.cleaning.personal import hide_secrets
from engine.data.label_names import entity_words
from engine.data.rendered import Rendered
from engine.data.row_encoders import encode_words
from engine.data.rows import Row
from engine.data.shapes_tags import OUTSIDE
from engine.evaluation.job import Examined, Job
from engine.evaluation.kept_rows import RowGroup, only
from engine.evaluation.measurement import Sample
from engine.evaluation.row_groups import group, tag_groups
from engine.evaluation.scores import score_tags
from engine.objectives.label_batches import TagCollator
from engine.objectives.sequences import IGNORED, make_segment
from engine.objectives.token_classification import tagged_row

NUM_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class TagRow:
    """One row ready for the model: the canonical row, and its tokens with the tags that they teach."""

    row: Row
    rendered: Rendered


@dataclass(frozen=True, slots=True)
class TagScore:
    """Summed loss of the words of a row in nats, how many words have a token, and the tag given to each word."""

    loss: float
    num_words: int
    given: list[str]


def examine(job: Job, *, want_generation: bool) -> Examined:
    """Measure loss and entities of the first `evaluation.max_rows` rows.

    A word beyond the sequence length, or one that the tokenizer drops, counts as outside: whoever uses the model finds
    nothing there either.

    Args:
        job: The measurement.
        want_generation: Whether samples are wanted too.
    """
    rows = _tag_rows(job)
    job.begin(len(rows), len(rows))
    scores = job.unless_too_large("the loss", lambda: _score(job, rows)) or []
    done = list(zip(rows, scores, strict=False))
    num_words = sum(score.num_words for score in scores)
    metrics = score_tags([score.given for score in scores], [row.row["tags"] for row, _ in done], job.metrics)
    loss = {"loss": sum(score.loss for score in scores) / num_words} if num_words else {}
    _remark(job, done)
    return Examined(
        metrics=loss | metrics,
        samples=[_sample(row, score) for row, score in done[:NUM_SAMPLES]] if want_generation else [],
        num_rows=len(scores),
        num_tokens=num_words,
        answers=[_answer(row, score) for row, score in done],
        rows=_groups(done, loss | metrics),
    )


def _groups(done: Sequence[tuple[TagRow, TagScore]], metrics: Mapping[str, float]) -> list[RowGroup]:
    ids = [str(row.row["id"]) for row, _ in done]
    losses = [(score.loss, score.num_words) for _, score in done]
    given, right = [score.given for _, score in done], [row.row["tags"] for row, _ in done]
    return only([*group({"loss": "ratio"}, ids, losses), *tag_groups(ids, given, right, metrics)], metrics)


def _tag_rows(job: Job) -> list[TagRow]:
    wanted = job.rows[: job.recipe.evaluation.max_rows]
    by_id = {row["id"]: row for row in wanted}
    rendered = job.renderer.render_rows(wanted)
    if dropped := rendered.dropped.total():
        job.remarks.append(f"{dropped} of {len(wanted)} {job.kind} rows are not judged: no word of them is left.")
    return [TagRow(by_id[each.id], each) for each in rendered.sequences]


def _remark(job: Job, done: Sequence[tuple[TagRow, TagScore]]) -> None:
    if not done:
        job.remarks.append(f"There is no {job.kind} row to measure the tags of.")
    lost = sum(len(row.row["tags"]) - score.num_words for row, score in done)
    if lost:
        job.remarks.append(
            f"{lost} words of the {job.kind} rows lie beyond the sequence length or have no token; they count as "
            f"{OUTSIDE}, outside of any entity."
        )


def _score(job: Job, rows: Sequence[TagRow]) -> list[TagScore]:
    return job.each(rows, lambda row: len(row.rendered.input_ids), lambda batch: _score_batch(job, batch))


def _score_batch(job: Job, rows: Sequence[TagRow]) -> list[TagScore]:
    segments = [
        make_segment(row.rendered.id, row.rendered.input_ids, row.rendered.trained_mask, row.rendered.targets)
        for row in rows
    ]
    batch = TagCollator(job.tokenizer)([tagged_row([segment]) for segment in segments])
    device = next(job.model.parameters()).device
    labels_BT = batch.pop("labels").to(device)
    with torch.autocast(device.type, dtype=job.precision, enabled=job.precision != torch.float32):
        logits_BTC = job.model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits.float()
    losses_BT = functional.cross_entropy(logits_BTC.mT, labels_BT, ignore_index=IGNORED, reduction="none")
    names, tagged_BT = job.renderer.task.labels, labels_BT != IGNORED
    scores = []
    for at, row in enumerate(rows):
        words = encode_words(job.tokenizer, row.row["tokens"])[1]
        numbers, given = logits_BTC[at].argmax(dim=-1).tolist(), [OUTSIDE] * len(row.row["tags"])
        tagged = torch.nonzero(tagged_BT[at]).flatten().tolist()
        for place in tagged:
            given[words[place]] = names[numbers[place]]
        scores.append(TagScore(float(losses_BT[at].sum()), len(tagged), given))
    return scores


def _sample(row: TagRow, score: TagScore) -> Sample:
    words = row.row["tokens"]
    return Sample(hide_secrets(" ".join(words)), _entities(words, row.row["tags"]), _entities(words, score.given))


def _answer(row: TagRow, score: TagScore) -> dict[str, str]:
    words = row.row["tokens"]
    return {
        "id": str(row.row["id"]),
        "prompt": hide_secrets(" ".join(words)),
        "expected": _entities(words, row.row["tags"]),
        "text": _entities(words, score.given),
    }


def _entities(words: Sequence[str], tags: Sequence[str]) -> str:
    return hide_secrets(", ".join(entity_words(words, tags)) or "(none)")
