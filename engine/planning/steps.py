"""How the rows are cut into optimizer steps, as the trainer will cut them."""

import math

from engine.planning.plan import Steps
from engine.planning.profiles import DataProfile, LengthProfile

EVALUATIONS = 8
CHECKPOINTS = 10


def count_sequences(data: DataProfile, max_length: int, *, packing: bool, text: bool) -> int:
    """Return how many sequences one epoch has.

    Args:
        data: Facts of the data.
        max_length: Tokens of the longest sequence.
        packing: Whether several rows share a sequence.
        text: Whether the rows are plain text, whose long rows become several sequences.
    """
    if data.lengths is None or not (packing or text):
        return data.num_train
    if not data.num_train:
        return 0
    filled = data.lengths.total / max_length
    if packing:
        return max(1, math.ceil(filled))
    # The last window of a long row is half full in the mean; a short row is one window.
    short = data.num_train * covered_share(data.lengths, max_length)
    return max(1, data.num_train, math.ceil(filled + (data.num_train - short) / 2))


def _known_shares(lengths: LengthProfile) -> list[tuple[float, int]]:
    """Return `[(share of rows, length that covers it)]` from 0 to 1."""
    if lengths.covered:
        return [(0.0, 0), *((rows / lengths.count, length) for length, rows in lengths.covered)]
    quantiles = ((0.5, lengths.p50), (0.9, lengths.p90), (0.99, lengths.p99), (1.0, lengths.longest))
    return [(0.0, 0), *quantiles]


def mean_tokens(lengths: LengthProfile, max_length: int) -> float:
    """Return the mean length of a row after cutting, from the few lengths whose share is known."""
    known = _known_shares(lengths)
    cut = 0.0
    for (share_a, length_a), (share_b, length_b) in zip(known, known[1:], strict=False):
        over_a, over_b = max(0, length_a - max_length), max(0, length_b - max_length)
        cut += (share_b - share_a) * (over_a + over_b) / 2
    return max(1.0, min(lengths.mean - cut, max_length))


def rows_cut(lengths: LengthProfile, max_length: int) -> int:
    """Return about how many rows are longer than `max_length`, from the few lengths whose share is known."""
    if lengths.longest <= max_length:
        return 0
    share = 1.0
    known = _known_shares(lengths)
    for (share_a, length_a), (share_b, length_b) in zip(known, known[1:], strict=False):
        if length_b > max_length:
            inside = (max_length - length_a) / max(1, length_b - length_a)
            share = 1 - (share_a + (share_b - share_a) * min(1.0, max(0.0, inside)))
            break
    return max(1, round(share * lengths.count))


def covered_share(lengths: LengthProfile, max_length: int) -> float:
    """Return the share of the rows that `max_length` does not cut, from 0 to 1."""
    return 1 - rows_cut(lengths, max_length) / lengths.count if lengths.count else 1.0


def total_steps(sequences: int, effective_batch: int, epochs: float, max_steps: int | None) -> tuple[int, int]:
    """Return optimizer steps per epoch and of the whole run; the last step of an epoch takes what is left."""
    per_epoch = math.ceil(sequences / effective_batch)
    if not per_epoch:
        return 0, 0
    # The epsilon keeps 0.1 * 30 (3.0000000000000004) at three steps.
    by_epochs = max(1, math.ceil(per_epoch * epochs - 1e-9))
    return per_epoch, by_epochs if max_steps is None else max_steps


def make_steps(
    sequences: int,
    *,
    effective_batch: int,
    micro_batch: int,
    num_gpus: int = 1,
    epochs: float,
    max_steps: int | None,
    evaluate_every: int | None,
    checkpoint_every: int | None,
) -> Steps:
    """Return the cut of a run; intervals that are None become about eight evaluations and ten checkpoints."""
    per_epoch, total = total_steps(sequences, effective_batch, epochs, max_steps)
    return Steps(
        micro_batch=micro_batch,
        accumulation=math.ceil(effective_batch / (micro_batch * num_gpus)),
        num_gpus=num_gpus,
        steps_per_epoch=per_epoch,
        total_steps=total,
        evaluate_every=evaluate_every or max(1, math.ceil(total / EVALUATIONS)),
        checkpoint_every=checkpoint_every or max(1, math.ceil(total / CHECKPOINTS)),
    )
