"""Rows that are nearly equal: found by MinHash signatures in bands, believed when compared word for word.

Cost, whatever the rows look like: at most `MAX_ROWS` rows are compared, of each at most `MAX_SHINGLES` hashes go into
the signature, which is thrown away once its bands are hashed (128 bytes a row), and each row is compared word for word
with at most two others in each band. Which rows are drawn and how signatures fall depends on the seed and on the text
of the rows, not on their order. Many rows are hashed at once: a call of a library for each row took ten times as long.

Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900, on the smallest hashes of a row, in bands as by
Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.data.cleaning.word_hashes import Hashes, Integers, blocks, shingled

MAX_ROWS = 100_000
MAX_SHINGLES = 128
SIMILAR = 0.8
"""Least share of three-word sequences that two near duplicates have in common (Jaccard), in question and answer."""
MIN_WORDS = 20
"""Shorter rows are near duplicates only when they differ in case, white space and a last full stop: in few words
every one counts."""
_BANDS, _ROWS_OF_BAND = 16, 8
_NUM_HASHES = _BANDS * _ROWS_OF_BAND
_MIXER = np.uint64(0xC2B2AE3D27D4EB4F)
_PAIRS_AT_ONCE = 256
Pair: TypeAlias = tuple[int, int]


def similarities(ones: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the Jaccard similarity of texts, pair by pair, by their sequences of three words; 1.0 for two empty ones.

    Args:
        ones: First texts.
        others: As many second ones.
    """
    first, second = (_tagged(texts) for texts in (ones, others))
    both = np.intersect1d(first, second, assume_unique=True)
    sizes = [np.bincount((tagged >> np.uint64(32)).astype(np.int64), minlength=len(ones)) for tagged in (first, second)]
    common = np.bincount((both >> np.uint64(32)).astype(np.int64), minlength=len(ones))
    together = sizes[0] + sizes[1] - common
    return np.where(together > 0, common / np.maximum(together, 1), 1.0)


def similarity(one: str, other: str) -> float:
    """Return the similarity of two texts, as `similarities` does."""
    return float(similarities([one], [other])[0])


def _tagged(texts: Sequence[str]) -> Hashes:
    """Return the hashes of all texts, the number of the text in front of each."""
    parts: list[Hashes] = []
    offset = 0
    for block in blocks(texts):
        found = shingled(block)
        numbers = np.repeat(np.arange(offset, offset + len(block)), np.diff(found.starts)).astype(np.uint64)
        parts.append(numbers << np.uint64(32) | found.hashes)
        offset += len(block)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


class BandTable:
    """The bands of many rows: rows that share one are worth comparing.

    Args:
        seed: Seed of the hash functions.
    """

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self._factors = draw.integers(0, 2**32, _NUM_HASHES, dtype=np.uint32) | np.uint32(1)
        self._offsets = draw.integers(0, 2**32, _NUM_HASHES, dtype=np.uint32)
        self._bands: list[Hashes] = []
        self._rows: list[Integers] = []

    def add(self, rows: Iterable[int], texts: Iterable[str]) -> None:
        """Add rows by their numbers; those of fewer words than can be compared are left out."""
        numbers = iter(rows)
        for block in blocks(texts):
            self._add(np.fromiter(islice(numbers, len(block)), np.int64, len(block)), block)

    def _add(self, rows: Integers, texts: Sequence[str]) -> None:
        found = shingled(texts)
        long_enough = found.num_words >= MIN_WORDS
        if not long_enough.any():
            return
        # The smallest hashes are a sample of the row that two similar rows take alike.
        sizes = np.diff(found.starts)
        rank = np.arange(len(found.hashes)) - np.repeat(found.starts[:-1], sizes)
        sample = found.hashes[(rank < MAX_SHINGLES) & np.repeat(long_enough, sizes)].astype(np.uint32)
        sizes = np.minimum(sizes[long_enough], MAX_SHINGLES)
        signatures = self._signatures(sample, np.cumsum(sizes) - sizes)
        factors = np.arange(1, 2 * _ROWS_OF_BAND, 2, dtype=np.uint64) * _MIXER
        grouped = signatures.T.astype(np.uint64).reshape(-1, _BANDS, _ROWS_OF_BAND)
        self._bands.append(np.bitwise_xor.reduce(grouped * factors, axis=2))
        self._rows.append(rows[long_enough])

    def _signatures(self, hashes: npt.NDArray[np.uint32], starts: Integers) -> npt.NDArray[np.uint32]:
        """Return the smallest value of each hash function, one row for each of them and one column for each text."""
        signatures = np.empty((_NUM_HASHES, len(starts)), dtype=np.uint32)
        mixed = np.empty_like(hashes)
        for number, (factor, offset) in enumerate(zip(self._factors, self._offsets, strict=True)):
            np.multiply(hashes, factor, out=mixed)
            np.add(mixed, offset, out=mixed)
            np.minimum.reduceat(mixed, starts, out=signatures[number])
        return signatures

    def pairs(self, order: npt.NDArray[Any] | None = None) -> Integers:
        """Return pairs of rows that share a band, sorted: each row with the first and with the one before it there.

        Args:
            order: For each row number what its place among others depends on; None for the number itself.
        """
        if sum(map(len, self._rows)) < 2:
            return np.zeros((0, 2), dtype=np.int64)
        rows = np.concatenate(self._rows)
        placed = np.argsort(rows if order is None else order[rows], kind="stable")
        table, rows = np.concatenate(self._bands)[placed].T, rows[placed]
        found: list[Integers] = []
        for band in table:
            order = np.argsort(band, kind="stable")
            ordered, numbers = band[order], rows[order]
            same = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
            starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
            first_of = numbers[starts[np.searchsorted(starts, same, side="right") - 1]]
            found.append(np.stack([numbers[same - 1], numbers[same]], axis=1))
            found.append(np.stack([first_of, numbers[same]], axis=1))
        return np.unique(np.concatenate(found), axis=0)


class Groups:
    """Rows that belong together, directly or through others (union-find).

    Args:
        count: Number of rows; each begins as a group of its own.
    """

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count)

    def first(self, row: int) -> int:
        """Return the smallest row number of a row's group."""
        parents = self._parents
        while (parent := int(parents[row])) != row:
            parents[row] = parents[parent]
            row = int(parents[row])
        return row

    def join(self, one: int, other: int) -> None:
        """Make one group of the groups of two rows."""
        low, high = sorted((self.first(one), self.first(other)))
        self._parents[high] = low

    def join_all(self, firsts: Integers) -> None:
        """Join each row with another one, of which `firsts` holds the number; a row may name itself."""
        for row in np.flatnonzero(firsts != np.arange(len(firsts))).tolist():
            self.join(row, int(firsts[row]))

    def apart(self, pairs: Integers) -> Iterator[list[Pair]]:
        """Yield the pairs that are not together yet, some at a time, so that joining these spares looking at others."""
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            some = [(one, other) for one, other in pairs[start : start + _PAIRS_AT_ONCE].tolist()]
            if open_pairs := [pair for pair in some if self.first(pair[0]) != self.first(pair[1])]:
                yield open_pairs

    def firsts(self) -> Integers:
        """Return the first row of each row's group."""
        parents = self._parents
        # Each round halves the way to the first row, for all rows at once.
        while (parents[parents] != parents).any():
            parents = parents[parents]
        self._parents = parents
        return parents.copy()
