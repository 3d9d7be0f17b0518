"""P23 for heads of classes, tags and rewards: the loss before the first step.

A new head starts at random and has no loss that the base model could be held to; what is told is how far it starts from
guessing. Where the method's adapter starts at nothing, the same rows have the same loss with and without it.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch.nn import functional

from engine.data.preflight_case import Verdict
from engine.evaluation.isolation import undisturbed
from engine.evaluation.scoring import autocast_like_training
from engine.models.loading import compute_dtype
from engine.objectives.build import make_examples
from engine.objectives.class_loss import class_losses
from engine.objectives.label_batches import LabelCollator, TagCollator
from engine.objectives.pair_batches import SideCollator
from engine.objectives.reward_model import reward_losses
from engine.objectives.sequences import IGNORED, Sequences
from engine.training.context import RunContext
from engine.training.preflight_chance import MAX_TOKENS, NUM_ROWS, judge_start, starts_as_base

LossOf = Callable[[dict[str, Any]], torch.Tensor]


def check_first_label_loss(context: RunContext) -> Verdict:
    """Look that a few rows have a finite loss before any step, and that an adapter that starts at nothing is none."""
    rows = _rows(context)
    if not len(rows):
        return Verdict("skipped", f"No row has at most {MAX_TOKENS} tokens.")
    row_ids = rows.row_ids(range(len(rows)))
    loss, chance = first_label_loss(context, rows), chance_of(context)
    if not math.isfinite(loss):
        fix = "Check that the weights are whole, and that training.precision suits the model."
        return Verdict("blocked", "The loss on the rows before any step is no number.", fix, row_ids)
    verdict = Verdict(
        "passed",
        f"Before any step the loss on {len(rows)} rows is {loss:.2f}; guessing has {chance:.2f}.",
        measured={"loss": loss, "chance": chance},
    )
    if not starts_as_base(context):
        return verdict
    assert isinstance(context.model, PeftModel)
    with context.model.disable_adapter():
        base_loss = first_label_loss(context, rows)
    return judge_start(verdict, loss, base_loss, row_ids)


def chance_of(context: RunContext) -> float:
    """Return the loss of guessing, in nats: one of the classes or tags; yes or no of several classes and of pairs."""
    task = context.task
    return math.log(2) if task.multi_label or task.signal == "rewards" else math.log(len(task.labels))


def first_label_loss(context: RunContext, rows: Sequences) -> float:
    """Return the mean loss of rows, one row at a time; weights of classes and other settings of the loss aside."""
    collate, loss_of = _parts(context)
    model, dtype = context.model, compute_dtype(context.recipe)
    losses = []
    with undisturbed(model):
        for row in _each(rows):
            batch = {name: tensor.to(model.device) for name, tensor in collate([row]).items()}
            with autocast_like_training(model, dtype)():
                losses.append(float(loss_of(batch)))
    return float(np.mean(losses))


def _each(rows: Sequences) -> Iterable[dict[str, Any]]:
    dataset = rows.dataset()
    return (dataset[place] for place in range(len(rows)))


def _parts(context: RunContext) -> tuple[Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]], LossOf]:
    """Return what makes tensors of a row, and its loss from them."""
    model, task, tokenizer = context.model, context.task, context.tokenizer

    def logits_of(batch: dict[str, Any]) -> torch.Tensor:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits: torch.Tensor = model(**inputs).logits
        return logits.float()

    def of_classes(batch: dict[str, Any]) -> torch.Tensor:
        return class_losses(logits_of(batch), batch["labels"], multi_label=task.multi_label).mean()

    def of_tags(batch: dict[str, Any]) -> torch.Tensor:
        return functional.cross_entropy(logits_of(batch)[0], batch["labels"][0], ignore_index=IGNORED)

    def of_rewards(batch: dict[str, Any]) -> torch.Tensor:
        chosen, rejected = logits_of(batch).squeeze(-1).chunk(2)
        return reward_losses(chosen, rejected).mean()

    match task.signal:
        case "labels":
            return LabelCollator(tokenizer, task), of_classes
        case "tags":
            return TagCollator(tokenizer), of_tags
        case _:
            return SideCollator(pad_id=int(tokenizer.pad_token_id or 0)), of_rewards


def _rows(context: RunContext) -> Sequences:
    """Return a few rows that teach, spread over the data."""
    rows = make_examples(context.recipe, context.task, context.rendered, context.renderer.max_length)
    longest = MAX_TOKENS * (2 if context.task.signal == "rewards" else 1)
    fitting = np.flatnonzero((rows.num_trained > 0) & (rows.lengths <= longest))
    return rows.only(fitting[:: max(1, len(fitting) // NUM_ROWS)][:NUM_ROWS].tolist())
