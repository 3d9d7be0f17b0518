"""What a sequence length makes of token ids: which sequences there are, and what is lost; all without reading an id."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from engine.data.frames import NO_LIMIT, Frame
from engine.data.rendered import Ints, Rendered, RenderedSequences
from engine.data.token_store import TokenStore
from engine.planning.profiles import LengthCut

MOST_LENGTHS = 16
_SHORTEST = 32


@dataclass(frozen=True, slots=True)
class Gaps:
    """Tokens inside of sequences that are left out: from `begins` to `ends`, places in the whole sequence."""

    begins: Ints
    ends: Ints

    def only(self, indices: Ints) -> "Gaps":
        """Return those of some sequences."""
        return Gaps(self.begins[indices], self.ends[indices])


class CutRows(RenderedSequences):
    """Sequences of at most so many tokens, made when they are asked for.

    Args:
        store: Whole sequences.
        places: Of each sequence its place in the store.
        begins: Its first token there.
        ends: The token after its last one there.
        frame: What stands around windows of plain text.
        gaps: What is left out inside of each; None for nothing. Nothing of it is trained.
    """

    def __init__(
        self,
        store: TokenStore,
        places: Ints,
        begins: Ints,
        ends: Ints,
        frame: Frame | None = None,
        gaps: Gaps | None = None,
    ) -> None:
        self._store = store
        self._places, self._begins, self._ends = places, begins, ends
        self._frame = Frame() if frame is None else frame
        self._gaps = Gaps(ends, ends) if gaps is None else gaps

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Rendered: ...
    @overload
    def __getitem__(self, index: slice) -> "CutRows": ...
    def __getitem__(self, index: int | slice) -> "Rendered | CutRows":
        if isinstance(index, slice):
            return self.only(np.arange(len(self))[index])
        store, place = self._store, int(self._places[index])
        begin, end, whole = int(self._begins[index]), int(self._ends[index]), int(store.lengths[place])
        ids = store.input_ids(place, begin, end).tolist()
        mask = [0] * len(ids)
        for first, after in store.runs(place):
            first, after = max(first, begin) - begin, min(after, end) - begin
            if after > first:
                mask[first:after] = [1] * (after - first)
        gap = slice(int(self._gaps.begins[index]) - begin, int(self._gaps.ends[index]) - begin)
        del ids[gap], mask[gap]
        if store.is_text[place]:
            head, tail = self._frame.head, self._frame.tail
            ids, mask = [*head, *ids, *tail], [*([0] * len(head)), *mask, *([0] * len(tail))]
        return Rendered(ids, mask, bool(self.is_cut[index]), store.row_id(place), whole, store.targets(place))

    def only(self, indices: Ints) -> "CutRows":
        """Return some of the sequences, in the order of `indices`."""
        gaps = self._gaps.only(indices)
        return CutRows(
            self._store, self._places[indices], self._begins[indices], self._ends[indices], self._frame, gaps
        )

    def row_id(self, index: int) -> str:
        """Return `file:line` of the row of a sequence."""
        return self._store.row_id(int(self._places[index]))

    @property
    def row_numbers(self) -> Ints:
        """Place of each sequence's row among the rows."""
        numbers: Ints = self._store.row_numbers[self._places]
        return numbers

    @property
    def is_text(self) -> Any:
        """Whether each sequence is plain text."""
        return self._store.is_text[self._places]

    @cached_property
    def is_cut(self) -> Any:
        """Whether each sequence is a conversation that has lost its end, or a pair that has lost some of a part."""
        shortened = (self._ends < self._store.lengths[self._places]) | (self._gaps.ends > self._gaps.begins)
        return ~self.is_text & shortened

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of each sequence."""
        own: Ints = self._ends - self._begins - (self._gaps.ends - self._gaps.begins)
        return own + self._frame.num_around * self.is_text

    @cached_property
    def num_targets_cut(self) -> int:
        """Sequences that have lost some of what is trained."""
        return int((~self.is_text & (self._ends < self._store.lengths[self._places])).sum())

    @cached_property
    def num_trained(self) -> Ints:
        """Trained tokens of each sequence."""
        return self._trained_before(self._ends) - self._trained_before(self._begins)

    @cached_property
    def num_learnt(self) -> Ints:
        """Those of them that something in the sequence predicts: all but a first token."""
        firsts = np.where(self.is_text & bool(self._frame.head), self._begins, self._begins + 1)
        return self._trained_before(self._ends) - self._trained_before(np.minimum(firsts, self._ends))

    def _trained_before(self, ends: Ints) -> Ints:
        """Return the trained tokens of the whole sequences in front of a place in each."""
        store = self._store
        # All stretches laid out on one line, so that one search answers for all sequences.
        line = np.concatenate([[0], np.cumsum(store.run_ends - store.run_begins)])
        stride = int(store.lengths.max(initial=0)) + 1
        keys = store.run_places * stride + store.run_begins
        first = np.searchsorted(store.run_places, self._places)
        last = np.searchsorted(keys, self._places * stride + ends)
        over = np.zeros(len(ends), dtype=np.int64)
        some = last > first
        # The last stretch that begins in front of the place may reach over it.
        over[some] = np.maximum(0, store.run_ends[last[some] - 1] - ends[some])
        trained: Ints = line[last] - line[first] - over
        return trained


def cut_rows(store: TokenStore, max_length: int, frame: Frame | None = None, max_target: int | None = None) -> CutRows:
    """Return all sequences of a length: text in consecutive windows, conversations without what lies behind it.

    The last window of a text has at least two tokens, because one alone predicts nothing.

    Args:
        store: Whole sequences.
        max_length: Longest sequence, special tokens around it included; of pairs, the longest source.
        frame: What stands around windows, and whether the sequences are pairs.
        max_target: Longest target of a pair; None cuts none.
    """
    frame = Frame() if frame is None else frame
    if frame.pairs:
        return _cut_pairs(store, max_length, NO_LIMIT if max_target is None else max_target, frame)
    lengths, max_length = store.lengths, frame.window(max_length)
    num_windows = np.where(store.is_text, -(-lengths // max_length), 1)
    places = np.repeat(np.arange(len(store)), num_windows)
    firsts = np.cumsum(num_windows) - num_windows
    number = np.arange(len(places)) - np.repeat(firsts, num_windows)
    begins = number * max_length
    ends = np.minimum(begins + max_length, lengths[places])
    short = np.flatnonzero((ends - begins == 1) & (number > 0))
    begins[short] -= 1
    ends[short - 1] -= 1
    return CutRows(store, places, begins, ends, frame)


def source_lengths(store: TokenStore) -> Ints:
    """Return the tokens of each pair's source: what stands in front of the one stretch that is trained."""
    sources: Ints = store.lengths.copy()
    sources[store.run_places] = store.run_begins
    return sources


def _cut_pairs(store: TokenStore, max_length: int, max_target: int, frame: Frame) -> CutRows:
    """Return all pairs, as `engine.data.frames.cut_pair` cuts each."""
    sources = source_lengths(store)
    over = np.maximum(0, sources - max_length)
    gap_ends = np.where(over > 0, np.maximum(0, sources - len(frame.tail)), sources)
    gaps = Gaps(np.maximum(0, gap_ends - over), gap_ends)
    ends = np.minimum(store.lengths, sources + max_target)
    return CutRows(store, np.arange(len(store)), np.zeros_like(ends), ends, frame, gaps)


def length_cut(store: TokenStore, length: int, frame: Frame | None = None) -> LengthCut:
    """Return what a sequence length takes from conversations, or from the sources of pairs; plain text loses nothing.

    Args:
        store: Whole sequences.
        length: In tokens.
        frame: Whether the sequences are pairs.
    """
    if frame is not None and frame.pairs:
        over = np.maximum(0, source_lengths(store) - length)
        lost = int(over.sum())
        return LengthCut(
            length=length,
            num_cut=int((over > 0).sum()),
            num_answers_cut=0,
            num_answers_lost=0,
            lost_tokens=lost,
            num_sequences=len(store),
        )
    chat = np.flatnonzero(~store.is_text)
    whole = store.lengths[chat]
    ends = np.minimum(whole, length)
    nothing = np.zeros_like(whole)
    before, after = CutRows(store, chat, nothing, whole).num_learnt, CutRows(store, chat, nothing, ends).num_learnt
    return LengthCut(
        length=length,
        num_cut=int((whole > length).sum()),
        num_answers_cut=int((after < before).sum()),
        num_answers_lost=int(((after == 0) & (before > 0)).sum()),
        lost_tokens=int((whole - ends).sum()),
        num_sequences=len(store),
    )


def sensible_lengths(longest: int) -> list[int]:
    """Return up to sixteen lengths worth comparing: quarters between powers of two, and what cuts nothing."""
    steps = [power * quarter // 4 for power in (1 << at for at in range(5, 40)) for quarter in (4, 5, 6, 7)]
    below = [step for step in steps if _SHORTEST <= step < longest]
    return [*below[-(MOST_LENGTHS - 1) :], max(longest, 1)]
