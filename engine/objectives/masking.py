"""Which words of a text are hidden, and behind what: a pure function of seed, step and text.

A run that was stopped and goes on, another cut of the same step and several GPUs so hide the same words. The number of
hidden words depends on the length of a text alone, which makes the mean over a step exact before any word is drawn.

Source: BERT (Devlin et al. 2019, arXiv 1810.04805): of the hidden words eight in ten are replaced by the mask, one in
ten by any other word, one in ten stay; a model must then also look twice at words that it can read.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from engine.data.rendered import Ints
from engine.objectives.sequences import IGNORED

MASKED = 0.8
REPLACED = 0.1
"""Shares of the hidden words behind the mask, and behind another word."""
JUDGED = -1
"""The step of a measurement: the same words are hidden each time, and all of them behind the mask."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """A text with hidden words.

    Attributes:
        input_ids: What the model reads.
        labels: The hidden tokens where they are hidden, `IGNORED` elsewhere.
    """

    input_ids: list[int]
    labels: list[int]


def num_hidden(num_words: Ints, share: float) -> Ints:
    """Return how many tokens are hidden of texts with so many that may be; at least one of each."""
    counts: Ints = np.floor(share * num_words + 0.5).astype(np.int64)
    return np.minimum(np.maximum(1, counts), num_words)


@dataclass(frozen=True)
class Masker:
    """Hides words.

    Attributes:
        tokenizer: Has a mask token.
        share: Share of the tokens that may be hidden.
        seed: Of the run.
    """

    tokenizer: PreTrainedTokenizerBase
    share: float
    seed: int
    _words: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        special = set(self.tokenizer.all_special_ids)
        words = [number for number in sorted(self.tokenizer.get_vocab().values()) if number not in special]
        object.__setattr__(self, "_words", np.array(words, dtype=np.int64))

    def hide(self, input_ids: Sequence[int], labels: Sequence[int], step: int) -> Hidden:
        """Hide some of the tokens that have a label.

        Args:
            input_ids: The text, special tokens around it included.
            labels: The token where it may be hidden, `IGNORED` elsewhere.
            step: Optimizer step, from 0; `JUDGED` for a measurement.
        """
        places = np.flatnonzero(np.asarray(labels) != IGNORED)
        count = int(num_hidden(np.array([len(places)]), self.share)[0])
        generator = np.random.default_rng([self.seed, step + 1, zlib.crc32(np.asarray(input_ids, np.int64).tobytes())])
        chosen = generator.permutation(places)[:count]
        shown, kept = list(input_ids), [IGNORED] * len(labels)
        for place, drawn, word in zip(
            chosen, generator.random(count), generator.choice(self._words, count), strict=True
        ):
            kept[place] = int(input_ids[place])
            if drawn < MASKED or step == JUDGED:
                shown[place] = int(self.tokenizer.mask_token_id)
            elif drawn < MASKED + REPLACED:
                shown[place] = int(word)
        return Hidden(shown, kept)
