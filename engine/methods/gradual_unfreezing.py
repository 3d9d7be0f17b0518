"""Gradual unfreezing: the top of the model learns first, and stage by stage what lies below it.

Source: ULMFiT, Howard and Ruder 2018, https://arxiv.org/abs/1801.06146. Its discriminative learning rates, smaller the
lower a block lies, are `method.rate_decay`.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.methods.blocks import find_parts
from engine.planning.depth import Stages, default_layers_per_stage
from engine.recipe.schema import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
    """Make every weight trainable, in place; `Unfreezing` holds the lower ones back while training runs.

    The optimizer is made while all of them are trainable: one that is made earlier never learns what opens later.

    Args:
        model: From `load_model`, its weights in float32.
        recipe: Read by `stages_of`.
        tokenizer: Not read; every method has the same signature.

    Raises:
        ProblemError: The blocks of the model are not found.
    """
    find_parts(model)
    model.requires_grad_(True)
    return model


@dataclass(frozen=True, slots=True)
class Stage:
    """Weights that begin to learn together.

    Attributes:
        number: From 1.
        opens_at: Optimizer step (from 0) from which on they learn.
        title: What they are, such as `blocks 5 and 6`.
        names: Of the weights.
    """

    number: int
    opens_at: int
    title: str
    names: tuple[str, ...]


def stages_of(model: PreTrainedModel, recipe: Recipe) -> list[Stage]:
    """Return the stages of a model from the first to the last; every weight is in exactly one.

    Args:
        model: With every weight in place.
        recipe: `method.unfreeze_every` and `method.layers_per_stage` are read.
    """
    parts, method = find_parts(model), recipe.method
    num_blocks = len(parts.blocks)
    plan = Stages(
        num_blocks,
        method.layers_per_stage or default_layers_per_stage(num_blocks),
        parts.head_has_matrix,
        method.unfreeze_every or 1,
    )
    stages: list[Stage] = []
    for place, (start, end) in enumerate(plan.blocks):
        chosen = list(parts.blocks[start:end])
        if place == 0:
            chosen.insert(0, parts.head)
        if place == len(plan) - 1:
            chosen.append(parts.embeddings)
        names = tuple(name for part in chosen for name in part.names)
        title = _listed([part.title for part in chosen if part.names])
        stages.append(Stage(place + 1, plan.opens_at(place), title, names))
    return stages


def _listed(titles: list[str]) -> str:
    if len(titles) > 3:
        titles = [titles[0], f"{len(titles) - 2} more", titles[-1]]
    return " and ".join(part for part in (", ".join(titles[:-1]), titles[-1]) if part)


def rate_factors(model: PreTrainedModel, recipe: Recipe) -> dict[str, float]:
    """Return `{parameter name: times the learning rate}`: the head learns at the full rate, each part below at less."""
    decay = recipe.method.rate_decay or 1.0
    if decay == 1.0:
        return {}
    parts = find_parts(model)
    below = (*parts.blocks, parts.embeddings)
    return {name: decay**depth for depth, part in enumerate(below, start=1) for name in part.names}


class Unfreezing:
    """Opens the stages of a model as training goes on.

    Args:
        model: With every weight trainable.
        stages: Of the model.
    """

    def __init__(self, model: torch.nn.Module, stages: list[Stage]) -> None:
        weights = dict(model.named_parameters())
        self.stages = stages
        self._weights = [[weights[name] for name in stage.names] for stage in stages]

    @property
    def num_weights(self) -> int:
        """All weights of the stages."""
        return sum(weight.numel() for group in self._weights for weight in group)

    @property
    def num_learning(self) -> int:
        """Weights of the stages that are open."""
        return sum(weight.numel() for group in self._weights for weight in group if weight.requires_grad)

    def go_to(self, step: int) -> list[Stage]:
        """Open the stages that learn in an optimizer step (from 0), close the others, and return those that open now.

        What is closed loses its gradient, so that the optimizer passes it by.
        """
        for stage, group in zip(self.stages, self._weights, strict=True):
            is_open = stage.opens_at <= step
            for weight in group:
                weight.requires_grad_(is_open)
                if not is_open:
                    weight.grad = None
        return [stage for stage in self.stages if stage.opens_at == step]

    def open_all(self) -> None:
        """Make every weight trainable again, as it was before training."""
        for group in self._weights:
            for weight in group:
                weight.requires_grad_(True)
