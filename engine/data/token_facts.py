"""Facts of every sequence, gathered in one pass over the token ids, so that each check costs no pass of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from engine.data.rendered import Ints, Rendered

NONE = -1


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """One value for each sequence, in their order.

    Attributes:
        ids: `file:line` of its row.
        lengths: Tokens.
        before_cut: Tokens before cutting.
        trained: Tokens that the loss counts.
        last_trained: The last token that the loss counts, or `NONE`.
        highest: The highest token id.
        all_trained: Whether the loss counts every token but the first, which nothing predicts.
        doubled: Whether it begins with one token twice, the one that begins texts.
        unknown: Tokens unknown to the model.
        cut: Whether it lost tokens at the sequence length.
        ends_trained: Whether its last token is trained.
        answers: Hash of the last trained run.
    """

    ids: list[str]
    lengths: Ints
    before_cut: Ints
    trained: Ints
    last_trained: Ints
    highest: Ints
    all_trained: np.ndarray
    doubled: np.ndarray
    unknown: Ints
    cut: np.ndarray
    ends_trained: np.ndarray
    answers: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, chosen: np.ndarray) -> list[str]:
        """Return the rows of the sequences for which `chosen` is true, once each."""
        return list(dict.fromkeys(self.ids[place] for place in np.flatnonzero(chosen)))


def token_facts(sequences: Sequence[Rendered], tokenizer: PreTrainedTokenizerBase) -> TokenFacts:
    """Return the facts of sequences.

    Args:
        sequences: Rendered rows, whole or cut.
        tokenizer: Says which tokens begin a text and stand for what the vocabulary lacks.
    """
    bos, unknown = tokenizer.bos_token_id, tokenizer.unk_token_id
    if unknown in (tokenizer.eos_token_id, bos):
        # Some tokenizers name the end of text as their unknown token.
        unknown = None
    numbers: list[tuple[int, ...]] = []
    ids: list[str] = []
    for sequence in sequences:
        ids.append(sequence.id)
        numbers.append(_numbers(sequence, NONE if bos is None else bos, NONE if unknown is None else unknown))
    table = np.array(numbers, dtype=np.int64).reshape(len(ids), 11)
    lengths, before_cut, trained, last, highest, every, doubled, strange, cut, ends, answers = table.T
    return TokenFacts(
        ids,
        lengths,
        before_cut,
        trained,
        last,
        highest,
        every.astype(bool),
        doubled.astype(bool),
        strange,
        cut.astype(bool),
        ends.astype(bool),
        answers,
    )


def _numbers(sequence: Rendered, bos: int, unknown: int) -> tuple[int, ...]:
    ids, mask = sequence.input_ids, sequence.trained_mask
    # Bytes are searched and counted without a step of Python for each token.
    trained = bytes(mask)
    last = trained.rfind(1)
    first = trained.rfind(0, 0, last + 1) + 1
    return (
        len(ids),
        sequence.num_before_cut,
        trained.count(1),
        ids[last] if last >= 0 else NONE,
        max(ids, default=NONE),
        trained.find(0, 1) < 0,
        ids[:2] == [bos, bos],
        ids.count(unknown) if unknown != NONE else 0,
        sequence.cut,
        bool(trained) and last == len(ids) - 1,
        hash(tuple(ids[first : last + 1])) if last >= 0 else 0,
    )


def trained_runs(sequence: Rendered) -> Iterator[list[int]]:
    """Yield the runs of tokens that the loss counts."""
    mask = bytes(sequence.trained_mask)
    begin = mask.find(1)
    while begin >= 0:
        end = mask.find(0, begin)
        end = len(mask) if end < 0 else end
        yield sequence.input_ids[begin:end]
        begin = mask.find(1, end)
