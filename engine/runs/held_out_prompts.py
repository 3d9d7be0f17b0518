"""Prompts to ask the models of a run: those that the recipe names, then those of its held-out rows. Light."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory

_MOST_BEGINNING_WORDS, _MOST_REST_WORDS = 24, 48
"""Of a plain text: what the model is to go on from, and what is shown of the rest."""
_ROWS_LOOKED_AT = 20
"""For each prompt that is wanted: rows of another kind are passed over, and a file of millions is not read for that."""


@dataclass(frozen=True, slots=True)
class HeldOutPrompt:
    """One prompt.

    Attributes:
        id: Place of its row, `file:line`, or `prompt N` for one of the recipe.
        messages: The conversation up to the answer, as `engine.chat_client` takes it.
        shown: What people read of it: the last message.
        expected: The answer in the data; empty where there is none.
    """

    id: str
    messages: tuple[dict[str, str], ...]
    shown: str
    expected: str = ""


def typed_prompt(text: str) -> HeldOutPrompt:
    """Return a prompt that a person typed."""
    return HeldOutPrompt("typed", ({"role": "user", "content": text},), text)


def recipe_prompts(run: RunDirectory) -> list[HeldOutPrompt]:
    """Return the prompts that the recipe of a run names; none where its plan cannot be read."""
    try:
        texts = run.read_plan().recipe.evaluation.sample_prompts or ()
    except ProblemError:
        return []
    return [
        HeldOutPrompt(f"prompt {number}", typed_prompt(text).messages, text) for number, text in enumerate(texts, 1)
    ]


def held_out_prompts(run: RunDirectory, limit: int) -> list[HeldOutPrompt]:
    """Return the prompts of the first held-out rows that ask something; none where a run has no rows yet.

    Rows with tools are left out: a chat process is not told of them, and the model would be asked something else.
    """
    found: list[HeldOutPrompt] = []
    seen: set[str] = set()
    for row in _rows(run, limit * _ROWS_LOOKED_AT):
        prompt = _prompt_of(row)
        if prompt is not None and prompt.id not in seen:
            found.append(prompt)
            seen.add(prompt.id)
        if len(found) == limit:
            break
    return found


def _rows(run: RunDirectory, most: int) -> Iterator[dict[str, Any]]:
    try:
        with run.held_out_file.open("rb") as lines:
            for _, line in zip(range(most), lines, strict=False):
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row
    except OSError:
        return


def _prompt_of(row: Mapping[str, Any]) -> HeldOutPrompt | None:
    """Return the prompt of a row in canonical form (`engine.data.rows`); None where there is none to be told."""
    name = str(row.get("id") or "")
    if not name or row.get("tools"):
        return None
    if "text" in row:
        return _of_text(name, row)
    if "prompt" in row:
        wanted = row.get("chosen") or (row.get("completion") if row.get("label", True) else None)
        expected = _said(wanted[-1]) if isinstance(wanted, list) and wanted else str(row.get("answer") or "")
        return _of_turns(name, row["prompt"], expected or "")
    messages = row.get("messages")
    if not isinstance(messages, list):
        return None
    places = [at for at, turn in enumerate(messages) if _role(turn) == "assistant"]
    return _of_turns(name, messages[: places[-1]], _said(messages[places[-1]]) or "") if places else None


def _of_turns(name: str, turns: Any, expected: str) -> HeldOutPrompt | None:
    if not isinstance(turns, Sequence) or not turns or any(_said(turn) is None for turn in turns):
        return None
    messages = tuple({"role": str(_role(turn)), "content": str(_said(turn))} for turn in turns)
    asked = next((turn["content"] for turn in reversed(messages) if turn["role"] == "user"), "")
    return HeldOutPrompt(name, messages, asked, expected)


def _of_text(name: str, row: Mapping[str, Any]) -> HeldOutPrompt | None:
    text = str(row["text"])
    if "label" in row or "labels" in row:
        labels = row["labels"] if "labels" in row else [row["label"]]
        return HeldOutPrompt(name, typed_prompt(text).messages, text, ", ".join(map(str, labels)))
    words = text.split(" ")
    cut = min(_MOST_BEGINNING_WORDS, len(words) // 2)
    beginning, rest = " ".join(words[:cut]), " ".join(words[cut : cut + _MOST_REST_WORDS])
    return HeldOutPrompt(name, typed_prompt(beginning).messages, beginning, rest) if beginning.strip() else None


def _role(turn: Any) -> str | None:
    return str(turn.get("role")) if isinstance(turn, Mapping) else None


def _said(turn: Any) -> str | None:
    """Return what a turn says; None for a turn with calls of tools, or none at all."""
    if not isinstance(turn, Mapping) or turn.get("tool_calls") or not isinstance(turn.get("content"), str):
        return None
    return str(turn["content"])
