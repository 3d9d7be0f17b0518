"""P23: whether the untouched model expects the rows better than chance.

A model with the wrong tokenizer or damaged weights is confident and wrong: its loss lies above that of guessing, the
logarithm of the vocabulary. One that was never trained is not wrong, it only knows nothing; that is told, not blocked.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from engine.data.preflight_case import Verdict
from engine.data.rendered import Rendered
from engine.evaluation.isolation import undisturbed
from engine.evaluation.scoring import autocast_like_training
from engine.models.loading import compute_dtype
from engine.training.context import RunContext

NUM_ROWS = 8
MAX_TOKENS = 512
BLOCK_ABOVE = 1.05
WARN_ABOVE = 0.95
UNSURE_ABOVE = 0.85
"""Entropy of the predictions, as a share of the greatest possible, above which a model claims to know nothing."""
_SPREAD_BAND = (0.9, 1.1)


@dataclass(frozen=True, slots=True)
class FirstLoss:
    """What a model expects of trained tokens, in nats per token.

    Attributes:
        loss: Of the tokens that follow.
        entropy: Of the predictions: how unsure the model is.
        chance: Of guessing: the logarithm of the vocabulary.
        num_tokens: Trained tokens looked at.
    """

    loss: float
    entropy: float
    chance: float
    num_tokens: int


def check_first_loss(context: RunContext) -> Verdict:
    """Hold the loss of a few rows, before any step, against that of guessing."""
    rows = _rows(context)
    if not rows:
        return Verdict("skipped", f"No row of at most {MAX_TOKENS} tokens has anything to learn.")
    found = measure_first_loss(context.model, rows, compute_dtype(context.recipe))
    return judge(found, [row.id for row in rows], untrained=looks_untrained(context.model))


def judge(found: FirstLoss, row_ids: list[str], *, untrained: bool) -> Verdict:
    """Return the verdict on a first loss.

    Args:
        found: What was measured.
        row_ids: Of the rows that it was measured on.
        untrained: The weights are as their configuration draws them.
    """
    measured = {"loss": found.loss, "entropy": found.entropy, "chance": found.chance, "tokens": float(found.num_tokens)}
    words = f"The untouched model has a loss of {found.loss:.2f} on the rows; guessing has {found.chance:.2f}"
    fix = "Check that tokenizer, chat template and weights belong to one model, and that the files are whole."
    if not math.isfinite(found.loss):
        return Verdict("blocked", "The untouched model's loss on the rows is no number.", fix, row_ids, measured)
    if untrained:
        return Verdict(
            "passed", f"{words}. Its weights are random, so that it has everything to learn.", "", (), measured
        )
    if found.loss <= WARN_ABOVE * found.chance:
        return Verdict("passed", f"{words}.", measured=measured)
    if found.loss > BLOCK_ABOVE * found.chance and found.entropy < UNSURE_ABOVE * found.chance:
        return Verdict("blocked", f"{words}: it is sure of itself, and wrong.", fix, row_ids, measured)
    return Verdict("warning", f"{words}: it knows nothing of what these rows say.", fix, row_ids, measured)


def measure_first_loss(model: PreTrainedModel, rows: list[Rendered], dtype: torch.dtype) -> FirstLoss:
    """Return the loss on the trained tokens of rows, one row at a time."""
    losses, entropies, num_tokens, size = 0.0, 0.0, 0, 0
    with undisturbed(model):
        for row in rows:
            ids = torch.tensor([row.input_ids], device=model.device)
            with autocast_like_training(model, dtype)():
                logits_BTV = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            places = torch.tensor(row.trained_mask[1:], dtype=torch.bool, device=logits_BTV.device)
            scores = functional.log_softmax(logits_BTV[0, :-1][places].float(), dim=-1)
            losses -= float(scores.gather(1, ids[0, 1:][places].to(scores.device)[:, None]).sum())
            entropies -= float((scores.exp() * scores.clamp_min(-1e4)).sum())
            num_tokens, size = num_tokens + len(scores), scores.shape[-1]
    return FirstLoss(losses / num_tokens, entropies / num_tokens, math.log(size), num_tokens)


def _rows(context: RunContext) -> list[Rendered]:
    """Return a few rows that teach, spread over the data."""
    sequences = context.rendered.sequences
    fitting = np.flatnonzero((sequences.num_learnt > 0) & (sequences.lengths <= MAX_TOKENS))
    return [sequences[int(index)] for index in fitting[:: max(1, len(fitting) // NUM_ROWS)][:NUM_ROWS]]


def looks_untrained(model: nn.Module) -> bool:
    """Return whether a base model's weights are as its configuration draws them.

    Training moves the scales of norms off the constant that they start from, all of them within a few steps; and it
    moves the spread of the embeddings off the configuration's `initializer_range`.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    scales = [weight for name, weight in base.named_parameters() if weight.dim() == 1 and _of_norm(name)]
    if not scales or any(bool((weight != weight.flatten()[0]).any()) for weight in scales):
        return False
    drawn = base.config.get_text_config().to_dict().get("initializer_range")
    if not isinstance(drawn, float) or drawn <= 0:
        return False
    heads = [base.get_input_embeddings(), base.get_output_embeddings()]
    ratios = [float(head.weight.detach().float().std()) / drawn for head in heads if head is not None]
    return all(_SPREAD_BAND[0] <= ratio <= _SPREAD_BAND[1] for ratio in ratios)


def _of_norm(name: str) -> bool:
    *_, module, kind = ("", *name.lower().split("."))
    return kind == "weight" and ("norm" in module or module.startswith("ln"))
