"""Text to text with an encoder and a decoder: the source is read, the target is learnt.

The loss of a step is the mean over all target tokens of the step, however it is cut into micro-batches.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from engine.data.rendered import RenderedRows
from engine.objectives.parts import TrainerParts
from engine.objectives.sequences import Segment, Sequences, cut_sequences
from engine.objectives.source_batches import SourceCollator
from engine.training.losses import smoothed_loss
from engine.training.settings import shared_settings
from engine.training.trainer import StepTrainer


def examples(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered pairs, each on its own."""
    return cut_sequences(rendered, max_length, packed=False)


def gathered(segments: Sequence[Sequence[Segment]]) -> Sequences:
    """Return segments as the trainer takes them."""
    return Sequences(segments)


def trainer(parts: TrainerParts) -> StepTrainer:
    """Return a trainer whose loss covers the target tokens."""
    built = TargetTrainer(
        model=parts.model,
        args=Seq2SeqTrainingArguments(**shared_settings(parts)),
        processing_class=parts.tokenizer,
        data_collator=SourceCollator.of(parts.model, parts.tokenizer),
    )
    built.steer(parts.sequences, parts.order, parts.rate_share)
    return built


class TargetTrainer(StepTrainer, Seq2SeqTrainer):
    """The library's trainer with the loss of target tokens over their number in the whole step."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed cross entropy of the target tokens over their number in the whole step.

        The model gets no labels: each family shifts them in its own way, and averages over the micro-batch.
        """
        labels_BS = inputs.pop("labels")
        outputs = model(**inputs, use_cache=False)
        loss = smoothed_loss(outputs.logits, labels_BS, self.label_smoothing, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss
