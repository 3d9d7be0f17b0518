"""Rows as the trainer takes them: token ids, labels, and for packed sequences where each segment ends.

Legend of shape suffixes: B micro-batch, S sequence length.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from engine.data.rendered import RenderedRows

IGNORED = -100
"""Label of a token that nothing is learnt from; PyTorch's cross entropy skips it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One rendered row, or one piece of a long text.

    Attributes:
        row_id: `file:line` of the row.
        input_ids: Token ids.
        labels: Token ids where the model learns, `IGNORED` elsewhere; the first is always ignored, nothing predicts it.
    """

    row_id: str
    input_ids: list[int]
    labels: list[int]

    @property
    def num_trained(self) -> int:
        """Number of tokens that the model learns to predict."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True, slots=True)
class Sequences:
    """What the trainer draws from; each sequence holds one segment, or several when packed."""

    segments: list[list[Segment]]

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [sum(len(segment.input_ids) for segment in sequence) for sequence in self.segments]

    @property
    def num_trained(self) -> list[int]:
        """Tokens of each sequence that the model learns to predict."""
        return [sum(segment.num_trained for segment in sequence) for sequence in self.segments]

    def row_ids(self, indices: Iterable[int]) -> list[str]:
        """Return the rows behind sequences, without repeats and in order."""
        return list(dict.fromkeys(segment.row_id for index in indices for segment in self.segments[index]))

    def dataset(self) -> Dataset:
        """Return the columns that TRL takes as already prepared: `input_ids`, `labels`, `seq_lengths`."""
        return Dataset.from_dict(
            {
                "input_ids": [[i for segment in sequence for i in segment.input_ids] for sequence in self.segments],
                "labels": [[i for segment in sequence for i in segment.labels] for sequence in self.segments],
                "seq_lengths": [[len(segment.input_ids) for segment in sequence] for sequence in self.segments],
            }
        )


def make_segment(row_id: str, input_ids: Sequence[int], trained_mask: Sequence[Any]) -> Segment:
    """Return a segment whose labels follow the mask exactly, except for the first token.

    The trainers shift labels by one, so the label of a first token would be learnt from the end of whatever stands in
    front of it: nothing in a row, another row in a packed sequence.
    """
    labels = [token if trained else IGNORED for token, trained in zip(input_ids, trained_mask, strict=True)]
    if labels:
        labels[0] = IGNORED
    return Segment(row_id, list(input_ids), labels)


def pack(segments: Sequence[Segment], max_length: int) -> list[list[Segment]]:
    """Fill sequences of at most `max_length` tokens with whole segments, best fit first, longest segments first.

    Best-fit-decreasing as in TRL (arXiv 2404.10830). Deterministic. Segments must not be longer than `max_length`.
    """
    bins: list[list[Segment]] = []
    bins_by_space: dict[int, list[int]] = {}
    spaces: list[int] = []
    for segment in sorted(segments, key=lambda piece: -len(piece.input_ids)):
        length = len(segment.input_ids)
        at = bisect_left(spaces, length)
        if at == len(spaces):
            index, space = len(bins), max_length
            bins.append([segment])
        else:
            space = spaces[at]
            index = bins_by_space[space].pop()
            if not bins_by_space[space]:
                del spaces[at]
            bins[index].append(segment)
        space_left = space - length
        if not bins_by_space.setdefault(space_left, []):
            insort(spaces, space_left)
        bins_by_space[space_left].append(index)
    return bins


def cut_sequences(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered rows as the trainer takes them, packed or each on its own."""
    segments = [make_segment(row.id, row.input_ids, row.trained_mask) for row in rendered.sequences]
    return Sequences(pack(segments, max_length) if packed else [[segment] for segment in segments])


@dataclass(frozen=True, slots=True)
class SequenceCollator:
    """Pad the sequences of a micro-batch on the right.

    Packed sequences carry `position_ids` that start again at each segment and no attention mask: transformers builds
    the block-diagonal mask from the restarts, so that segments do not see each other. Others carry `attention_mask`.
    """

    pad_token_id: int
    packed: bool

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `labels` and `attention_mask` or `position_ids`, each of shape [B, S].

        Without rows, which is what a process reads that has no part in the rest of a step, there is nothing.
        """
        if not rows:
            return {}
        longest = max(len(row["input_ids"]) for row in rows)
        batch = {
            "input_ids": torch.tensor([_padded(row["input_ids"], longest, self.pad_token_id) for row in rows]),
            "labels": torch.tensor([_padded(row["labels"], longest, IGNORED) for row in rows]),
        }
        if self.packed:
            batch["position_ids"] = torch.tensor([_positions(row["seq_lengths"], longest) for row in rows])
        else:
            ones = [[1] * len(row["input_ids"]) for row in rows]
            batch["attention_mask"] = torch.tensor([_padded(mask, longest, 0) for mask in ones])
        return batch


def _padded(values: list[int], length: int, filler: int) -> list[int]:
    return values + [filler] * (length - len(values))


def _positions(segment_lengths: Sequence[int], length: int) -> list[int]:
    """Return positions that restart at each segment; padding is a segment of its own."""
    spare = length - sum(segment_lengths)
    return [position for size in (*segment_lengths, spare) for position in range(size)]
