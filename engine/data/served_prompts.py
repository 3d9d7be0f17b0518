"""Prompts as training, an exported tokenizer and the chat read them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from engine.data.chat_template import TIME_LIMIT_S, Message, TemplateRefusedError, fold_system, time_limit
from engine.data.rendered import Rendered
from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.models.tokenizers import faithful_tokenizer


@dataclass(frozen=True, slots=True)
class Served:
    """A prompt as each path reads it.

    Attributes:
        row: The row whose last answer it asks for.
        sequences: What training made of the row.
        asked: Ids that evaluation asks with.
        exported: Ids from the written tokenizer and its own template; None where that refuses the conversation.
        chatted: Ids of the chat session with the written tokenizer; None where that refuses it.
    """

    row: Row
    sequences: Sequence[Rendered]
    asked: list[int]
    exported: list[int] | None
    chatted: list[int] | None


def served_prompts(
    rows: Sequence[tuple[Row, list[Rendered]]], renderer: Renderer, *, trust_remote_code: bool
) -> list[Served]:
    """Return the prompts of rows.

    Args:
        rows: Rows with their sequences.
        renderer: What rendered them.
        trust_remote_code: Whether the tokenizer may be one with code of its own.
    """
    exported = _exported(renderer.tokenizer, trust_remote_code=trust_remote_code)
    chat = Renderer(exported, renderer.max_length, renderer.system_prompt)
    return [
        Served(
            row, sequences, renderer.prompt_ids(row), _ids_of_export(renderer, exported, row), _ids_of_chat(chat, row)
        )
        for row, sequences in rows
    ]


def _exported(tokenizer: PreTrainedTokenizerBase, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Return the tokenizer as whoever gets the finished model reads it."""
    with tempfile.TemporaryDirectory(prefix="ftwizard-export-") as folder:
        tokenizer.save_pretrained(folder)
        return faithful_tokenizer(Path(folder), [], trust=trust_remote_code)


def _ids_of_export(renderer: Renderer, exported: PreTrainedTokenizerBase, row: Row) -> list[int] | None:
    if "text" in row:
        # Plain text is asked with its first tokens.
        return list(exported(row["text"])["input_ids"])[: len(renderer.prompt_ids(row))]
    messages = _asking(renderer, row)
    if renderer.template.folds_system:
        messages = fold_system(messages)
    try:
        with time_limit(TIME_LIMIT_S):
            ids: Any = exported.apply_chat_template(
                messages, tools=row.get("tools"), add_generation_prompt=True, tokenize=True, return_dict=False
            )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError, TimeoutError):
        return None
    return [int(token) for token in ids]


def _asking(renderer: Renderer, row: Row) -> list[Message]:
    """Return the messages in front of the last answer, with the system prompt of the recipe."""
    messages = [dict(message) for message in row["messages"][:-1]]
    if renderer.system_prompt and (not messages or messages[0]["role"] != "system"):
        messages.insert(0, {"role": "system", "content": renderer.system_prompt})
    return messages


def _ids_of_chat(chat: Renderer, row: Row) -> list[int] | None:
    if "text" in row:
        return chat.prompt_ids(row)
    # The chat session asks so: the answer is not there yet.
    asked = {**row, "messages": [*row["messages"][:-1], {"role": "assistant", "content": ""}]}
    try:
        return chat.prompt_ids(asked)
    except TemplateRefusedError:
        return None
