"""Rules that judge an answer by looking at it: the same text always earns the same."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import regex

from engine.patterns import PATTERN_LIMIT_S, compile_pattern
from engine.recipe.problems import Problem, ProblemError

MAX_NUMBER_CHARS = 60
_NUMBER = regex.compile(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
_RESULT_MARK = "####"


@dataclass(frozen=True, slots=True)
class Judged:
    """What a reward is told of an answer.

    Attributes:
        row_id: `file:line` of the prompt.
        prompt: Messages before the answer.
        answer: The right answer of the row; empty where it has none.
        completion: What the model wrote.
        num_tokens: Tokens of it.
        row: The row's other values, such as its columns `completion` and `reward`.
    """

    row_id: str
    prompt: list[dict[str, Any]]
    answer: str
    completion: str
    num_tokens: int
    row: Mapping[str, Any] = field(default_factory=dict)


Rule = Callable[[Judged], float]


def result_of(answer: str) -> str:
    """Return what an answer comes to: what stands behind its last `####` as in GSM8K, or all of it."""
    return answer.rpartition(_RESULT_MARK)[2].strip()


def last_line(judged: Judged) -> float:
    """Return 1 when the last lines agree, as numbers or as words."""
    return float(_same(_last_line(judged.completion), _last_line(judged.answer)))


def contains_answer(judged: Judged) -> float:
    """Return 1 when the result stands in the completion and is not a part of a longer word or number."""
    result = _words(result_of(judged.answer))
    if not result:
        return 0.0
    places = regex.finditer(regex.escape(result), _words(judged.completion), overlapped=True)
    return float(any(_stands_alone(place) for place in places))


def exact_answer(judged: Judged) -> float:
    """Return 1 when both are the same words."""
    wanted = _words(judged.answer)
    return float(bool(wanted) and _words(judged.completion) == wanted)


def number(judged: Judged) -> float:
    """Return 1 when the last numbers are equal."""
    wanted, given = last_number(judged.answer), last_number(judged.completion)
    return float(wanted is not None and wanted == given)


def json_valid(judged: Judged) -> float:
    """Return 1 when the completion is a JSON object or list, and nothing else."""
    try:
        value = json.loads(judged.completion, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return 0.0
    return float(isinstance(value, dict | list))


def length(wished: int) -> Rule:
    """Return a rule that gives 1 at the wished number of tokens and 0 at none and at twice as many."""
    return lambda judged: max(0.0, 1 - abs(judged.num_tokens - wished) / wished)


def format_rule(pattern: str) -> Rule:
    """Return a rule that gives 1 when a pattern fits somewhere.

    Raises:
        ProblemError: The pattern cannot be read; and later, that it takes too long for an answer.
    """
    compiled = compile_pattern(pattern)

    def rule(judged: Judged) -> float:
        try:
            return float(compiled.search(judged.completion, timeout=PATTERN_LIMIT_S) is not None)
        except TimeoutError:
            message = (
                f"reinforcement.pattern took more than {PATTERN_LIMIT_S:g} s on one answer to {judged.row_id}: "
                "parts of it fit in many ways, as in (a|aa)+."
            )
            fix = "Write it so that only one way of matching is possible, such as a+."
            raise ProblemError(Problem("reward.pattern_slow", message, fix, "reinforcement.pattern")) from None

    return rule


def last_number(text: str) -> Decimal | None:
    """Return the last number of a text, without the commas between thousands; None without one."""
    found = _NUMBER.findall(result_of(text))
    return as_number(found[-1]) if found else None


def as_number(text: str) -> Decimal | None:
    """Return a number as written by people (`$1,000.50`, `42.`, `-3 %`); None for anything else."""
    bare = text.strip().strip("$€£%").rstrip(".").strip().replace(",", "")
    if not bare or len(bare) > MAX_NUMBER_CHARS or _NUMBER.fullmatch(bare) is None:
        return None
    try:
        return Decimal(bare)
    except InvalidOperation:
        return None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return result_of(lines[-1]) if lines else ""


def _same(given: str, wanted: str) -> bool:
    if not wanted:
        return False
    numbers = as_number(given), as_number(wanted)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return _words(given) == _words(wanted)


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()


def _stands_alone(place: Any) -> bool:
    text, start, end = place.string, place.start(), place.end()
    before, after = text[start - 1 : start], text[end : end + 1]
    if before.isalnum() or after.isalnum():
        return False
    # 42 is no part of 4.42 or 42.5, but ends a sentence in "It is 42."
    inside = before in (".", ",") and text[start - 2 : start - 1].isdigit() and text[start].isdigit()
    follows = after in (".", ",") and text[end + 1 : end + 2].isdigit() and text[end - 1].isdigit()
    return not inside and not follows


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
