"""What is asked and what is expected, from a row in canonical form or from a typed prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from engine.data.rendering import Renderer
from engine.data.rows import Row

CONTINUATION_TOKENS = 64
"""Tokens of a plain text that are shown beside the continuation."""


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


def question_from_row(row: Row, tokenizer: PreTrainedTokenizerBase, renderer: Renderer) -> Question | None:
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
    row: Row, row_id: str, tokenizer: PreTrainedTokenizerBase, renderer: Renderer
) -> Question | None:
    prompt_ids = renderer.prompt_ids(row)
    ids = renderer.render(row).input_ids
    following = ids[len(prompt_ids) : len(prompt_ids) + CONTINUATION_TOKENS]
    if not prompt_ids or not following:
        return None
    prompt = str(tokenizer.decode(prompt_ids, skip_special_tokens=True))
    return Question(row_id, prompt, str(tokenizer.decode(following, skip_special_tokens=True)), prompt_ids)


def question_from_prompt(prompt: str, renderer: Renderer, *, plain_text: bool) -> Question:
    """Return the question that a typed prompt poses, to a chat model or to a model that continues text."""
    return Question("", prompt, "", renderer.prompt_ids_of(prompt, conversation=not plain_text))
