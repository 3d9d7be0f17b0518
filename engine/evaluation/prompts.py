"""What is asked and what is expected, from a row in canonical form or from a typed prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from engine.data.rendering import Renderer
from engine.data.row_encoders import is_one_turn
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
        num_turns: Messages of the row that stand before the answer; 0 for plain text.
    """

    id: str
    prompt: str
    expected: str
    input_ids: Sequence[int]
    num_turns: int = 0


def question_from_row(
    row: Row, tokenizer: PreTrainedTokenizerBase, renderer: Renderer, max_prompt_tokens: int
) -> Question | None:
    """Return the question that a row poses.

    A row of answers that are judged is asked for the better one.

    A conversation is asked for its last answer; where that comes too late to fit, for the last one that fits, so that
    long conversations are judged on what training could see of them.

    Returns:
        None for a conversation without an answer that fits, or a text of one token.
    """
    if "prompt" in row:
        row = as_conversation(row)
    if "messages" not in row:
        return _question_from_text(row, tokenizer, renderer)
    if renderer.frame.pairs and not is_one_turn(row):
        return None
    messages = row["messages"]
    for place in reversed(range(len(messages))):
        if messages[place]["role"] != "assistant":
            continue
        prompt_ids = renderer.prompt_ids({**row, "messages": messages[: place + 1]})
        if len(prompt_ids) <= max_prompt_tokens:
            asked = next((turn["content"] for turn in reversed(messages[:place]) if turn["role"] == "user"), "")
            expected = _expected({**row, "messages": messages[: place + 1]}, tokenizer, renderer, len(prompt_ids))
            return Question(str(row.get("id", "")), str(asked), expected, prompt_ids, place)
    return None


def as_conversation(row: Row) -> Row:
    """Return a row with a prompt as the conversation that is wanted: its prompt and its good answer.

    Where there is none, because the only answer is a bad one or the row has no answer, that is empty.
    """
    answer = row.get("chosen") or (row.get("completion") if row.get("label", True) else None)
    kept: Row = {key: row[key] for key in ("id", "tools") if key in row}
    return {**kept, "messages": [*row["prompt"], *(answer or [{"role": "assistant", "content": ""}])]}


def _expected(row: Row, tokenizer: PreTrainedTokenizerBase, renderer: Renderer, num_prompt: int) -> str:
    """Return the last answer of a row; a tool call as the chat template writes it, because so the model will."""
    answer = row["messages"][-1]
    if "tool_calls" not in answer:
        return str(answer["content"])
    written = renderer.render(row).input_ids[num_prompt:]
    return str(tokenizer.decode(written, skip_special_tokens=True)).strip()


def _question_from_text(row: Row, tokenizer: PreTrainedTokenizerBase, renderer: Renderer) -> Question | None:
    prompt_ids = renderer.prompt_ids(row)
    ids = renderer.render(row).input_ids
    following = ids[len(prompt_ids) : len(prompt_ids) + CONTINUATION_TOKENS]
    if not prompt_ids or not following:
        return None
    # Some tokenizers do not call their first token special, and would show it.
    shown = prompt_ids[1:] if prompt_ids[0] == tokenizer.bos_token_id else prompt_ids
    prompt, expected = (str(tokenizer.decode(part, skip_special_tokens=True)) for part in (shown, following))
    return Question(str(row.get("id", "")), prompt, expected, prompt_ids)


def question_from_prompt(prompt: str, renderer: Renderer, *, plain_text: bool) -> Question:
    """Return the question that a typed prompt poses, to a chat model or to a model that continues text."""
    return Question("", prompt, "", renderer.prompt_ids_of(prompt, conversation=not plain_text))
