"""What each row asks and answers as numbers, so that rows are compared without keeping one of them in memory."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.data.cleaning.facts import key_of
from engine.data.cleaning.texts import parts_of, plain
from engine.data.progress import NOBODY, WorkWatch
from engine.data.rows import Row

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Taught:
    """Three keys of 8 bytes for each row, in order. Case and white space make no difference to the first two.

    Attributes:
        wholes: Of question and answer.
        answers: Of the answer alone.
        ids: Of the row's `file:line`, which a weight repeats.
    """

    wholes: Keys
    answers: Keys
    ids: Keys

    def once(self) -> npt.NDArray[np.int64]:
        """Return the places of all rows but those that a weight repeats, in order."""
        _, first = np.unique(self.ids, return_index=True)
        return np.sort(first)


def whole_key(row: Row) -> int:
    """Return the key of what a row asks and answers."""
    asked, answered = parts_of(row)
    return key_of(plain(asked), plain(answered))


def taught_by(rows: Sequence[Row], watch: WorkWatch = NOBODY) -> Taught:
    """Return the keys of rows, each of which is read once.

    Raises:
        ReadingStoppedError: A stop was asked for.
    """
    wholes, answers, ids = array("Q"), array("Q"), array("Q")
    for row in watch.each("Comparing rows", rows):
        asked, answered = (plain(part) for part in parts_of(row))
        wholes.append(key_of(asked, answered))
        answers.append(key_of(answered))
        ids.append(key_of(row["id"]))
    return Taught(*(np.frombuffer(keys, dtype=np.uint64) for keys in (wholes, answers, ids)))
