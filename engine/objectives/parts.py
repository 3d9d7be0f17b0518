"""What a trainer is made of, whatever the objective, and what is made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.objectives.rewarding import Rewarding
from engine.objectives.sequences import Sequences
from engine.planning.plan import Device
from engine.recipe.schema import Recipe
from engine.recipe.schema_training import TrainingSection
from engine.training.batching import Batching
from engine.training.order import StepOrder


@dataclass(frozen=True, slots=True)
class TrainerParts:
    """What a trainer is made of.

    Attributes:
        recipe: Recipe with every value filled in.
        task: What the model is asked to give out.
        device: Where the trainer computes.
        batching: Micro-batch and accumulation.
        sequences: The rows.
        order: Which rows each step reads.
        total_steps: Optimizer steps of the whole run.
        rate_share: Share of the learning rate that a step (from 0) uses.
        model: The model with its method applied, on its device.
        tokenizer: Of the model.
        folder: What the trainer insists on having; nothing is written there.
        rewarding: Judge and reference of a run that learns from rewards; None makes them.
        references: What the untouched model makes of the rows (`engine.objectives.references`); None where no loss
            needs it, and where the trainer is to find out itself because the rows are few.
    """

    recipe: Recipe
    task: Task
    device: Device
    batching: Batching
    sequences: Sequences
    order: StepOrder
    total_steps: int
    rate_share: Callable[[int], float]
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: Path
    rewarding: Rewarding | None = None
    references: torch.Tensor | None = None

    @property
    def training(self) -> TrainingSection:
        """The recipe's training section."""
        return self.recipe.training
