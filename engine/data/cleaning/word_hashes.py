"""Many texts at once to hashes of their words and of all sequences of three words, without a Python object per word.

Letters are compared by case folding. A word is a run of letters, digits and underscores; a punctuation mark is a word,
and so is each character of a script that puts no space between words. Hashes have 32 bits: they are for comparing
texts of a few thousand words, where a chance hit in a million does not matter.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint64]

MAX_CHARS = 1 << 19
"""Characters of a text that are looked at: more than any sequence that is trained on."""
BLOCK_CHARS = 1 << 17
"""Texts are taken together up to so many characters: their arrays fit into the caches of a processor."""
_WORDS = 3
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_ALONE = re.compile(rf"[{_SPACELESS}]|[^\w\s]")
_SPACE, _LETTER, _SINGLE, _UNKNOWN = 0, 1, 2, 255
_POSITIONS = 1 << 10
"""Letters of a word whose places tell; later ones count as if they stood at the start again."""
_MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_SHIFT, _HALF = np.uint64(29), np.uint64(32)
_classes = np.full(0x110000, _UNKNOWN, dtype=np.uint8)
"""Kind of each character, filled in as characters are met."""


def _powers() -> Hashes:
    powers = np.full(_POSITIONS, _MIXERS[1], dtype=np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


_POWERS = _powers()


@dataclass(frozen=True, slots=True)
class Shingled:
    """Texts as hashes of their sequences of three words.

    Attributes:
        num_words: Words of each text.
        hashes: The different hashes of all texts, those of a text behind each other, the smallest first.
        starts: For each text where its hashes begin, and the end of all.
    """

    num_words: Integers
    hashes: Hashes
    starts: Integers


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in lists that are worth hashing together."""
    block: list[str] = []
    num_chars = 0
    for text in texts:
        block.append(text)
        num_chars += min(len(text), MAX_CHARS)
        if num_chars >= BLOCK_CHARS:
            yield block
            block, num_chars = [], 0
    if block:
        yield block


def shingled(texts: Sequence[str]) -> Shingled:
    """Return the hashes of all sequences of three words of each text; of fewer words, one hash of them together."""
    words, num_words = _word_hashes([text[:MAX_CHARS].casefold() for text in texts])
    text_of = np.repeat(np.arange(len(texts)), num_words)
    spread = np.zeros(len(words) + _WORDS - 1, dtype=np.uint64)
    spread[: len(words)] = words
    mixed = spread[:-2] * _MIXERS[0] ^ spread[1:-1] * _MIXERS[1] ^ spread[2:] * _MIXERS[2]
    place = np.arange(len(words)) - np.repeat(np.cumsum(num_words) - num_words, num_words)
    left = np.repeat(num_words, num_words) - place
    short = (left < _WORDS) & (place == 0)
    if short.any():
        mixed[short] = _of_few_words(spread, np.flatnonzero(short), left[short])
    kept = (left >= _WORDS) | short
    hashes = _finished(mixed[kept])
    # The number of the text in front sorts the hashes of one text together.
    tagged = np.sort(text_of[kept].astype(np.uint64) << _HALF | hashes)
    # Sorting and comparing neighbours takes a tenth of the time of `np.unique`, which hashes (numpy 2.4).
    tagged = tagged[np.r_[True, tagged[1:] != tagged[:-1]]] if len(tagged) else tagged
    starts = np.searchsorted(tagged, np.arange(len(texts) + 1, dtype=np.uint64) << _HALF)
    return Shingled(num_words, tagged & np.uint64(0xFFFFFFFF), starts)


def _of_few_words(words: Hashes, starts: Integers, num_words: Integers) -> Hashes:
    mixed = words[starts] * _MIXERS[0]
    two = num_words == _WORDS - 1
    mixed[two] ^= words[starts[two] + 1] * _MIXERS[1]
    return mixed


def _finished(mixed: Hashes) -> Hashes:
    mixed = mixed ^ (mixed >> _SHIFT)
    return (mixed * _MIXERS[0]) >> _HALF


def _word_hashes(texts: Sequence[str]) -> tuple[Hashes, Integers]:
    """Return the hashes of all words of texts, and the number of words of each."""
    # A line feed is in no word, so that words end where their text does.
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _kinds(codes)
    starts_word = kinds == _LETTER
    starts_word[1:] &= kinds[:-1] != _LETTER
    starts_word |= kinds == _SINGLE
    starts = np.flatnonzero(starts_word)
    ends = np.cumsum([len(text) + 1 for text in texts])
    num_words = np.diff(np.searchsorted(starts, ends), prepend=0)
    if not len(starts):
        return np.zeros(0, dtype=np.uint64), num_words
    place = np.arange(starts[0], len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes)))
    letters = (codes[starts[0] :].astype(np.uint64) + np.uint64(1)) * _MIXERS[0]
    letters ^= letters >> _SHIFT
    letters *= _POWERS[place & (_POSITIONS - 1)]
    letters[kinds[starts[0] :] == _SPACE] = 0
    words = np.add.reduceat(letters, starts - starts[0])
    return _finished(words), num_words


def _kinds(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    kinds = _classes[codes]
    if (kinds == _UNKNOWN).any():
        for code in np.unique(codes[kinds == _UNKNOWN]).tolist():
            _classes[code] = _kind(chr(code))
        kinds = _classes[codes]
    return kinds


def _kind(character: str) -> int:
    if _ALONE.fullmatch(character):
        return _SINGLE
    return _SPACE if character.isspace() else _LETTER
