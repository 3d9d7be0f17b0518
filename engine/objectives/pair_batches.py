"""Answers that are compared, as tensors: the sides of pairs under each other, and what a model makes of them.

Shapes: B rows (pairs, or single answers), K sides of a row, N = K x B sequences with all first sides in front of all
second ones, S tokens, M trained tokens of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from engine.data.rendered import RenderedRows, RenderedSequences
from engine.objectives.sequences import IGNORED, Segment, SegmentGroups, Sequences, make_segment


def side_row(segments: Sequence[Segment]) -> dict[str, Any]:
    """Return what the collator reads of a row: its sides, and of a single answer whether it is a good one."""
    return {
        "sides": [(segment.input_ids, segment.labels) for segment in segments],
        "good": bool(segments[0].targets[0]) if len(segments) == 1 and segments[0].targets else True,
    }


def grouped(rendered: RenderedRows) -> Sequences:
    """Return rendered rows with all sides of a row together; each row counts once, however long it is."""
    rows = rendered.sequences
    # The renderer keeps or drops the sides of a row together, so that the first row tells how many all have.
    bounds = np.arange(0, len(rows) + 1, 2 if _begins_with_pair(rows) else 1)
    segments = SegmentGroups(rows, np.arange(len(rows)), bounds)
    if not len(segments):
        return gathered_sides(segments)
    return Sequences(
        segments,
        np.add.reduceat(rows.lengths, bounds[:-1]),
        np.add.reduceat(rows.num_learnt, bounds[:-1]),
        as_row=side_row,
        weights=np.ones(len(segments), dtype=np.int64),
    )


def _begins_with_pair(rows: RenderedSequences) -> bool:
    return len(rows) > 1 and rows.row_id(0) == rows.row_id(1) and (rows[0].targets, rows[1].targets) == ((1,), (0,))


def gathered_sides(segments: Sequence[Sequence[Segment]]) -> Sequences:
    """Return segments as the trainers of pairs take them."""
    return Sequences(segments, as_row=side_row, weights=np.ones(len(segments), dtype=np.int64))


@dataclass(frozen=True, slots=True)
class SideCollator:
    """Pads the sides of a micro-batch on the right.

    Attributes:
        pad_id: Fills up; it is masked, so that any id will do where the tokenizer names none.
    """

    pad_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `labels` [N, S], `good` [B], and `places` [B] of numbered rows.

        Without rows, which is what a process reads that has no part in the rest of a step, there is nothing.
        """
        if not rows:
            return {}
        num_sides = len(rows[0]["sides"])
        batch = padded([row["sides"][side] for side in range(num_sides) for row in rows], self.pad_id)
        batch["good"] = torch.tensor([row["good"] for row in rows])
        if "place" in rows[0]:
            batch["places"] = torch.tensor([row["place"] for row in rows])
        return batch


def padded(sequences: Sequence[tuple[list[int], list[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Return `(ids, labels)` as `input_ids`, `attention_mask` and `labels`, each of shape [N, S]."""
    longest = max(len(ids) for ids, _ in sequences)
    return {
        "input_ids": torch.tensor([ids + [pad_id] * (longest - len(ids)) for ids, _ in sequences]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in sequences]),
        "labels": torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in sequences]),
    }


def log_probs(
    model: nn.Module, batch: dict[str, torch.Tensor], *, fused_head: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed log-probability of the trained tokens of each sequence in nats, and their number; both [N].

    Args:
        model: A causal model, with or without adapter.
        batch: `input_ids`, `attention_mask` and `labels`.
        fused_head: Use TRL's output layer, which the model must have (`add_fused_lm_head`): it never holds all logits.
    """
    targets_NS = batch["labels"][:, 1:]
    trained_NS = targets_NS != IGNORED
    width = targets_NS.shape[1]
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if fused_head:
        told_NS = model(**inputs, labels=batch["labels"], fused_lm_head=True).log_probs[:, -width:].float()
        return (told_NS * trained_NS).sum(dim=1), trained_NS.sum(dim=1)
    # Learnt tokens that a prompt method puts in front have positions of their own, before those of the text.
    logits_NSV = model(**inputs, use_cache=False).logits[:, -(width + 1) : -1]
    told_M = -functional.cross_entropy(logits_NSV[trained_NS].float(), targets_NS[trained_NS], reduction="none")
    told_NS = told_M.new_zeros(targets_NS.shape).masked_scatter(trained_NS, told_M)
    return told_NS.sum(dim=1), trained_NS.sum(dim=1)


def mismatched(sequences: Sequences, place: int, max_length: int) -> Segment:
    """Return the prompt of one row with an answer of the next one: what KTO measures the divergence on.

    Args:
        sequences: Rows with one side or two.
        place: The row that gives the prompt; the one behind it, in the order of the data, gives the answer.
        max_length: Longest sequence in tokens; the prompt loses its beginning where both do not fit.
    """
    own = sequences.segments[place][0]
    other = sequences.segments[(place + 1) % len(sequences)]
    answer = _answer(other[place % len(other)])
    prompt = own.input_ids[: first_trained(own)]
    answer = answer[: max_length - 1]
    prompt = prompt[-(max_length - len(answer)) :]
    return make_segment(own.row_id, [*prompt, *answer], [0] * len(prompt) + [1] * len(answer))


def first_trained(segment: Segment) -> int:
    """Return where the first answer of a segment begins."""
    return next((place for place, label in enumerate(segment.labels) if label != IGNORED), len(segment.labels))


def _answer(segment: Segment) -> list[int]:
    return segment.input_ids[first_trained(segment) :]
