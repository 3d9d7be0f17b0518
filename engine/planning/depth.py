"""How much of a model's depth learns: width of bottlenecks, last blocks, stages of unfreezing. Plan and engine alike.

A model has a head, blocks and embeddings, from the top down. A head that is tied to the embeddings, or that is nothing
but a norm, cannot learn alone: the first stage of unfreezing then takes the topmost blocks along.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.catalog.objectives import Head, find_objective
from engine.planning.profiles import ModelProfile

BOTTLENECK_SHARE = 16
LEAST_WIDTH = 32
LAYERS_SHARE = 4
"""One block in so many learns where nobody says how many do."""
MAX_BLOCK_STAGES = 6
ALL_OPEN_AFTER = 0.5
"""Share of the run after which every stage is open, where nobody says when."""

_NEW_HEADS: frozenset[Head] = frozenset({"sequence-classification", "token-classification"})


@dataclass(frozen=True, slots=True)
class Depth:
    """Where in a model a method trains, for methods that train a part of it.

    Attributes:
        layers: Last blocks that learn in feature extraction.
        head_is_new: The objective puts a head of its own on the model.
        bottleneck: Inner width of bottleneck adapters.
        placement: Where they stand in a block.
    """

    layers: int = 0
    head_is_new: bool = False
    bottleneck: int = 0
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"


def depth_of(values: Mapping[str, Any], model: ModelProfile) -> Depth:
    """Return where the methods of a recipe would train.

    Args:
        values: `{recipe path: value}`; what is open takes its default.
        model: Facts of the base model.
    """
    new = head_is_new(values["objective"], model)
    layers, width = values["method.layers"], values["method.width"]
    return Depth(
        layers=default_layers(model.num_layers, head_is_new=new) if layers is None else layers,
        head_is_new=new,
        bottleneck=default_width(model.hidden_size) if width is None else width,
        placement=values["method.placement"] or "houlsby",
    )


def head_is_new(objective: str, model: ModelProfile) -> bool:
    """Return whether an objective puts a head of its own on the model, which starts at random."""
    return find_objective(objective).head_of(model.kind) in _NEW_HEADS


def head_learns_alone(objective: str, model: ModelProfile) -> bool:
    """Return whether there is more above the blocks than norms: a head that is not tied to the embeddings."""
    head = find_objective(objective).head_of(model.kind)
    return head in _NEW_HEADS or head == "masked-lm" or not model.tied_embeddings


def default_width(hidden_size: int) -> int:
    """Return the inner width of bottleneck adapters: a sixteenth of the model's, at least 32."""
    return max(LEAST_WIDTH, hidden_size // BOTTLENECK_SHARE)


def default_layers(num_blocks: int, *, head_is_new: bool) -> int:
    """Return how many blocks learn in feature extraction: none below a new head, else the last quarter."""
    return 0 if head_is_new else max(1, num_blocks // LAYERS_SHARE)


def default_layers_per_stage(num_blocks: int) -> int:
    """Return how many blocks open together, so that there are few stages."""
    return max(1, math.ceil(num_blocks / MAX_BLOCK_STAGES))


@dataclass(frozen=True, slots=True)
class Stages:
    """When parts of a model begin to learn, from the top down.

    Attributes:
        num_blocks: Blocks of the model.
        layers_per_stage: Blocks that open together.
        head_learns_alone: The first stage is the head without blocks.
        every: Optimizer steps between two stages.
    """

    num_blocks: int
    layers_per_stage: int
    head_learns_alone: bool
    every: int = 1

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Return for each stage from which block to which it opens, counted from the top; the last opens none."""
        bounds = [(0, 0)] if self.head_learns_alone else []
        for start in range(0, self.num_blocks, self.layers_per_stage):
            bounds.append((start, min(start + self.layers_per_stage, self.num_blocks)))
        return [*bounds, (self.num_blocks, self.num_blocks)]

    def __len__(self) -> int:
        return len(self.blocks)

    def opens_at(self, stage: int) -> int:
        """Return the optimizer step (from 0) that a stage (from 0) opens at."""
        return stage * self.every

    def num_open(self, step: int) -> int:
        """Return how many stages are open in an optimizer step (from 0)."""
        return min(len(self), 1 + step // self.every)


def default_every(num_stages: int, total_steps: int) -> int:
    """Return the steps between two stages, so that all are open after half of the run."""
    return max(1, int(ALL_OPEN_AFTER * total_steps) // max(1, num_stages - 1))
