"""What checks that compare rows know of each row: hashes and numbers, 40 bytes a row, no text."""

import hashlib
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.data.cleaning.languages import language_of
from engine.data.cleaning.texts import parts_of, plain
from engine.data.rows import Row

Keys: TypeAlias = npt.NDArray[np.uint64]
_KEY_BYTES = 8


def key_of(*parts: object) -> int:
    """Return 64 bits that stand for some texts; two of a million rows share theirs by chance once in 10 million."""
    joined = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=_KEY_BYTES).digest())


@dataclass(frozen=True, slots=True)
class Facts:
    """One entry for each row, in order.

    Attributes:
        asked: Key of the question; 0 where there is none.
        answered: Key of the answer.
        taught: Key of both, case and white space aside.
        answer_chars: Characters of the answer.
        log_chars: Logarithm of the characters of question and answer.
        languages: Language or script, empty where it is unclear.
    """

    asked: Keys
    answered: Keys
    taught: Keys
    answer_chars: Keys
    log_chars: npt.NDArray[np.float64]
    languages: list[str]

    def __len__(self) -> int:
        return len(self.asked)


def facts_of(rows: Iterable[Row], *, with_languages: bool) -> Facts:
    """Return the facts of rows.

    Args:
        rows: Canonical rows.
        with_languages: Whether anybody asks for languages; they cost most.
    """
    asked_keys, answered_keys, taught_keys, answer_chars = (array("Q") for _ in range(4))
    log_chars = array("d")
    languages: list[str] = []
    for row in rows:
        asked, answered = parts_of(row)
        plain_asked, plain_answered = plain(asked), plain(answered)
        asked_keys.append(key_of("asked", plain_asked) if plain_asked else 0)
        answered_keys.append(key_of("answered", plain_answered))
        taught_keys.append(key_of(plain_asked, plain_answered))
        answer_chars.append(len(answered))
        log_chars.append(math.log(1 + len(asked) + len(answered)))
        languages.append(language_of(f"{asked}\n{answered}") if with_languages else "")
    return Facts(
        asked=np.array(asked_keys, np.uint64),
        answered=np.array(answered_keys, np.uint64),
        taught=np.array(taught_keys, np.uint64),
        answer_chars=np.array(answer_chars, np.uint64),
        log_chars=np.array(log_chars, np.float64),
        languages=languages,
    )
