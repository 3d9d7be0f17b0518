"""Prompts as training, an exported tokenizer and the chat read them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from engine.data.chat_template import TIME_LIMIT_S, TemplateRefusedError, fold_system, time_limit
from engine.data.rendered import Rendered
from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.models.tokenizers import faithful_tokenizer

MOST_TOKENS = 1 << 20
"""A length that a tokenizer takes as one; longer texts are cut to it."""


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
    chat = Renderer(exported, renderer.max_length, renderer.system_prompt, renderer.task)
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
    if renderer.frame.pairs:
        # As whoever serves the model calls it: the text, cut to the length that it learnt, behind its prefix.
        said = "\n\n".join(turn["content"] for turn in row["messages"][:-1])
        length = min(renderer.max_length, MOST_TOKENS)
        return list(exported(f"{renderer.task.prefix}{said}", truncation=True, max_length=length)["input_ids"])
    if "text" in row:
        # Plain text is asked with its first tokens.
        return list(exported(row["text"])["input_ids"])[: len(renderer.prompt_ids(row))]
    messages = [dict(message) for message in renderer.messages(row)[:-1]]
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


def _ids_of_chat(chat: Renderer, row: Row) -> list[int] | None:
    if "text" in row:
        return chat.prompt_ids(row)
    # The chat session asks so: the answer is not there yet.
    asked = {**row, "messages": [*row["messages"][:-1], {"role": "assistant", "content": ""}]}
    try:
        return chat.prompt_ids(asked)
    except TemplateRefusedError:
        return None
