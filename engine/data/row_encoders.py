"""Rows that no chat template writes out: how each task's rows become token ids."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from transformers import PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.data.encoding import Tokens
from engine.data.label_names import names_in
from engine.data.rows import Row

RowEncoder: TypeAlias = Callable[[Sequence[Row]], list[list[Tokens]]]
"""Returns the sequences of each row."""


def row_encoder(task: Task, tokenizer: PreTrainedTokenizerBase) -> RowEncoder | None:
    """Return what encodes the rows of a task; None where a chat template or plain text is encoded.

    Args:
        task: What the model is asked to give out.
        tokenizer: As returned by `engine.models.tokenizers.load_tokenizer`.
    """
    if task.signal == "labels":
        return lambda rows: _labelled(task, tokenizer, rows)
    return None


def _labelled(task: Task, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[list[Tokens]]:
    """Encode texts with the special tokens that the tokenizer puts around one; the class is learnt from all of it."""
    numbers = task.numbers
    encoded = tokenizer([row["text"] for row in rows], truncation=False)["input_ids"] if rows else []
    return [
        [Tokens(list(ids), [(0, len(ids))], tuple(numbers[name] for name in names_in(row)))]
        for row, ids in zip(rows, encoded, strict=True)
    ]
