"""Texts with their classes, or with the tags of their words, as tensors.

Shapes: B rows, S tokens, C classes.
"""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.objectives.class_loss import targets_of
from engine.objectives.sequences import IGNORED


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
        batch = padded_texts([closed(row["input_ids"], self._closing_id) for row in rows], self._pad_id)
        if "targets" in rows[0]:
            batch["labels"] = targets_of([row["targets"] for row in rows], self._task)
        return batch


class TagCollator:
    """Pads texts and the tags of their words on the right; a text that was cut ends with its last word.

    Args:
        tokenizer: Of the model.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._pad_id = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, each [B, S]; without rows there is nothing."""
        if not rows:
            return {}
        batch = padded_texts([row["input_ids"] for row in rows], self._pad_id)
        longest = batch["input_ids"].shape[1]
        batch["labels"] = torch.tensor([row["labels"] + [IGNORED] * (longest - len(row["labels"])) for row in rows])
        return batch


def padded_texts(texts: list[list[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask` [B, S] of texts, filled up on the right."""
    longest = max(map(len, texts))
    return {
        "input_ids": torch.tensor([ids + [pad_id] * (longest - len(ids)) for ids in texts]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in texts]),
    }


def closed(ids: list[int], closing: int | None) -> list[int]:
    """Return a text that ends with the token that closes texts, in place of its last one where it was cut."""
    return ids if closing is None or not ids or ids[-1] == closing else [*ids[:-1], closing]


def closing_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the special token that the tokenizer puts at the end of every text; None for one that puts none."""
    ids = tokenizer("a")["input_ids"]
    return int(ids[-1]) if ids and ids[-1] in tokenizer.all_special_ids else None
