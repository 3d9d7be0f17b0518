"""Does the exported model say the same as the trained one? Logits compared on the run's own rows.

Shapes: T tokens of one prompt, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from engine.evaluation.isolation import undisturbed
from engine.evaluation.scoring import autocast_like_training, causal_model
from engine.methods.virtual_tokens import behind_virtual_tokens
from engine.models.heads import head_of

MAX_PROMPTS = 8
MAX_PROMPT_TOKENS = 128

TOLERANCES = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference of a logit, as a share of the largest logit, that storing weights in a format explains."""
MAX_DIVERGENCE = 0.1
"""Mean Kullback-Leibler divergence in nats above which the export is another model and is refused."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Result of a comparison.

    Attributes:
        num_prompts: Prompts compared.
        num_positions: Tokens compared.
        max_difference: Largest absolute difference of two logits.
        relative_difference: The same as a share of the largest absolute logit (at least 1).
        top_token_agreement: Share of positions at which both rank the same token first.
        divergence: Mean KL(trained || exported) in nats.
        tolerance: Limit for `relative_difference`; beyond it a warning is raised.
    """

    num_prompts: int
    num_positions: int
    max_difference: float
    relative_difference: float
    top_token_agreement: float
    divergence: float
    tolerance: float

    @property
    def refused(self) -> bool:
        """Whether the two are different models; NaN counts as different."""
        return not self.divergence <= MAX_DIVERGENCE

    @property
    def within_tolerance(self) -> bool:
        """Whether rounding explains the difference."""
        return self.relative_difference <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return asdict(self) | {"within_tolerance": self.within_tolerance}


def prompt_logits(model: nn.Module, prompts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the logits (T, V) of each prompt in float32 on the CPU; the first 8 prompts, 128 tokens of each.

    Weights in float32 are taken as they are, beside narrower ones of the same model in the format of those.
    """
    causal = causal_model(model)
    logits: list[torch.Tensor] = []
    with undisturbed(model), autocast_like_training(causal, causal.dtype)():
        for prompt in prompts[:MAX_PROMPTS]:
            ids = torch.tensor([list(prompt[:MAX_PROMPT_TOKENS])], device=causal.device)
            inputs = _asked(causal, ids) | behind_virtual_tokens(model, torch.ones_like(ids))
            found = causal(input_ids=ids, **inputs).logits[0].float().cpu()
            logits.append(_as_positions(found))
    return logits


def _asked(model: PreTrainedModel, ids: torch.Tensor) -> dict[str, Any]:
    """Return what a model of this head is given besides the tokens of a text."""
    match head_of(model):
        case "causal-lm":
            return {"use_cache": False}
        case "seq2seq-lm":
            # What the decoder reads when it writes: its first token, then the text so far.
            start = torch.full_like(ids[:, :1], model.config.decoder_start_token_id)
            return {"decoder_input_ids": torch.cat([start, ids[:, :-1]], dim=1), "use_cache": False}
        case _:
            return {}


def _as_positions(logits: torch.Tensor) -> torch.Tensor:
    """Return logits as positions with choices; one number, a reward, stands against nothing, as a logit of yes."""
    positions = logits if logits.dim() == 2 else logits[None]
    return positions if positions.shape[-1] > 1 else torch.cat([positions, torch.zeros_like(positions)], dim=-1)


def compare(trained: Sequence[torch.Tensor], exported: Sequence[torch.Tensor], dtype: torch.dtype) -> Parity:
    """Compare logits of the trained model with those of the exported one, position by position.

    Args:
        trained: Logits (T, V) for each prompt.
        exported: Logits of the same prompts.
        dtype: Number format that the exported weights are stored in.
    """
    largest = difference = divergence = 0.0
    agreeing = positions = 0
    for left, right in zip(trained, exported, strict=True):
        positions += len(left)
        largest = max(largest, left.abs().max().item())
        gap = (left - right).abs().max().item()
        # max() would drop a NaN.
        difference = gap if gap != gap else max(difference, gap)
        agreeing += int((left.argmax(-1) == right.argmax(-1)).sum())
        log_left, log_right = functional.log_softmax(left, -1), functional.log_softmax(right, -1)
        divergence += functional.kl_div(log_right, log_left, reduction="sum", log_target=True).item()
    return Parity(
        num_prompts=len(trained),
        num_positions=positions,
        max_difference=difference,
        relative_difference=difference / max(1.0, largest),
        top_token_agreement=agreeing / max(1, positions),
        divergence=max(0.0, divergence / max(1, positions)) if divergence == divergence else divergence,
        tolerance=TOLERANCES.get(dtype, TOLERANCES[torch.bfloat16]),
    )
