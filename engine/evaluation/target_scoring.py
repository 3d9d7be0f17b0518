"""Teacher-forced loss over target tokens of models with an encoder and a decoder.

Shapes: B rows, T tokens of the longest target, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from engine.evaluation.scoring import RowScore, TokenRow, autocast_like_training, causal_model, row_scores
from engine.objectives.sequences import make_segment
from engine.objectives.source_batches import SourceCollator


class TargetScorer:
    """Scores batches of rows, each a source with its target behind it.

    Training holds the logits of a whole micro-batch, with their gradient; a batch of as many tokens fits without.

    Args:
        model: With or without adapter.
        tokenizer: Of the model.
        precision: Number format that training computes in.
    """

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, *, precision: torch.dtype | None = None
    ) -> None:
        self._model = model
        self._device = causal_model(model).device
        self._collate = SourceCollator.of(model, tokenizer)
        self._autocast = autocast_like_training(causal_model(model), precision)

    def score(self, rows: Sequence[TokenRow]) -> list[RowScore]:
        """Return the sums of each row over its target, in order."""
        segments = [make_segment("", row.input_ids, row.trained_mask) for row in rows]
        batch = self._collate([{"input_ids": each.input_ids, "labels": each.labels} for each in segments])
        inputs = {name: tensor.to(self._device) for name, tensor in batch.items()}
        labels_BT = inputs.pop("labels")
        with self._autocast():
            logits_BTV = self._model(**inputs, use_cache=False).logits
        return row_scores(logits_BTV.__getitem__, labels_BT, logits_BTV.shape[-1])
