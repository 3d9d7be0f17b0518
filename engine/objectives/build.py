"""One door to all objectives: what their trainers draw from, and the trainers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.data.rendered import RenderedRows
from engine.methods.apply import rate_factors
from engine.objectives import (
    chat,
    classification,
    domain_adaptation,
    encoder_decoder,
    preference,
    reinforcement_learning,
    reward_model,
    text_to_text,
    token_classification,
)
from engine.objectives.masked_text import MaskedText
from engine.objectives.parts import TrainerParts
from engine.objectives.rewarding import Rewarding
from engine.objectives.sequences import Segment, Sequences
from engine.planning.plan import Device
from engine.planning.schedule import rate_share, warmup_steps
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.schema_training import TrainingSection
from engine.training.batching import Batching
from engine.training.context import RunContext
from engine.training.noise import NoiseCallback
from engine.training.order import StepOrder
from engine.training.trainer import StepTrainer


class Objective(Protocol):
    """What the module of an objective does."""

    def examples(self, rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
        """Return rendered rows as the trainer takes them; no token is read yet.

        Args:
            rendered: Training rows as token ids, cut.
            max_length: Sequence length in tokens.
            packed: Several rows share a sequence; only where the objective can.
        """

    def gathered(self, segments: Sequence[Sequence[Segment]]) -> Sequences:
        """Return segments as the trainer takes them: of each example those that belong together."""

    def trainer(self, parts: TrainerParts) -> StepTrainer:
        """Return the trainer."""


OBJECTIVES: dict[str, Objective] = {
    "chat": chat,
    "domain-adaptation": domain_adaptation,
    "text-to-text": text_to_text,
    "classification": classification,
    "token-classification": token_classification,
    "reinforcement-learning": reinforcement_learning,
    "preference": preference,
    "reward-model": reward_model,
}


@dataclass(frozen=True, slots=True)
class BuiltTrainer:
    """A trainer and how its work is cut up.

    Attributes:
        trainer: Ready to train; writes and prints nothing of its own.
        order: Which rows each step reads.
        sequences: The rows.
        total_steps: Optimizer steps of the whole run.
    """

    trainer: StepTrainer
    order: StepOrder
    sequences: Sequences
    total_steps: int


def objective_of(recipe: Recipe, task: Task) -> Objective:
    """Return what carries out a recipe's objective with the kind of model that it has.

    Args:
        recipe: With every value filled in.
        task: What the model is asked to give out.
    """
    if task.head == "seq2seq-lm":
        return encoder_decoder
    if task.head == "masked-lm":
        return MaskedText(recipe.domain_adaptation.masked_share)
    return OBJECTIVES[recipe.objective]


def make_examples(recipe: Recipe, task: Task, rendered: RenderedRows, max_length: int) -> Sequences:
    """Return what the trainer of a recipe draws from.

    Args:
        recipe: With objective and packing filled in.
        task: What the model is asked to give out.
        rendered: Training rows as token ids, cut.
        max_length: Sequence length in tokens.
    """
    return objective_of(recipe, task).examples(rendered, max_length, packed=bool(recipe.training.packing))


def build_trainer(context: RunContext) -> BuiltTrainer:
    """Return the trainer of a run.

    Raises:
        ProblemError: There is nothing to learn from.
    """
    if problems := context.rendered.problems():
        raise ProblemError(*problems)
    return make_trainer(
        context.recipe,
        context.task,
        context.plan.device,
        context.batching,
        make_examples(context.recipe, context.task, context.rendered, context.renderer.max_length),
        model=context.model,
        tokenizer=context.tokenizer,
        # The trainer insists on a folder of its own and makes it; it writes nothing there.
        folder=context.run.checkpoints_folder,
        rewarding=context.rewarding,
        references=None if context.references is None else context.references.train,
    )


def order_of(recipe: Recipe, batching: Batching, sequences: Sequences, rank: int = 0) -> StepOrder:
    """Return which rows each step of a run reads."""
    return StepOrder(
        sequences.lengths,
        effective_batch=recipe.training.effective_batch,
        micro_batch=batching.micro_batch,
        seed=recipe.training.seed,
        rank=rank,
        num_ranks=batching.num_gpus,
        repeats=recipe.reinforcement.num_generations if recipe.goal.signal == "prompts" else 1,
    )


def make_trainer(
    recipe: Recipe,
    task: Task,
    device: Device,
    batching: Batching,
    sequences: Sequences,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    rank: int = 0,
    rewarding: Rewarding | None = None,
    references: torch.Tensor | None = None,
) -> BuiltTrainer:
    """Return the trainer of examples that are ready.

    Args:
        recipe: Recipe with every value filled in.
        task: What the model is asked to give out.
        device: Where the trainer computes.
        batching: Micro-batch and accumulation.
        sequences: The rows.
        model: The model with its method applied, on its device.
        tokenizer: Of the model.
        folder: What the trainer insists on having; nothing is written there.
        rank: Which of the processes that share the work builds it.
        rewarding: Judge and reference of a run that learns from rewards; None makes them where they are needed.
        references: What the untouched model makes of the rows, where that is known.
    """
    training = recipe.training
    order = order_of(recipe, batching, sequences, rank)
    total_steps = count_steps(training, order.steps_per_epoch)
    schedule = partial(
        rate_share,
        schedule=training.schedule,
        warmup_steps=warmup_steps(training.warmup, total_steps),
        total_steps=total_steps,
        min_share=training.min_rate,
    )
    parts = TrainerParts(
        recipe,
        task,
        device,
        batching,
        sequences,
        order,
        total_steps,
        schedule,
        model,
        tokenizer,
        folder,
        rewarding=rewarding,
        references=references,
    )
    trainer = objective_of(recipe, task).trainer(parts)
    trainer.rate_factors = rate_factors(model, recipe)
    trainer.label_smoothing = training.label_smoothing
    if training.neftune_alpha:
        trainer.add_callback(NoiseCallback(model, training.neftune_alpha))
    return BuiltTrainer(trainer, order, sequences, total_steps)


def count_steps(training: TrainingSection, steps_per_epoch: int) -> int:
    """Return the optimizer steps of a run: the step limit, or the epochs."""
    # The epsilon keeps 0.1 * 30 (3.0000000000000004) at three steps.
    by_epochs = max(1, math.ceil(training.epochs * steps_per_epoch - 1e-9))
    return by_epochs if training.max_steps is None else training.max_steps
