"""Texts with their classes as tensors.

Shapes: B rows, S tokens, C classes.
"""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.objectives.class_loss import targets_of


class LabelCollator:
    """Pads the texts of a micro-batch on the right.

    A text that was cut gets back the token that closes every text of this tokenizer, in place of its last one: models
    that were made to read whole texts have never seen one without.

    Args:
        tokenizer: Of the model.
        task: What the model gives out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, task: Task) -> None:
        self._task = task
        self._pad_id = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        self._closing_id = closing_id(tokenizer)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids` and `attention_mask` [B, S], and `labels` [B] or [B, C] where the rows have `targets`.

        Without rows, which is what a process reads that has no part in the rest of a step, there is nothing.
        """
        if not rows:
            return {}
        texts = [self._closed(row["input_ids"]) for row in rows]
        longest = max(map(len, texts))
        batch = {
            "input_ids": torch.tensor([ids + [self._pad_id] * (longest - len(ids)) for ids in texts]),
            "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in texts]),
        }
        if "targets" in rows[0]:
            batch["labels"] = targets_of([row["targets"] for row in rows], self._task)
        return batch

    def _closed(self, ids: list[int]) -> list[int]:
        if self._closing_id is None or not ids or ids[-1] == self._closing_id:
            return ids
        return [*ids[:-1], self._closing_id]


def closing_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the special token that the tokenizer puts at the end of every text; None for one that puts none."""
    ids = tokenizer("a")["input_ids"]
    return int(ids[-1]) if ids and ids[-1] in tokenizer.all_special_ids else None
