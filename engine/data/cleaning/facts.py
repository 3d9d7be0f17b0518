"""What checks that compare rows know of each row: hashes and numbers, 40 bytes a row, no text."""

import hashlib
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.data.cleaning.languages import LOOKED_AT_CHARS, language_of
from engine.data.cleaning.texts import parts_of, plain
from engine.data.rows import Row

Keys: TypeAlias = npt.NDArray[np.uint64]
_KEY_BYTES = 8


def key_of(*parts: object) -> int:
    """Return 64 bits that stand for some texts; two of a million rows share theirs by chance once in 10 million."""
    joined = "\0".join([str(part) for part in parts]).encode("utf-8", "surrogatepass")
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
        languages: Places in `language_names`.
        language_names: Languages and scripts; the first is empty, for rows where it is unclear.
    """

    asked: Keys
    answered: Keys
    taught: Keys
    answer_chars: Keys
    log_chars: npt.NDArray[np.float64]
    languages: npt.NDArray[np.int16]
    language_names: list[str]

    def __len__(self) -> int:
        return len(self.asked)

    def only(self, places: npt.NDArray[np.int64]) -> "Facts":
        """Return the facts of some rows, by their places."""
        return Facts(
            asked=self.asked[places],
            answered=self.answered[places],
            taught=self.taught[places],
            answer_chars=self.answer_chars[places],
            log_chars=self.log_chars[places],
            languages=self.languages[places],
            language_names=self.language_names,
        )


class FactsOfRows:
    """Collects the facts of rows that come one by one.

    Args:
        with_languages: Whether anybody asks for languages; they cost most.
    """

    def __init__(self, *, with_languages: bool) -> None:
        self._with_languages = with_languages
        self._asked, self._answered, self._taught, self._answer_chars = (array("Q") for _ in range(4))
        self._log_chars = array("d")
        self._languages = array("h")
        self._numbers = {"": 0}

    def add(self, row: Row) -> None:
        """Add a canonical row."""
        asked, answered = parts_of(row)
        plain_asked, plain_answered = plain(asked), plain(answered)
        asked_key = key_of("asked", plain_asked) if plain_asked else 0
        answered_key = key_of("answered", plain_answered)
        self._asked.append(asked_key)
        self._answered.append(answered_key)
        self._taught.append(key_of(asked_key, answered_key))
        self._answer_chars.append(len(answered))
        self._log_chars.append(math.log(1 + len(asked) + len(answered)))
        language = ""
        if self._with_languages:
            language = language_of(f"{asked[:LOOKED_AT_CHARS]}\n{answered[:LOOKED_AT_CHARS]}")
        self._languages.append(self._numbers.setdefault(language, len(self._numbers)))

    def all(self) -> Facts:
        """Return the facts of all rows that were added."""
        return Facts(
            asked=np.array(self._asked, np.uint64),
            answered=np.array(self._answered, np.uint64),
            taught=np.array(self._taught, np.uint64),
            answer_chars=np.array(self._answer_chars, np.uint64),
            log_chars=np.array(self._log_chars, np.float64),
            languages=np.array(self._languages, np.int16),
            language_names=list(self._numbers),
        )


def facts_of(rows: Iterable[Row], *, with_languages: bool) -> Facts:
    """Return the facts of canonical rows; without languages where nobody asks for them."""
    facts = FactsOfRows(with_languages=with_languages)
    for row in rows:
        facts.add(row)
    return facts.all()
