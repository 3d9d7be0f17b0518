"""Rows that are nearly equal: found by MinHash signatures in bands, believed when compared word for word.

Cost, whatever the rows look like: at most `MAX_ROWS` rows are compared, of each at most `MAX_SHINGLES` hashes go into
the signature, which is thrown away once its bands are hashed (128 bytes a row), and each row is compared word for word
with at most two others in each band. Which rows are drawn and how signatures fall depends on the seed and on the text
of the rows, not on their order.
"""

import heapq
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
from datasketch import MinHash

MAX_ROWS = 100_000
MAX_SHINGLES = 128
SIMILAR = 0.8
"""Least share of three-word sequences that two near duplicates have in common (Jaccard), in question and answer."""
MIN_WORDS = 20
"""Shorter rows are near duplicates only when they differ in case, white space and a last full stop: in few words
every one counts."""
_WORDS = 3
_BANDS, _ROWS_OF_BAND = 16, 8
_NUM_HASHES = _BANDS * _ROWS_OF_BAND
# Scripts that put no space between words: each character is a word.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+|[^\w\s]")
_MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_PairTest = Callable[[int, int], bool]


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case; punctuation marks, and characters of spaceless scripts, are words."""
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=1 << 16)
def _hash_of_word(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def shingles(words: Sequence[str]) -> set[int]:
    """Return the hashes (32 bits) of all sequences of three words; of fewer words, the hash of them together."""
    hashed = np.array([_hash_of_word(word) for word in words], dtype=np.uint64)
    if len(words) < _WORDS:
        return {int(np.bitwise_xor.reduce(hashed * _MIXERS[: len(words)]) >> np.uint64(32))} if words else set()
    mixed = hashed[:-2] * _MIXERS[0] ^ hashed[1:-1] * _MIXERS[1] ^ hashed[2:] * _MIXERS[2]
    mixed ^= mixed >> np.uint64(29)
    return set(((mixed * _MIXERS[0]) >> np.uint64(32)).tolist())


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts by their sequences of three words; 1.0 for two empty ones."""
    first, second = shingles(words_of(one)), shingles(words_of(other))
    together = first | second
    return len(first & second) / len(together) if together else 1.0


class BandTable:
    """The bands of many rows: rows that share one are worth comparing.

    Args:
        seed: Seed of the hash functions.
    """

    def __init__(self, seed: int) -> None:
        self._permutations = MinHash(num_perm=_NUM_HASHES, seed=seed).permutations
        self._bands: list[np.ndarray] = []
        self._rows: list[int] = []

    def add(self, row: int, words: Sequence[str]) -> None:
        """Add the row with this number; one of fewer words than can be compared is left out."""
        if len(words) < MIN_WORDS:
            return
        # The smallest hashes are a sample of the row that two similar rows take alike.
        kept = shingles(words)
        sample = kept if len(kept) <= MAX_SHINGLES else heapq.nsmallest(MAX_SHINGLES, kept)
        signature = MinHash(num_perm=_NUM_HASHES, permutations=self._permutations, hashfunc=int)
        signature.update_batch(sample)
        bands = signature.hashvalues.reshape(_BANDS, _ROWS_OF_BAND)
        factors = np.arange(1, 2 * _ROWS_OF_BAND, 2, dtype=np.uint64) * _MIXERS[1]
        self._bands.append(np.bitwise_xor.reduce(bands * factors, axis=1))
        self._rows.append(row)

    def pairs(self) -> list[tuple[int, int]]:
        """Return pairs of rows that share a band: each row with the first and with the one before it there."""
        if len(self._rows) < 2:
            return []
        table, rows = np.stack(self._bands, axis=1), np.array(self._rows)
        found: set[tuple[int, int]] = set()
        for band in table:
            order = np.argsort(band, kind="stable")
            ordered, numbers = band[order], rows[order]
            same = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
            starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
            first_of = numbers[starts[np.searchsorted(starts, same, side="right") - 1]]
            for one, before, first in zip(numbers[same], numbers[same - 1], first_of, strict=True):
                found.add((int(before), int(one)))
                found.add((int(first), int(one)))
        return sorted(found)


class Groups:
    """Rows that belong together, directly or through others (union-find).

    Args:
        count: Number of rows; each begins as a group of its own.
    """

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def first(self, row: int) -> int:
        """Return the smallest row number of a row's group."""
        parents = self._parents
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    def join(self, one: int, other: int) -> None:
        """Make one group of the groups of two rows."""
        low, high = sorted((self.first(one), self.first(other)))
        self._parents[high] = low

    def join_alike(self, pairs: Iterable[tuple[int, int]], alike: _PairTest) -> None:
        """Join the pairs that are alike; pairs that are together already are not looked at."""
        for one, other in pairs:
            if self.first(one) != self.first(other) and alike(one, other):
                self.join(one, other)

    def firsts(self) -> list[int]:
        """Return the first row of each row's group."""
        return [self.first(row) for row in range(len(self._parents))]
