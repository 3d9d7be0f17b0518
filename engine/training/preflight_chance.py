"""P23: whether the untouched model expects the rows better than chance.

A model with another model's tokenizer, or with damaged weights, is sure of itself and wrong: its loss lies above that
of guessing, and the tokens that stand there suit their places no better than the other tokens of the row. A small model
on rows of a new kind also exceeds guessing (the starter model on its own commands: 8.3 nats on the answers, guessing
7.3), but there the tokens suit their places. A model that was never trained is not wrong, it only knows nothing.

Measured on the starter model with its own and foreign rows: own tokenizer, ratio 0.51 to 0.88, 0.96 on Chinese, of
which it knows nothing; vocabulary shuffled, 0.97 to 1.02 for single shuffles of single rows.

Legend of shape suffixes: B rows, T positions, V vocabulary, P pairs of positions.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

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
from engine.methods.virtual_tokens import without_virtual_tokens
from engine.models.loading import compute_dtype
from engine.objectives.masked_text import MaskCollator
from engine.objectives.masking import JUDGED, Masker
from engine.objectives.sequences import IGNORED, SequenceCollator, make_segment
from engine.objectives.source_batches import SourceCollator
from engine.training.context import RunContext

NUM_ROWS = 8
MAX_TOKENS = 512
BLOCK_ABOVE = 1.05
WARN_ABOVE = 0.95
"""Loss as a multiple of guessing."""
BLOCK_RATIO = 0.98
WARN_RATIO = 0.9
"""Loss as a share of what the same tokens have at each other's places."""
UNSURE_ABOVE = 0.85
"""Entropy of the predictions, as a share of the greatest possible, above which a model claims to know nothing."""
SAME_LOSS = 1e-3
"""Relative difference of two losses that rounding explains, also in 16 bits: each is a mean over hundreds of tokens."""
_LEAST = -1e4
_SPREAD_BAND = (0.85, 1.1)
"""Families that cut the draw off at two deviations, as ModernBERT does, have 0.88 of it left."""
_SPREADS = ("initializer_range", "init_std", "initializer_factor")
"""What configurations call the spread of the embeddings; BART has a word of its own, and so has T5."""


@dataclass(frozen=True, slots=True)
class FirstLoss:
    """What a model expects of the tokens of a few rows, in nats per token.

    Attributes:
        loss: Of all tokens, each after those in front of it.
        trained: Of the trained tokens alone.
        shuffled: Of the same tokens at each other's places, all pairs within a row.
        entropy: Of the predictions: how unsure the model is.
        chance: Of guessing: the logarithm of the vocabulary.
    """

    loss: float
    trained: float
    shuffled: float
    entropy: float
    chance: float


def check_first_loss(context: RunContext) -> Verdict:
    """Hold the loss of a few rows, before any step, against that of guessing."""
    rows = _rows(context)
    if not rows:
        return Verdict("skipped", f"No row of at most {MAX_TOKENS} tokens has anything to learn.")
    dtype, row_ids = compute_dtype(context.recipe), [row.id for row in rows]
    collate = _collator(context)
    found = measure_first_loss(context.model, rows, dtype, collate)
    verdict = judge(found, row_ids, untrained=looks_untrained(context.model))
    if verdict.status != "passed" or not starts_as_base(context):
        return verdict
    assert isinstance(context.model, PeftModel)
    with context.model.disable_adapter():
        base = measure_first_loss(context.model, rows, dtype, collate)
    return judge_start(verdict, found.loss, base.loss, row_ids)


def starts_as_base(context: RunContext) -> bool:
    """Return whether the method's adapter changes nothing before the first step."""
    method = context.recipe.method
    zero_start = method.facts.learns in ("low-rank", "scales") and method.variant != "pissa"
    return isinstance(context.model, PeftModel) and zero_start


def judge_start(verdict: Verdict, loss: float, base_loss: float, row_ids: list[str]) -> Verdict:
    """Return a verdict that passed, or a warning when the adapter changes the loss before the first step.

    Args:
        verdict: On the first loss itself.
        loss: With the adapter.
        base_loss: Of the base model alone.
        row_ids: Of the rows that it was measured on.
    """
    measured = {**verdict.measured, "base_loss": base_loss}
    if abs(loss - base_loss) <= SAME_LOSS * abs(base_loss):
        return replace(verdict, message=f"{verdict.message} The adapter starts as the base model.", measured=measured)
    message = f"The adapter changes the model before the first step: loss {loss:.4g} with it, {base_loss:.4g} without."
    fix = "Check what else has changed the adapter; it should start as the base model."
    return Verdict("warning", message, fix, row_ids, measured)


def judge(found: FirstLoss, row_ids: list[str], *, untrained: bool) -> Verdict:
    """Return the verdict on a first loss.

    Args:
        found: What was measured.
        row_ids: Of the rows that it was measured on.
        untrained: The weights are as their configuration draws them.
    """
    words = (
        f"The untouched model has a loss of {found.loss:.2f} on the rows, {found.trained:.2f} on what is trained; "
        f"guessing has {found.chance:.2f}"
    )
    fix = "Check that tokenizer, chat template and weights belong to one model, and that the files are whole."
    if not math.isfinite(found.loss):
        return Verdict("blocked", "The untouched model's loss on the rows is no number.", fix, row_ids)
    ratio = found.loss / found.shuffled
    measured = {**asdict(found), "ratio": ratio}
    if untrained:
        return Verdict("passed", f"{words}: its weights are random, it has everything to learn.", measured=measured)
    if found.loss <= WARN_ABOVE * found.chance or ratio < WARN_RATIO:
        return Verdict("passed", f"{words}.", measured=measured)
    sure = found.entropy < UNSURE_ABOVE * found.chance
    if found.loss > BLOCK_ABOVE * found.chance and ratio >= BLOCK_RATIO and sure:
        return Verdict("blocked", f"{words}: it is sure of itself, and wrong.", fix, row_ids, measured)
    return Verdict("warning", f"{words}: it knows next to nothing of such rows.", fix, row_ids, measured)


Collate: TypeAlias = Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]


def _collator(context: RunContext) -> Collate | None:
    """Return what makes tensors whose labels stand where the model expects them; None for the next token."""
    match context.task.head:
        case "seq2seq-lm":
            return SourceCollator.of(context.model, context.tokenizer)
        case "masked-lm":
            masker = Masker(context.tokenizer, context.recipe.domain_adaptation.masked_share, 0)
            return MaskCollator(masker, SequenceCollator(0, packed=False), lambda: JUDGED)
        case _:
            return None


@dataclass(frozen=True, slots=True)
class _Expected:
    """Scores at the places of a row where tokens are expected, the tokens, and which of them are trained."""

    scores_TV: torch.Tensor
    tokens_T: torch.Tensor
    trained_T: torch.Tensor


def _of_text(model: PreTrainedModel, row: Rendered) -> _Expected:
    ids = torch.tensor([row.input_ids], device=model.device)
    logits_BTV = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    trained_T = torch.tensor(row.trained_mask[1:], dtype=torch.bool)
    return _Expected(functional.log_softmax(logits_BTV[0, :-1].float(), dim=-1), ids[0, 1:], trained_T)


def _of_labels(model: PreTrainedModel, row: Rendered, collate: Collate) -> _Expected:
    segment = make_segment(row.id, row.input_ids, row.trained_mask)
    batch = collate([{"input_ids": segment.input_ids, "labels": segment.labels}])
    labels_S = batch.pop("labels")[0]
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
    wanted_S = labels_S != IGNORED
    logits_TV = model(**inputs).logits[0, wanted_S.to(model.device)]
    expected_T = labels_S[wanted_S]
    return _Expected(functional.log_softmax(logits_TV.float(), dim=-1), expected_T, torch.ones_like(expected_T).bool())


def measure_first_loss(
    model: PreTrainedModel, rows: list[Rendered], dtype: torch.dtype, collate: Collate | None = None
) -> FirstLoss:
    """Return the loss on rows, one row at a time.

    Args:
        model: With its method applied.
        rows: Rendered rows.
        dtype: Number format of the arithmetic.
        collate: Makes tensors whose labels stand where the model expects them; None for the next token.
    """
    sums = torch.zeros(4, dtype=torch.float64)
    num_tokens, num_trained, size = 0, 0, 0
    with undisturbed(model), without_virtual_tokens(model):
        for row in rows:
            with autocast_like_training(model, dtype)():
                found = _of_text(model, row) if collate is None else _of_labels(model, row, collate)
            scores_TV = found.scores_TV
            pairs_PP = scores_TV[:, found.tokens_T.to(scores_TV.device)]
            told_P = pairs_PP.diagonal()
            places_P = found.trained_T.to(told_P.device)
            entropy = (scores_TV.exp() * scores_TV.clamp_min(_LEAST)).sum()
            parts = (told_P.sum(), told_P[places_P].sum(), pairs_PP.mean(dim=1).sum(), entropy)
            sums -= torch.stack(parts).double().cpu()
            num_tokens, num_trained = num_tokens + len(told_P), num_trained + int(places_P.sum())
            size = scores_TV.shape[-1]
    loss, trained, shuffled, entropy_sum = (float(total) for total in sums)
    return FirstLoss(
        loss / num_tokens, trained / num_trained, shuffled / num_tokens, entropy_sum / num_tokens, math.log(size)
    )


def _rows(context: RunContext) -> list[Rendered]:
    """Return a few rows that teach, spread over the data."""
    sequences = context.rendered.sequences
    fitting = np.flatnonzero((sequences.num_learnt > 0) & (sequences.lengths <= MAX_TOKENS))
    return [sequences[int(index)] for index in fitting[:: max(1, len(fitting) // NUM_ROWS)][:NUM_ROWS]]


def looks_untrained(model: nn.Module) -> bool:
    """Return whether a base model's weights are as its configuration draws them.

    Training moves the scales of norms off the constant that they start from, all of them within a few steps; and it
    moves the spread of the embeddings off the configuration's own, such as `initializer_range`.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    scales = [weight for name, weight in base.named_parameters() if weight.dim() == 1 and _of_norm(name)]
    if not scales or any(bool((weight != weight.flatten()[0]).any()) for weight in scales):
        return False
    settings = base.config.get_text_config().to_dict()
    drawn = next((settings[name] for name in _SPREADS if name in settings), None)
    if not isinstance(drawn, float) or drawn <= 0:
        return False
    heads = [base.get_input_embeddings(), base.get_output_embeddings()]
    ratios = [float(head.weight.detach().float().std()) / drawn for head in heads if head is not None]
    return all(_SPREAD_BAND[0] <= ratio <= _SPREAD_BAND[1] for ratio in ratios)


def _of_norm(name: str) -> bool:
    *_, module, kind = ("", *name.lower().split("."))
    return kind == "weight" and ("norm" in module or module.startswith("ln"))
