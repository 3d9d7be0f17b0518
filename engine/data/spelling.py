"""Texts as a tokenizer gives them back, so that what was trained can be held against what the rows say."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

_KEPT_TEXTS = 4096
"""Texts whose spelling is remembered: instructions and tool definitions stand in many rows."""


class Spelling:
    """Reads tokens and texts of one tokenizer back, without white space and without what it does not know.

    White space moves at the borders of turns, and some tokenizers put a space in front of each piece. Unknown tokens
    say nothing: one of them stands for any text in a script that the tokenizer lacks.

    Args:
        tokenizer: Any.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._unknown = tokenizer.unk_token_id
        self.of_text = lru_cache(maxsize=_KEPT_TEXTS)(self._of_text)

    def of_ids(self, ids: Iterable[int]) -> str:
        """Return what tokens spell."""
        known = [token for token in ids if token != self._unknown]
        return bare(str(self._tokenizer.decode(known)))

    def _of_text(self, text: str) -> str:
        # Some tokenizers change case, or know not every character.
        return self.of_ids(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def bare(text: str) -> str:
    """Return a text without white space."""
    return "".join(text.split())


def lost_letters(text: str, spelled: str) -> Counter[str]:
    """Return the characters of a text that are not in what a tokenizer gives back of it.

    Case, accents and the forms of one character do not count: many tokenizers change those on purpose.
    """
    return Counter() if spelled == bare(text) else Counter(_letters(text)) - Counter(_letters(spelled))


def num_letters(texts: Sequence[str]) -> int:
    """Return how many characters `lost_letters` can find in texts."""
    return sum(len(_letters(text)) for text in texts)


def _letters(text: str) -> str:
    if text.isascii():
        return bare(text).casefold()
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(each for each in plain if unicodedata.category(each)[0] not in "MZC")
