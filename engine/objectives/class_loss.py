"""The loss of classes: cross entropy, or one yes-or-no for each class where a text can have several.

Shapes: B rows, C classes.

Sources: focal loss, Lin et al. 2017 (https://arxiv.org/abs/1708.02002); balanced class weights as scikit-learn's
`compute_class_weight("balanced")`: rows / (classes x rows of the class).
"""

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from engine.catalog.tasks import Task


def targets_of(numbers: Sequence[Sequence[int]], task: Task) -> torch.Tensor:
    """Return the classes of rows: their numbers [B], or zeros and ones [B, C] where a text can have several."""
    if not task.multi_label:
        return torch.tensor([row[0] for row in numbers])
    targets_BC = torch.zeros(len(numbers), len(task.labels))
    for place, row in enumerate(numbers):
        targets_BC[place, list(row)] = 1.0
    return targets_BC


def class_losses(
    logits_BC: torch.Tensor,
    targets: torch.Tensor,
    *,
    multi_label: bool,
    weights_C: torch.Tensor | None = None,
    focal_gamma: float = 0.0,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the loss of each row in nats, of shape [B].

    Args:
        logits_BC: What the head gives out.
        targets: From `targets_of`.
        multi_label: A text can have several classes; the loss of a row is then the mean over the classes.
        weights_C: How much each class counts; of several classes, how much its presence counts.
        focal_gamma: Above 0, rows that the model is sure of and right about count less: (1 - p) ** gamma.
        smoothing: Share of the target that is spread over all classes; of several classes, between yes and no.
    """
    if multi_label:
        smoothed_BC = targets * (1 - smoothing) + smoothing / 2
        losses_BC = functional.binary_cross_entropy_with_logits(
            logits_BC, smoothed_BC, pos_weight=weights_C, reduction="none"
        )
        if focal_gamma:
            right_BC = torch.where(targets > 0, logits_BC.sigmoid(), (-logits_BC).sigmoid())
            losses_BC = losses_BC * (1 - right_BC) ** focal_gamma
        return losses_BC.mean(dim=-1)
    losses_B = functional.cross_entropy(logits_BC, targets, reduction="none", label_smoothing=smoothing)
    if focal_gamma:
        right_B = torch.exp(-functional.cross_entropy(logits_BC, targets, reduction="none"))
        losses_B = losses_B * (1 - right_B) ** focal_gamma
    return losses_B if weights_C is None else losses_B * weights_C[targets]


def balanced_weights(
    counts: Mapping[str, int], labels: Sequence[str], *, multi_label: bool, num_rows: int
) -> torch.Tensor:
    """Return how much each class counts so that all count the same together, of shape [C].

    Args:
        counts: Training rows of each class.
        labels: Names of the classes in the order of their numbers.
        multi_label: A text can have several classes: the weight is rows without the class over rows with it.
        num_rows: Training rows.
    """
    found = torch.tensor([float(counts.get(label, 0)) for label in labels])
    if multi_label:
        return (num_rows - found).clamp(min=1.0) / found.clamp(min=1.0)
    present = int((found > 0).sum())
    return torch.where(found > 0, found.sum() / (max(1, present) * found.clamp(min=1.0)), torch.ones(()))
