"""What checks that compare rows know of each row: hashes and numbers, 40 bytes a row, no text."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.data.cleaning.languages import language_of
from engine.data.cleaning.texts import digest, parts_of, plain
from engine.data.rows import Row


def key_of(*parts: object) -> int:
    """Return 64 bits that stand for some values; two of a million rows share theirs by chance once in 10 million."""
    return int.from_bytes(digest(*parts)[:8])


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

    asked: "array[int]" = field(default_factory=lambda: array("Q"))
    answered: "array[int]" = field(default_factory=lambda: array("Q"))
    taught: "array[int]" = field(default_factory=lambda: array("Q"))
    answer_chars: "array[int]" = field(default_factory=lambda: array("Q"))
    log_chars: "array[float]" = field(default_factory=lambda: array("d"))
    languages: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.asked)


def facts_of(rows: Sequence[Row], *, with_languages: bool) -> Facts:
    """Return the facts of rows.

    Args:
        rows: Canonical rows.
        with_languages: Whether anybody asks for languages; they cost most.
    """
    facts = Facts()
    for row in rows:
        asked, answered = parts_of(row)
        plain_asked, plain_answered = plain(asked), plain(answered)
        facts.asked.append(key_of("asked", plain_asked) if plain_asked else 0)
        facts.answered.append(key_of("answered", plain_answered))
        facts.taught.append(key_of(plain_asked, plain_answered))
        facts.answer_chars.append(len(answered))
        facts.log_chars.append(math.log(1 + len(asked) + len(answered)))
        facts.languages.append(language_of(f"{asked}\n{answered}") if with_languages else "")
    return facts
