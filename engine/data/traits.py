"""What the words of conversations look like: enough to see when fine-tuning is the wrong tool. Counting, no models."""

import re
from collections import Counter
from collections.abc import Sequence

from engine.data.rows import Row, last_answer, spoken_text, turns
from engine.planning.profiles import DataTraits

LOOKED_AT = 5000
SHORT_WORDS = 6
RARE_ANSWERS = 2
_MAX_CHARS = 4000
"""A longer text is judged by its beginning."""
_WORD = re.compile(r"[^\W_]+")
_QUESTION = re.compile(
    r"^\W*(?:who|whose|whom|what|when|where|which|why|how|is|are|was|were|did|does|do|can|name)\b", re.IGNORECASE
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATED = re.compile(
    r"\b(?:19|20)\d\d-\d\d-\d\d\b"
    rf"|\b{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(?:19|20)\d\d\b|\b\d{{1,2}}\.?\s+{_MONTH}\s+(?:19|20)\d\d\b"
    r"|\b\d{1,2}[./]\d{1,2}[./](?:19|20)\d\d\b"
    r"|[$€£¥]\s?\d[\d,]*\.\d\d\b|\b\d[\d.,]*\s?(?:€|£|USD|EUR|GBP)(?!\w)"
    r"|\b(?:in|out of) stock\b|\b(?:currently|as of|opening hours|available (?:now|today|until|from))\b",
    re.IGNORECASE,
)


def traits_of(rows: Sequence[Row]) -> DataTraits | None:
    """Return the traits of conversations; None for plain text and where there are no rows.

    Args:
        rows: Canonical rows; of many, rows at even distances are looked at.
    """
    pairs = [_pair(row) for row in rows[:: max(1, -(-len(rows) // LOOKED_AT))] if "messages" in row]
    if not pairs:
        return None
    answers = [_words(answer) for _, answer in pairs]
    prompts = [_words(prompt) for prompt, _ in pairs]
    return DataTraits(
        num_rows=len(pairs),
        questions=_share([_asks(prompt) for prompt, _ in pairs]),
        short_answers=_share([0 < len(words) <= SHORT_WORDS for words in answers]),
        distinct_answers=len({tuple(words) for words in answers}) / len(pairs),
        rare_words=_rare_share(answers),
        answers_in_prompt=_share([_inside(a, p) for a, p in zip(answers, prompts, strict=True)]),
        dated=_share([_DATED.search(answer) is not None for _, answer in pairs]),
        mean_prompt_words=sum(map(len, prompts)) / len(pairs),
        mean_answer_words=sum(map(len, answers)) / len(pairs),
    )


def _pair(row: Row) -> tuple[str, str]:
    prompt = "\n".join(spoken_text(turn) for turn in turns(row)[:-1] if turn["role"] != "system")
    return prompt[:_MAX_CHARS], last_answer(row)[:_MAX_CHARS]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _asks(prompt: str) -> bool:
    return "?" in prompt or _QUESTION.match(prompt) is not None


def _inside(answer: Sequence[str], prompt: Sequence[str]) -> bool:
    return bool(answer) and f" {' '.join(answer)} " in f" {' '.join(prompt)} "


def _rare_share(answers: Sequence[Sequence[str]]) -> float:
    """Return the mean share of an answer's words that hardly any other answer has."""
    counts = Counter(word for words in answers for word in set(words))
    shares = [sum(counts[word] <= RARE_ANSWERS for word in words) / len(words) for words in answers if words]
    return sum(shares) / len(shares) if shares else 0.0


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
