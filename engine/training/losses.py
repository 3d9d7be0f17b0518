"""The loss of expected tokens or labels with part of their probability spread over all others.

Legend of shape suffixes: B micro-batch, S sequence length, V vocabulary or labels.
"""

import torch
from torch.nn import functional

from engine.objectives.sequences import IGNORED


def smoothed_loss(
    logits_BSV: torch.Tensor, labels_BS: torch.Tensor, smoothing: float, num_items: torch.Tensor | int | None
) -> torch.Tensor:
    """Return the cross entropy against smoothed targets, summed over the micro-batch and divided by the step's items.

    Label smoothing as in arXiv 1512.00567: the target has 1 - smoothing and its part of the rest. Like the trainers'
    other losses it does not depend on how a step is cut into micro-batches.

    Args:
        logits_BSV: Scores, each place for the label at the same place.
        labels_BS: Expected ids, `IGNORED` where nothing is learnt.
        smoothing: Share of the probability that is spread.
        num_items: What the whole step learns from; None takes the micro-batch's own.
    """
    labels = labels_BS.reshape(-1).to(logits_BSV.device)
    total = functional.cross_entropy(
        logits_BSV.float().flatten(0, -2), labels, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )
    items = (labels != IGNORED).sum() if num_items is None else torch.as_tensor(num_items, device=total.device)
    return total / items.clamp(min=1)
