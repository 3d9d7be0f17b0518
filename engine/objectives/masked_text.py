"""Domain adaptation of encoders: guess the words that are hidden in a text.

The loss of a step is the mean over all words hidden in it, however it is cut into micro-batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainingArguments

from engine.data.rendered import RenderedRows
from engine.objectives.masking import Masker, num_hidden
from engine.objectives.parts import TrainerParts
from engine.objectives.sequences import IGNORED, Segment, SequenceCollator, Sequences, cut_sequences
from engine.training.losses import smoothed_loss
from engine.training.settings import shared_settings
from engine.training.trainer import StepTrainer


@dataclass(frozen=True, slots=True)
class MaskedText:
    """What carries out domain adaptation with an encoder.

    Attributes:
        share: Share of the words that are hidden.
    """

    share: float

    def examples(self, rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
        """Return windows of text, each on its own."""
        cut = cut_sequences(rendered, max_length, packed=False)
        return Sequences(cut.segments, cut.lengths, cut.num_trained, weights=num_hidden(cut.num_trained, self.share))

    def gathered(self, segments: Sequence[Sequence[Segment]]) -> Sequences:
        """Return segments as the trainer takes them."""
        return Sequences(segments, weights=num_hidden(Sequences(segments).num_trained, self.share))

    def trainer(self, parts: TrainerParts) -> StepTrainer:
        """Return a trainer whose loss covers the hidden words."""
        masker = Masker(parts.tokenizer, self.share, parts.training.seed)
        collate = MaskCollator(masker, SequenceCollator(masked_pad(masker), packed=False), lambda: 0)
        built = MaskedTrainer(
            model=parts.model,
            args=TrainingArguments(**shared_settings(parts)),
            processing_class=parts.tokenizer,
            data_collator=collate,
        )
        built.steer(parts.sequences, parts.order, parts.rate_share)
        # The trainer draws the micro-batches of a step when it begins, so that this is their step.
        collate.step = lambda: built.state.global_step
        return built


def masked_pad(masker: Masker) -> int:
    """Return what fills a batch; it is masked by position, and has no label."""
    pad = masker.tokenizer.pad_token_id
    return 0 if pad is None else int(pad)


@dataclass(slots=True)
class MaskCollator:
    """Hides words in the texts of a micro-batch and pads them on the right.

    Attributes:
        masker: Hides words.
        collate: Pads.
        step: Which optimizer step the words are hidden for.
    """

    masker: Masker
    collate: SequenceCollator
    step: Callable[[], int]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `labels` and `attention_mask`, each of shape [B, S]; nothing without rows."""
        step = self.step() if rows else 0
        hidden = [self.masker.hide(row["input_ids"], row["labels"], step) for row in rows]
        return self.collate([{"input_ids": each.input_ids, "labels": each.labels} for each in hidden])


class MaskedTrainer(StepTrainer):
    """The library's trainer with the loss of hidden words over their number in the whole step."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed cross entropy of the hidden words over their number in the whole step."""
        labels_BS = inputs.pop("labels")
        outputs = model(**inputs)
        hidden = labels_BS != IGNORED
        # Most places have no hidden word, and the loss works in numbers of twice the width.
        loss = smoothed_loss(outputs.logits[hidden], labels_BS[hidden], self.label_smoothing, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss
