"""What both objectives share: from rendered rows to a trainer of the next token."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.objectives.sequences import SequenceCollator, Sequences, cut_sequences
from engine.planning.plan import Device
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe, TrainingSection
from engine.training.batching import Batching
from engine.training.context import RunContext
from engine.training.order import StepOrder
from engine.training.schedule import rate_share, warmup_steps
from engine.training.settings import trainer_settings
from engine.training.trainer import RunTrainer


@dataclass(frozen=True, slots=True)
class BuiltTrainer:
    """A trainer and how its work is cut up.

    Attributes:
        trainer: Ready to train; writes and prints nothing of its own.
        order: Which rows each step reads.
        sequences: The rows.
        total_steps: Optimizer steps of the whole run.
    """

    trainer: RunTrainer
    order: StepOrder
    sequences: Sequences
    total_steps: int


def build_supervised(context: RunContext) -> BuiltTrainer:
    """Return a trainer whose loss covers exactly the tokens that the renderer marked.

    Raises:
        ProblemError: There is nothing to learn from.
    """
    return make_trainer(
        context.recipe,
        context.plan.device,
        context.batching,
        make_sequences(context, packed=bool(context.recipe.training.packing)),
        model=context.model,
        tokenizer=context.tokenizer,
        # The trainer insists on a folder of its own and makes it; it writes nothing there.
        folder=context.run.checkpoints_folder,
    )


def make_trainer(
    recipe: Recipe,
    device: Device,
    batching: Batching,
    sequences: Sequences,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    rank: int = 0,
) -> BuiltTrainer:
    """Return the trainer of sequences that are ready.

    Args:
        recipe: Recipe with every value filled in.
        device: Where the trainer computes.
        batching: Micro-batch and accumulation.
        sequences: The rows.
        model: The model with its method applied, on its device.
        tokenizer: Of the model.
        folder: What the trainer insists on having; nothing is written there.
        rank: Which of the processes that share the work builds it.
    """
    training = recipe.training
    order = StepOrder(
        sequences.lengths,
        effective_batch=training.effective_batch,
        micro_batch=batching.micro_batch,
        seed=training.seed,
        rank=rank,
        num_ranks=batching.num_gpus,
    )
    total_steps = count_steps(training, order.steps_per_epoch)
    pad = tokenizer.pad_token_id
    trainer = RunTrainer(
        model=model,
        args=trainer_settings(recipe, device, batching, total_steps=total_steps, folder=folder),
        processing_class=tokenizer,
        sequences=sequences,
        order=order,
        # A padded position is masked and has no label, so any id will do where the tokenizer names none.
        collator=SequenceCollator(pad_token_id=0 if pad is None else pad, packed=bool(training.packing)),
        rate_share=partial(
            rate_share,
            schedule=training.schedule,
            warmup_steps=warmup_steps(training.warmup, total_steps),
            total_steps=total_steps,
        ),
    )
    return BuiltTrainer(trainer, order, sequences, total_steps)


def make_sequences(context: RunContext, *, packed: bool) -> Sequences:
    """Return the rendered rows as the trainer takes them, packed or each on its own."""
    rendered = context.rendered
    if problems := rendered.problems():
        raise ProblemError(*problems)
    return cut_sequences(rendered, context.renderer.max_length, packed=packed)


def count_steps(training: TrainingSection, steps_per_epoch: int) -> int:
    """Return the optimizer steps of a run: the step limit, or the epochs."""
    # The epsilon keeps 0.1 * 30 (3.0000000000000004) at three steps.
    by_epochs = max(1, math.ceil(training.epochs * steps_per_epoch - 1e-9))
    return by_epochs if training.max_steps is None else training.max_steps
