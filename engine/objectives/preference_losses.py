"""The losses of preference alignment, for each pair or answer apart, so that a step is a mean over all of its rows.

Shapes: B pairs or answers. Log-probabilities are sums over the tokens of an answer, in nats.

The formulas are those of TRL 1.16 (`DPOTrainer._compute_loss`, `KTOTrainer._compute_loss`, and of its experimental part
`ORPOTrainer.odds_ratio_loss` and `CPOTrainer.cpo_loss`), held against them by tests. Why they are written out here:
docs/decisions/0009-preference-losses.md.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from engine.catalog.preference_losses import PreferenceLossName, find_loss
from engine.recipe.schema import Recipe


@dataclass(frozen=True, slots=True)
class LossSettings:
    """What decides on the loss; see the fields of the same names in `engine.recipe.schema_objectives`."""

    loss: PreferenceLossName = "dpo"
    beta: float = 0.1
    label_smoothing: float = 0.0
    simpo_gamma: float = 1.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    @property
    def uses_reference(self) -> bool:
        """Whether the log-probabilities of the untouched model are needed."""
        return find_loss(self.loss).uses_reference


def settings_of(recipe: Recipe) -> LossSettings:
    """Return the settings of a recipe; a beta that no plan has filled in takes the loss's own."""
    chosen = recipe.preference
    beta = find_loss(chosen.loss).beta if chosen.beta is None else chosen.beta
    return LossSettings(
        chosen.loss,
        beta,
        chosen.label_smoothing,
        chosen.simpo_gamma,
        chosen.desirable_weight,
        chosen.undesirable_weight,
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model makes of answers.

    Attributes:
        logps_B: Log-probability of each.
        tokens_B: Its trained tokens.
        reference_B: Log-probability under the untouched model; zeros for losses without a reference.
    """

    logps_B: torch.Tensor
    tokens_B: torch.Tensor
    reference_B: torch.Tensor

    @property
    def ratios_B(self) -> torch.Tensor:
        """How much likelier each is than under the untouched model, in nats."""
        return self.logps_B - self.reference_B

    @property
    def mean_logps_B(self) -> torch.Tensor:
        """Mean log-probability of a token of each."""
        return self.logps_B / self.tokens_B.clamp(min=1)

    @property
    def mean_ratios_B(self) -> torch.Tensor:
        """`ratios_B` for each token."""
        return self.ratios_B / self.tokens_B.clamp(min=1)


def rewards_of(answers: Answers, settings: LossSettings) -> torch.Tensor:
    """Return the implicit reward of each answer, of shape [B]: what the loss wants to be higher for chosen ones."""
    match settings.loss:
        case "dpo" | "kto":
            return settings.beta * answers.ratios_B
        case "ipo":
            return settings.beta * answers.mean_ratios_B
        case _:
            return settings.beta * answers.mean_logps_B


def pair_losses(chosen: Answers, rejected: Answers, settings: LossSettings) -> torch.Tensor:
    """Return the loss of each pair, of shape [B].

    Raises:
        ValueError: The loss is not one of pairs.
    """
    match settings.loss:
        case "dpo":
            margin_B = settings.beta * (chosen.ratios_B - rejected.ratios_B)
            return _smoothed(margin_B, settings.label_smoothing)
        case "ipo":
            return (chosen.mean_ratios_B - rejected.mean_ratios_B - 1 / (2 * settings.beta)) ** 2
        case "orpo":
            odds_B = _log_odds(chosen.mean_logps_B) - _log_odds(rejected.mean_logps_B)
            return -chosen.mean_logps_B - settings.beta * functional.logsigmoid(odds_B)
        case "simpo":
            margin_B = settings.beta * (chosen.mean_logps_B - rejected.mean_logps_B) - settings.simpo_gamma
            return _smoothed(margin_B, settings.label_smoothing)
        case _:
            raise ValueError(f"{settings.loss} is no loss of pairs")


def _smoothed(margin_B: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the logistic loss of margins, where a share of the labels is taken to be the wrong way round."""
    right_B, wrong_B = functional.logsigmoid(margin_B), functional.logsigmoid(-margin_B)
    return -(1 - smoothing) * right_B - smoothing * wrong_B


def _log_odds(logps_B: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) of probabilities given as logarithms, which are below zero."""
    # An answer that is certain has infinite odds; the smallest step below certainty keeps the gradient finite.
    below_B = logps_B.clamp(max=-torch.finfo(logps_B.dtype).eps)
    return below_B - torch.log(-torch.expm1(below_B))


def answer_losses(
    answers: Answers, good_B: torch.Tensor, divergence: torch.Tensor, settings: LossSettings
) -> torch.Tensor:
    """Return KTO's loss of each single answer, of shape [B].

    Args:
        answers: Of any kind.
        good_B: Whether each is a good one.
        divergence: How far the model is from the untouched one, of shape []: `mismatch_divergence`.
        settings: With the weights of good and of bad answers.
    """
    above_B = settings.beta * (answers.ratios_B - divergence)
    signs_B = torch.where(good_B, 1.0, -1.0)
    weights_B = torch.where(good_B, settings.desirable_weight, settings.undesirable_weight)
    return weights_B * (1 - torch.sigmoid(signs_B * above_B))


def mismatch_divergence(ratio_sum: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """Return KTO's estimate of the divergence from answers to other prompts: their mean ratio, at least 0."""
    return (ratio_sum / count).clamp(min=0)
