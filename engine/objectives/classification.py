"""Classification: learn which class a text has, or which of several.

The loss of a step is the mean over its rows, whatever their length and however they are cut into micro-batches.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import TrainingArguments

from engine.catalog.tasks import Task
from engine.data.rendered import RenderedRows
from engine.objectives.class_loss import balanced_weights, class_losses
from engine.objectives.label_batches import LabelCollator
from engine.objectives.parts import TrainerParts
from engine.objectives.sequences import Segment, Sequences, cut_sequences
from engine.training.settings import shared_settings
from engine.training.trainer import StepTrainer


def examples(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered texts, each on its own."""
    cut = cut_sequences(rendered, max_length, packed=False)
    return Sequences(cut.segments, cut.lengths, as_row=_row, weights=np.ones(len(cut), dtype=np.int64))


def gathered(segments: Sequence[Sequence[Segment]]) -> Sequences:
    """Return segments as the trainer takes them."""
    return Sequences(segments, as_row=_row, weights=np.ones(len(segments), dtype=np.int64))


def trainer(parts: TrainerParts) -> StepTrainer:
    """Return a trainer of the head and of what the method trains besides."""
    built = LabelTrainer(
        model=parts.model,
        args=TrainingArguments(**shared_settings(parts)),
        processing_class=parts.tokenizer,
        data_collator=LabelCollator(parts.tokenizer, parts.task),
    )
    built.steer(parts.sequences, parts.order, parts.rate_share)
    built.task = parts.task
    built.focal_gamma = parts.recipe.classification.focal_gamma
    built.class_weights = _class_weights(parts)
    return built


class LabelTrainer(StepTrainer):
    """The library's trainer with the loss of classes.

    Attributes:
        task: What the model gives out.
        focal_gamma: See `engine.objectives.class_loss.class_losses`.
        class_weights: How much each class counts; None for all the same.
    """

    task: Task
    focal_gamma: float
    class_weights: torch.Tensor | None

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed loss of the rows over the number of rows in the whole step."""
        targets = inputs.pop("labels")
        outputs = model(**inputs)
        weights = self.class_weights
        losses_B = class_losses(
            outputs.logits.float(),
            targets,
            multi_label=self.task.multi_label,
            weights_C=None if weights is None else weights.to(targets.device),
            focal_gamma=self.focal_gamma,
            smoothing=self.label_smoothing,
        )
        loss = losses_B.sum() / (len(losses_B) if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


def _row(segments: Sequence[Segment]) -> dict[str, Any]:
    (segment,) = segments
    return {"input_ids": segment.input_ids, "targets": segment.targets}


def _class_weights(parts: TrainerParts) -> torch.Tensor | None:
    """Return the weights that the recipe asks for, from the classes of the training rows."""
    if parts.recipe.classification.class_weights == "none":
        return None
    counts: dict[str, int] = {}
    for place in range(len(parts.sequences)):
        for number in parts.sequences.segments[place][0].targets:
            counts[parts.task.labels[number]] = counts.get(parts.task.labels[number], 0) + 1
    return balanced_weights(
        counts, parts.task.labels, multi_label=parts.task.multi_label, num_rows=len(parts.sequences)
    )
