"""What is asked and what is expected, from a row in canonical form or from a typed prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

PREFIX_TOKENS = 32
"""Tokens of a plain text that are shown to the model, which then continues it."""
CONTINUATION_TOKENS = 64
"""Tokens of a plain text that are shown beside the continuation."""


class RowRenderer(Protocol):
    """The part of `engine.data.rendering.Renderer` that evaluation uses."""

    def render(self, row: Mapping[str, Any]) -> Any:
        """Return an object with `input_ids` and `trained_mask`."""

    def prompt_ids(self, row: Mapping[str, Any]) -> Sequence[int]:
        """Return the ids before the last assistant turn, with the generation prompt."""


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt for the model.

    Attributes:
        id: Where the row comes from, `file:line`; empty for typed prompts.
        prompt: What people see: the last message of the user, or the start of a text.
        expected: The answer in the data; empty for typed prompts.
        input_ids: What the model sees.
    """

    id: str
    prompt: str
    expected: str
    input_ids: Sequence[int]


def question_from_row(
    row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, renderer: RowRenderer
) -> Question | None:
    """Return the question that a row poses; None for a conversation without an answer or a text of one token."""
    row_id = str(row.get("id", ""))
    if "messages" not in row:
        return _question_from_text(row, row_id, tokenizer, renderer)
    messages = row["messages"]
    answer = next((place for place in reversed(range(len(messages))) if messages[place]["role"] == "assistant"), None)
    if answer is None:
        return None
    asked = next((turn["content"] for turn in reversed(messages[:answer]) if turn["role"] == "user"), "")
    return Question(row_id, str(asked), str(messages[answer]["content"]), renderer.prompt_ids(row))


def _question_from_text(
    row: Mapping[str, Any], row_id: str, tokenizer: PreTrainedTokenizerBase, renderer: RowRenderer
) -> Question | None:
    ids = list(renderer.render(row).input_ids)
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    cut = min(PREFIX_TOKENS, len(ids) // 2)
    if cut == 0:
        return None
    prompt = str(tokenizer.decode(ids[:cut], skip_special_tokens=True))
    expected = str(tokenizer.decode(ids[cut : cut + CONTINUATION_TOKENS], skip_special_tokens=True))
    return Question(row_id, prompt, expected, ids[:cut])


def question_from_prompt(
    prompt: str, *, plain_text: bool, tokenizer: PreTrainedTokenizerBase, renderer: RowRenderer
) -> Question:
    """Return the question that a typed prompt poses, to a chat model or to a model that continues text."""
    if plain_text:
        return Question("", prompt, "", plain_prompt_ids(prompt, tokenizer))
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": ""}]
    return Question("", prompt, "", renderer.prompt_ids({"messages": messages, "id": ""}))


def plain_prompt_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of a text to be continued: with what the tokenizer puts in front, without an end of text."""
    ids: list[int] = list(tokenizer(text)["input_ids"])
    while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids
