"""Token classification: learn the tag of each word, on the first token of the word.

The loss of a step is the mean over the tagged words of all its rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import TrainingArguments

from engine.data.rendered import RenderedRows
from engine.objectives.label_batches import TagCollator
from engine.objectives.parts import TrainerParts
from engine.objectives.sequences import IGNORED, Segment, Sequences, cut_sequences
from engine.training.settings import shared_settings
from engine.training.trainer import StepTrainer


def examples(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered rows, each on its own."""
    cut = cut_sequences(rendered, max_length, packed=False)
    return Sequences(cut.segments, cut.lengths, cut.num_trained, as_row=tagged_row)


def gathered(segments: Sequence[Sequence[Segment]]) -> Sequences:
    """Return segments as the trainer takes them."""
    return Sequences(segments, as_row=tagged_row)


def trainer(parts: TrainerParts) -> StepTrainer:
    """Return a trainer of the head and of what the method trains besides."""
    built = TagTrainer(
        model=parts.model,
        args=TrainingArguments(**shared_settings(parts)),
        processing_class=parts.tokenizer,
        data_collator=TagCollator(parts.tokenizer),
    )
    built.steer(parts.sequences, parts.order, parts.rate_share)
    return built


class TagTrainer(StepTrainer):
    """The library's trainer with the loss of tags."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed cross entropy of the tagged words, smoothed, over their number in the whole step."""
        labels_BT = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.logits.float().flatten(0, 1)
        summed = functional.cross_entropy(
            logits,
            labels_BT.flatten(),
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        loss = summed / ((labels_BT != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


def tagged_row(segments: Sequence[Segment]) -> dict[str, Any]:
    """Return a row with the tag of each word on the word's first token; words beyond the cut have no token here."""
    (segment,) = segments
    first_tokens = [place for place, label in enumerate(segment.labels) if label != IGNORED]
    labels = [IGNORED] * len(segment.labels)
    # Strict: a row with too few tags must never pass for the end of the rows, as a StopIteration would.
    for place, tag in zip(first_tokens, segment.targets[: len(first_tokens)], strict=True):
        labels[place] = tag
    return {"input_ids": segment.input_ids, "labels": labels}
