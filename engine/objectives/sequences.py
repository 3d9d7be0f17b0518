"""Rows as the trainer takes them: token ids, labels, and for packed sequences where each segment ends.

Legend of shape suffixes: B micro-batch, S sequence length.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import Dataset

from engine.data.rendered import Ints, RenderedRows, RenderedSequences

IGNORED = -100
"""Label of a token that nothing is learnt from; PyTorch's cross entropy skips it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One rendered row, or one piece of a long text.

    Attributes:
        row_id: `file:line` of the row.
        input_ids: Token ids.
        labels: Token ids where the model learns, `IGNORED` elsewhere; the first is always ignored, nothing predicts it.
        targets: What is learnt besides tokens, as `engine.data.encoding.Tokens.targets` has it.
    """

    row_id: str
    input_ids: list[int]
    labels: list[int]
    targets: tuple[int, ...] = ()

    @property
    def num_trained(self) -> int:
        """Number of tokens that the model learns to predict."""
        return sum(label != IGNORED for label in self.labels)


def sequence_row(segments: Sequence[Segment]) -> dict[str, Any]:
    """Return segments behind each other with the columns that TRL takes as already prepared."""
    return {
        "input_ids": [token for segment in segments for token in segment.input_ids],
        "labels": [label for segment in segments for label in segment.labels],
        "seq_lengths": [len(segment.input_ids) for segment in segments],
    }


class Sequences:
    """What the trainer draws from; each is made of one segment, or of several: packed rows, the sides of a pair.

    Args:
        segments: The segments of each; they may be made when they are asked for.
        lengths: Tokens of each, where that is known without looking at them.
        num_trained: Tokens of each that the model learns to predict, likewise.
        as_row: What the objective's collator reads of the segments of one.
        weights: How much each counts in the mean that is a step's loss; None for its trained tokens.
    """

    def __init__(
        self,
        segments: Sequence[Sequence[Segment]],
        lengths: Ints | None = None,
        num_trained: Ints | None = None,
        *,
        as_row: Callable[[Sequence[Segment]], dict[str, Any]] = sequence_row,
        weights: Ints | None = None,
    ) -> None:
        self.segments = segments
        self._as_row = as_row
        self._lengths = lengths
        self._num_trained = num_trained
        self._weights = weights

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def lengths(self) -> Ints:
        """Tokens of each sequence."""
        if self._lengths is None:
            self._lengths = np.array([sum(len(each.input_ids) for each in row) for row in self.segments], np.int64)
        return self._lengths

    @property
    def num_trained(self) -> Ints:
        """Tokens of each sequence that the model learns to predict."""
        if self._num_trained is None:
            self._num_trained = np.array([sum(each.num_trained for each in row) for row in self.segments], np.int64)
        return self._num_trained

    @property
    def weights(self) -> Ints:
        """How much each counts in the loss of a step: trained tokens, rows or pairs."""
        return self.num_trained if self._weights is None else self._weights

    def only(self, indices: Sequence[int]) -> "Sequences":
        """Return some of the sequences."""
        chosen = np.asarray(indices, dtype=np.int64)
        weights = None if self._weights is None else self._weights[chosen]
        return Sequences([self.segments[index] for index in indices], as_row=self._as_row, weights=weights)

    def row_ids(self, indices: Iterable[int]) -> list[str]:
        """Return the rows behind sequences, without repeats and in order."""
        return list(dict.fromkeys(segment.row_id for index in indices for segment in self.segments[index]))

    def dataset(self, *, numbered: bool = False) -> "SequenceRows":
        """Return the rows as a loader takes them.

        Args:
            numbered: Each says as `place` which one it is, so that what is known of it can be looked up.
        """
        return SequenceRows(self.segments, self._as_row, numbered=numbered)


class SequenceRows(Dataset[dict[str, Any]]):
    """Rows with the columns that the objective's collator reads.

    Args:
        segments: The segments of each row.
        as_row: Makes the columns.
        numbered: Add the column `place`, the number of the row.
    """

    def __init__(
        self,
        segments: Sequence[Sequence[Segment]],
        as_row: Callable[[Sequence[Segment]], dict[str, Any]] = sequence_row,
        *,
        numbered: bool = False,
    ) -> None:
        self._segments = segments
        self._as_row = as_row
        self._numbered = numbered

    def __len__(self) -> int:
        return len(self._segments)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._as_row(self._segments[index])
        return {**row, "place": index} if self._numbered else row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))


class SegmentGroups(Sequence[Sequence[Segment]]):
    """Rendered sequences, one or several to a sequence of the trainer, made into segments when they are asked for.

    Args:
        rendered: The rows' own sequences.
        order: Their places, one sequence of the trainer behind another.
        bounds: Where each of those begins in `order`, and its end.
    """

    def __init__(self, rendered: RenderedSequences, order: Ints, bounds: Ints) -> None:
        self._rendered = rendered
        self._order = order
        self._bounds = bounds

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, index: int) -> list[Segment]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Segment]]: ...
    def __getitem__(self, index: int | slice) -> "list[Segment] | list[list[Segment]]":
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        rows = (self._rendered[int(at)] for at in self._order[self._bounds[index] : self._bounds[index + 1]])
        return [make_segment(row.id, row.input_ids, row.trained_mask, row.targets) for row in rows]


def make_segment(
    row_id: str, input_ids: Sequence[int], trained_mask: Sequence[Any], targets: tuple[int, ...] = ()
) -> Segment:
    """Return a segment whose labels follow the mask exactly, except for the first token.

    The trainers shift labels by one, so the label of a first token would be learnt from the end of whatever stands in
    front of it: nothing in a row, another row in a packed sequence.
    """
    labels = [token if trained else IGNORED for token, trained in zip(input_ids, trained_mask, strict=True)]
    if labels:
        labels[0] = IGNORED
    return Segment(row_id, list(input_ids), labels, targets)


def pack(lengths: Sequence[int] | Ints, max_length: int) -> tuple[Ints, Ints]:
    """Fill sequences of at most `max_length` tokens with whole segments, best fit first, longest segments first.

    Best-fit-decreasing as in TRL (arXiv 2404.10830). Deterministic. Segments must not be longer than `max_length`.

    Returns:
        The places of the segments, one sequence behind another, and where each sequence begins there with the end of
        the last.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    longest_first = np.argsort(-sizes, kind="stable")
    sequence_of = np.empty(len(sizes), dtype=np.int64)
    by_space: dict[int, list[int]] = {}
    spaces: list[int] = []
    num_sequences = 0
    for place, length in enumerate(map(int, sizes[longest_first])):
        at = bisect_left(spaces, length)
        if at == len(spaces):
            index, space = num_sequences, max_length
            num_sequences += 1
        else:
            space = spaces[at]
            index = by_space[space].pop()
            if not by_space[space]:
                del spaces[at]
        sequence_of[place] = index
        space_left = space - length
        if not by_space.setdefault(space_left, []):
            insort(spaces, space_left)
        by_space[space_left].append(index)
    order: Ints = longest_first[np.argsort(sequence_of, kind="stable")]
    return order, np.concatenate([[0], np.cumsum(np.bincount(sequence_of, minlength=num_sequences))])


def cut_sequences(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered rows as the trainer takes them, packed or each on its own; no token is read yet."""
    rows = rendered.sequences
    lengths, learnt = rows.lengths, rows.num_learnt
    order, bounds = pack(lengths, max_length) if packed else (np.arange(len(rows)), np.arange(len(rows) + 1))
    segments = SegmentGroups(rows, order, bounds)
    if not len(segments):
        return Sequences(segments)
    return Sequences(
        segments, np.add.reduceat(lengths[order], bounds[:-1]), np.add.reduceat(learnt[order], bounds[:-1])
    )


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
