"""What rendering makes of rows: sequences of token ids with a mask, and what happened to the rows without one."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, overload

import numpy as np

from engine.data.rows import Tally
from engine.recipe.problems import Problem
from engine.text import clean_line

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
RENDER_REASONS = {
    "answer_cut_off": "lose their whole answer when cut to the sequence length",
    "template_refused": "are refused by the chat template",
    "no_tokens": "have no tokens to train on",
    "prompt_too_long": "have a prompt that leaves no room for an answer in the sequence length",
    "not_one_turn": "are no single text with the text to make of it",
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """One sequence for the trainer.

    Attributes:
        input_ids: Token ids, at most `max_length`.
        trained_mask: 1 where the loss counts, of the same length.
        cut: Whether tokens were cut off at `max_length`.
        id: `file:line` of the row.
        num_before_cut: Tokens before cutting.
        targets: What is learnt besides tokens, as `engine.data.encoding.Tokens.targets` has it.
    """

    input_ids: list[int]
    trained_mask: list[int]
    cut: bool
    id: str = ""
    num_before_cut: int = 0
    targets: tuple[int, ...] = ()

    @property
    def num_trained(self) -> int:
        """Tokens that the loss counts."""
        return sum(self.trained_mask)

    @property
    def teaches(self) -> bool:
        """Whether anything is learnt; not from the first token, which nothing predicts."""
        return any(self.trained_mask[1:])


class RenderedSequences(Sequence[Rendered]):
    """Sequences, and what is known of all of them without looking at one."""

    @property
    @abstractmethod
    def lengths(self) -> Ints:
        """Tokens of each."""

    @property
    @abstractmethod
    def num_trained(self) -> Ints:
        """Trained tokens of each."""

    @property
    @abstractmethod
    def num_learnt(self) -> Ints:
        """Those of them that something in the sequence predicts: all but a first token."""

    @abstractmethod
    def row_id(self, index: int) -> str:
        """Return `file:line` of the row of a sequence."""


class ListedSequences(RenderedSequences):
    """Sequences that are all there.

    Args:
        rendered: The sequences.
    """

    def __init__(self, rendered: list[Rendered]) -> None:
        self._rendered = rendered

    def __len__(self) -> int:
        return len(self._rendered)

    @overload
    def __getitem__(self, index: int) -> Rendered: ...
    @overload
    def __getitem__(self, index: slice) -> "ListedSequences": ...
    def __getitem__(self, index: int | slice) -> "Rendered | ListedSequences":
        if isinstance(index, slice):
            return ListedSequences(self._rendered[index])
        return self._rendered[index]

    @property
    def lengths(self) -> Ints:
        """Tokens of each."""
        return np.array([len(each.input_ids) for each in self._rendered], dtype=np.int64)

    @property
    def num_trained(self) -> Ints:
        """Trained tokens of each."""
        return np.array([each.num_trained for each in self._rendered], dtype=np.int64)

    @property
    def num_learnt(self) -> Ints:
        """Those of them that something in the sequence predicts."""
        return np.array([sum(each.trained_mask[1:]) for each in self._rendered], dtype=np.int64)

    def row_id(self, index: int) -> str:
        """Return `file:line` of the row of a sequence."""
        return self._rendered[index].id


@dataclass(slots=True)
class RenderedRows:
    """Sequences of many rows, and what happened to the others.

    Attributes:
        sequences: In row order; a row can give several.
        dropped: Rows without a sequence, by reason.
        num_cut: Sequences that lost tokens at the end.
        num_targets_cut: Pairs of a source and a target that lost the end of the target.
        spelled: Rows whose text spells a special token, which the tokenizer reads as that token.
    """

    sequences: RenderedSequences = field(default_factory=lambda: ListedSequences([]))
    dropped: Tally = field(default_factory=Tally)
    num_cut: int = 0
    num_targets_cut: int = 0
    spelled: Tally = field(default_factory=Tally)

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences."""
        return int(self.sequences.lengths.sum())

    @property
    def num_trained(self) -> int:
        """Trained tokens of all sequences."""
        return int(self.sequences.num_trained.sum())

    def sentences(self) -> list[str]:
        """Return what was dropped or cut, in plain sentences."""
        lines = [self._dropped_sentence(reason) for reason in self.dropped.counts]
        if self.num_cut:
            lines.append(f"{self.num_cut} of {len(self.sequences)} sequences are cut to the sequence length.")
        if self.num_targets_cut:
            lines.append(
                f"{self.num_targets_cut} of {len(self.sequences)} texts to write lose their end at "
                "text_to_text.max_target_length."
            )
        for token, count in self.spelled.counts.items():
            rows = "row spells" if count == 1 else "rows spell"
            lines.append(
                clean_line(f"{count} {rows} {token}, which the model reads as a token: {self.spelled.named(token)}.")
            )
        return lines

    def _dropped_sentence(self, reason: str) -> str:
        detail = f" ({self.dropped.details[reason]})" if reason in self.dropped.details else ""
        count = self.dropped.counts[reason]
        rows = "row" if count == 1 else "rows"
        return clean_line(f"{count} {rows} {RENDER_REASONS[reason]}{detail}: {self.dropped.named(reason)}.")

    def problems(self) -> list[Problem]:
        """Return the blocking problem when no sequence is left to train on; empty otherwise."""
        if self.sequences:
            return []
        refused = 0 < self.dropped.counts.get("template_refused", 0) == self.dropped.total()
        fix = "Set model.chat_template to chatml." if refused else "Set training.max_length higher."
        message = f"No row is left to train on: {' '.join(self.sentences())}"
        return [Problem("data.nothing_to_train", clean_line(message, max_chars=800), fix, path="data.source")]


def windows(num_tokens: int, size: int) -> list[tuple[int, int]]:
    """Cut a text into consecutive windows; the last has at least two tokens, because one alone predicts nothing."""
    starts = list(range(0, num_tokens, size))
    if len(starts) > 1 and num_tokens - starts[-1] == 1:
        starts[-1] -= 1
    return list(zip(starts, [*starts[1:], num_tokens], strict=True))
