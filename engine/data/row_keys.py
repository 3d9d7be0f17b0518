"""What rows teach as hashes, 32 bytes a row: enough to find equal rows and to draw by what rows hold."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.data.rows import Row

Integers: TypeAlias = npt.NDArray[np.int64]
KEY_BYTES = 32
_ENCODE = json.JSONEncoder(ensure_ascii=True, sort_keys=True).encode


def row_key(row: Row) -> str:
    """Return a hash over what a row teaches, its id left out."""
    return _key(row).hex()


def _key(row: Row) -> bytes:
    taught = {key: value for key, value in row.items() if key != "id"}
    return hashlib.sha256(_ENCODE(taught).encode()).digest()


class RowKeys:
    """The keys of rows, in order.

    Args:
        digests: `KEY_BYTES` for each row.
    """

    def __init__(self, digests: bytes | bytearray = b"") -> None:
        self._digests = bytearray(digests)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "RowKeys":
        """Return the keys of rows."""
        keys = cls()
        for row in rows:
            keys.add(row)
        return keys

    def add(self, row: Row) -> None:
        """Add the key of one more row."""
        self._digests += _key(row)

    def __len__(self) -> int:
        return len(self._digests) // KEY_BYTES

    @property
    def values(self) -> npt.NDArray[np.bytes_]:
        """The keys as an array that sorts and compares; its elements lack the zero bytes at their end.

        A view: no key can be added while somebody holds it.
        """
        return np.frombuffer(memoryview(self._digests).toreadonly(), dtype=f"S{KEY_BYTES}")

    def hex(self, place: int) -> str:
        """Return one key as `row_key` gives it."""
        return self._digests[place * KEY_BYTES : (place + 1) * KEY_BYTES].hex()

    def only(self, places: Sequence[int] | Integers) -> "RowKeys":
        """Return the keys of some rows, by their places."""
        return RowKeys(self.values[np.asarray(places, np.int64)].tobytes())

    def firsts(self) -> Integers:
        """Return for each row the place of the first row that is equal to it."""
        # Sorting whole keys would take a hundred bytes a row; those that begin alike are compared whole.
        values = self.values
        begins = np.frombuffer(memoryview(self._digests).toreadonly(), np.uint64)[:: KEY_BYTES // 8]
        firsts = first_places(begins)
        later = np.flatnonzero(firsts != np.arange(len(firsts)))
        return firsts if (values[later] == values[firsts[later]]).all() else first_places(values)


def first_places(values: npt.NDArray[Any]) -> Integers:
    """Return for each value of an array the place of the first value that is equal to it."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int64)
