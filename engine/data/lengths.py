"""Lengths of rows: estimated from characters, or measured by a renderer."""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.data.rendering import Renderer
from engine.data.rows import Row, asked, spoken_text, turns
from engine.planning.profiles import LengthProfile

CHARS_PER_TOKEN = 4.0
TURN_OVERHEAD_TOKENS = 5
"""Tokens that a chat template puts around one turn."""
_ANSWERED = 2000
"""Rows whose expected answers are measured."""


def length_profile(
    lengths: Sequence[int], *, total: int | None = None, estimated: bool = False
) -> LengthProfile | None:
    """Return the distribution of lengths; None without any.

    Args:
        lengths: One length in tokens per row.
        total: Tokens of all rows, when `lengths` is a sample of them.
        estimated: Whether the lengths are estimates.
    """
    if not len(lengths):
        return None
    # A sorted list would take forty bytes a row.
    ordered = np.sort(np.asarray(lengths, np.int64))
    sum_tokens = int(ordered.sum())
    return LengthProfile(
        count=len(ordered),
        mean=sum_tokens / len(ordered),
        p50=percentile(ordered, 0.50),
        p90=percentile(ordered, 0.90),
        p99=percentile(ordered, 0.99),
        longest=int(ordered[-1]),
        total=sum_tokens if total is None else total,
        estimated=estimated,
        covered=_covered(ordered),
    )


def _covered(ordered: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return how many rows each of a few lengths covers: quarters between the powers of two, up to the longest row."""
    steps: list[tuple[int, int]] = []
    power = 8
    while not steps or steps[-1][1] < len(ordered):
        lengths = (power * quarter // 4 for quarter in (4, 5, 6, 7))
        steps += [(length, int(np.searchsorted(ordered, length, side="right"))) for length in lengths]
        power *= 2
    last = next(place for place, (_, rows) in enumerate(steps) if rows == len(ordered))
    first = next((place for place, (_, rows) in enumerate(steps) if rows), 0)
    return [*steps[max(0, first - 1) : last], (int(ordered[-1]), len(ordered))]


def percentile(ordered: Sequence[int] | npt.NDArray[np.int64], share: float) -> int:
    """Return the smallest of sorted values that at least `share` of them do not exceed."""
    rank = -(-len(ordered) * round(share * 100) // 100)
    return int(ordered[max(0, rank - 1)])


_ASKED = ("prompt", "tools", "answer")


def estimate_lengths(
    rows: Iterable[Row], *, prompts: bool = False
) -> tuple[LengthProfile | None, LengthProfile | None]:
    """Return lengths of sequences and of their answers (None for plain text), from characters.

    A row is one sequence; where answers are compared it is one for each answer, with the prompt.

    Args:
        rows: Canonical rows.
        prompts: The model answers the rows itself: a sequence is the prompt alone.
    """
    whole, answers = array("q"), array("q")
    for row in rows:
        if prompts:
            row = {key: value for key, value in asked(row).items() if key in _ASKED}
        if "chosen" in row or "completion" in row:
            for length, answered in _side_lengths(row):
                whole.append(length)
                answers.append(answered)
            continue
        if "text" in row or "tokens" in row:
            whole.append(_tokens(row["text"] if "text" in row else " ".join(row["tokens"])) + 1)
            continue
        if "answer" in row:
            answers.append(_tokens(row["answer"]) + 1)
        tools = _tool_tokens(row)
        said = [(turn["role"], _tokens(spoken_text(turn))) for turn in turns(row) or row.get("prompt", ())]
        whole.append(tools + sum(num_tokens + TURN_OVERHEAD_TOKENS for _, num_tokens in said))
        if "messages" in row:
            answers.append(sum(num_tokens + 1 for role, num_tokens in said if role == "assistant"))
    return length_profile(whole, estimated=True), length_profile(answers, estimated=True)


def _side_lengths(row: Row) -> list[tuple[int, int]]:
    """Return the tokens of each side of a row with its prompt, and of its answer alone."""
    prompt = _tool_tokens(row) + sum(_turn_tokens(turn) for turn in row["prompt"])
    sides = [row[key] for key in ("chosen", "rejected", "completion") if key in row]
    answers = [sum(_turn_tokens(turn) for turn in side) for side in sides]
    return [(prompt + answer, max(1, answer - TURN_OVERHEAD_TOKENS + 1)) for answer in answers]


def _turn_tokens(turn: Mapping[str, Any]) -> int:
    return _tokens(spoken_text(turn)) + TURN_OVERHEAD_TOKENS


def _tool_tokens(row: Row) -> int:
    return _tokens(json.dumps(row["tools"], ensure_ascii=False)) if row.get("tools") else 0


def _tokens(text: str) -> int:
    # Scripts outside ASCII take about one token per character, so bytes are the better measure.
    num_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return max(1, round(num_bytes / CHARS_PER_TOKEN))


def expected_answers(rows: Sequence[Row], renderer: Renderer) -> LengthProfile | None:
    """Return the lengths of the answers that prompts come with, in tokens; None where there are none, or no prompts."""
    if renderer.task.signal != "prompts":
        return None
    known = [answer for row in rows[:_ANSWERED] if (answer := asked(row).get("answer"))]
    if not known:
        return None
    return length_profile(list(map(len, renderer.tokenizer(known, add_special_tokens=False)["input_ids"])))
