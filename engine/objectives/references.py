"""What the untouched model makes of the answers: computed once, before the first step.

Every loss that compares with the model as it was needs the log-probabilities of its answers under that model. They are
two numbers a pair, and nothing about them changes while training runs, so that neither a second model nor a second
adapter has to be held: with full fine-tuning that would double the memory, and with an adapter cost a forward pass at
each step. The model is asked before anything has learnt: it is then the base model whatever the method, also where a
method moves a part of the weights into its adapter (PiSSA). Learnt tokens in front of a text (prompt methods) are left
out, because they start as noise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from engine.data.rendered import Ints
from engine.evaluation.batches import in_batches
from engine.evaluation.isolation import undisturbed
from engine.evaluation.job import DEFAULT_MAX_LENGTH
from engine.evaluation.scoring import TokenRow, TokenScorer
from engine.models.loading import compute_dtype
from engine.objectives.pair_batches import mismatched
from engine.objectives.preference_losses import settings_of
from engine.objectives.sequences import IGNORED, Segment, Sequences
from engine.recipe.schema import Recipe

Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class References:
    """What the untouched model makes of all rows of a run, as `make_references` has it.

    Attributes:
        train: Of the training rows, NaN where no step reads one.
        held_out: Of the rows that the run is judged on.
        test: Of the rows put aside.
    """

    train: torch.Tensor
    held_out: torch.Tensor
    test: torch.Tensor


def compares(recipe: Recipe) -> bool:
    """Return whether the loss of a recipe compares with the untouched model."""
    return recipe.goal.signal == "preferences" and settings_of(recipe).uses_reference


def make_references(
    recipe: Recipe,
    model: nn.Module,
    sequences: Sequences,
    places: Sequence[int] | Ints | None = None,
    *,
    pad_id: int = 0,
    micro_batch: int | None = None,
    advance: Advance | None = None,
) -> torch.Tensor:
    """Return the log-probabilities of answers under a model that has learnt nothing yet.

    Args:
        recipe: Precision, sequence length and loss are read.
        model: With its method applied, before the first step.
        sequences: The rows.
        places: Rows that are needed; None for all.
        pad_id: Any token id; it is masked.
        micro_batch: Rows that training holds in memory at once.
        advance: Called with the sequences done and their number; may raise to stop.

    Returns:
        Float32 of shape [rows, sides]: of each side in order, and last, with KTO, of the answer to another prompt
        (`mismatched`). NaN for rows that were not asked for.
    """
    wanted = np.arange(len(sequences)) if places is None else np.asarray(places)
    max_length = recipe.training.max_length or DEFAULT_MAX_LENGTH
    parted = recipe.preference.loss == "kto"
    num_sides = len(sequences.segments[0]) if len(sequences) else 0
    table = torch.full((len(sequences), num_sides + parted), float("nan"))
    cells = [(int(place), side) for place in wanted for side in range(table.shape[1])]
    scorer = TokenScorer(model, precision=compute_dtype(recipe), pad_id=pad_id)

    def segment_of(cell: tuple[int, int]) -> Segment:
        place, side = cell
        return mismatched(sequences, place, max_length) if side == num_sides else sequences.segments[place][side]

    def score(batch: Sequence[tuple[int, int]]) -> list[float]:
        rows = [_token_row(segment_of(cell)) for cell in batch]
        return [-found.loss for found in scorer.score(rows)]

    at_once = (micro_batch or recipe.training.micro_batch or 1) * num_sides * max_length
    done = 0
    with undisturbed(model):
        for part in _parts(cells):
            lengths = {cell: len(segment_of(cell).input_ids) for cell in part}
            for batch, found in in_batches(part, lengths.__getitem__, at_once, score):
                for (place, side), value in zip(batch, found, strict=True):
                    table[place, side] = value
                done += len(batch)
                if advance is not None:
                    advance(done, len(cells))
    return table


_CELLS_AT_ONCE = 4096


def _parts(cells: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield the cells a few thousand at a time: their lengths are looked up, and sorting all would read all rows."""
    for start in range(0, len(cells), _CELLS_AT_ONCE):
        yield cells[start : start + _CELLS_AT_ONCE]


def _token_row(segment: Segment) -> TokenRow:
    return TokenRow(segment.input_ids, [label != IGNORED for label in segment.labels])
