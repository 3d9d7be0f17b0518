"""Carry a run through on hollow tensors: load, two steps, an evaluation batch, save, merge."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    PretrainedConfig,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from engine.evaluation.scoring import causal_model
from engine.methods.apply import apply_method
from engine.objectives.build import make_trainer
from engine.planning.plan import Device, Plan
from engine.recipe.schema import Recipe
from engine.rehearsal.hollow import CannotRehearseError, HollowMode
from engine.rehearsal.models import build_model, stand_in_tokenizer, weight_components
from engine.rehearsal.rows import training_sequences
from engine.rehearsal.tracer import Tracer
from engine.training.batching import Batching
from engine.training.trainer import RunTrainer, StepTrainer

NUM_STEPS = 2
"""The second step is the first with states of the optimizer beside gradients and activations."""
MAX_ACCUMULATION = 2
"""In the second micro-batch of a step, gradients of the first are alive; a third adds nothing."""
ACTIVATIONS = "activations"
LOSS = "output layer and loss"
GRADIENTS = "gradients"
STATES = "optimizer states"


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A run after its training: what evaluation, saving and merging work on.

    Attributes:
        plan: As the person has it.
        recipe: Of the two steps that were taken.
    """

    plan: Plan
    recipe: Recipe
    config: PretrainedConfig
    model: Any
    trainer: StepTrainer
    tokenizer: PreTrainedTokenizerBase


def rehearsed_recipe(plan: Plan) -> tuple[Recipe, Batching]:
    """Return the recipe of two steps, and how each is cut up."""
    batching = Batching(plan.steps.micro_batch, min(plan.steps.accumulation, MAX_ACCUMULATION))
    training = plan.recipe.training
    changes: dict[str, Any] = {
        "effective_batch": batching.micro_batch * batching.accumulation,
        "max_steps": NUM_STEPS,
        "learning_rate": training.learning_rate or 1e-4,
    }
    if plan.device.kind == "cuda" and training.precision == "float16":
        # Processors have no arithmetic in float16, and trainers ignore the wish for it; bfloat16 is as wide.
        changes["precision"] = "bfloat16"
    return plan.recipe.model_copy(update={"training": training.model_copy(update=changes)}), batching


def train(plan: Plan, config: PretrainedConfig, mode: HollowMode, tracer: Tracer) -> Rehearsed:
    """Load the model and take two steps on the longest rows.

    Must be called inside `mode`.
    """
    recipe, batching = rehearsed_recipe(plan)
    tracer.phase("loading")
    with tracer.part("model weights"):
        model = apply_method(build_model(plan.model_copy(update={"recipe": recipe}), config, mode), recipe)
    for component, tensors in weight_components(model, recipe.method.facts).items():
        tracer.name(tensors, component)
    mode.arena.keep()
    tokenizer = stand_in_tokenizer()
    sequences = training_sequences(plan, batching.micro_batch, batching.accumulation, NUM_STEPS)
    built = make_trainer(
        recipe,
        plan.task,
        Device(kind="cpu"),
        batching,
        sequences,
        model=model,
        tokenizer=tokenizer,
        # Nothing is written there. A folder made for it would stay behind whenever a newer plan ends this process.
        folder=Path(tempfile.gettempdir()),
    )
    trainer = built.trainer
    if isinstance(trainer, RunTrainer):
        trainer.fused_head = plan.device.kind == "cuda"
    _watch(trainer, tracer)
    tracer.phase("training")
    trainer.train()
    if trainer.state.global_step < NUM_STEPS:
        # A trainer that finds no rows ends without a word, and its peak would be that of the weights alone.
        raise CannotRehearseError("training", f"{trainer.state.global_step} of {NUM_STEPS} steps were taken")
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return Rehearsed(plan, recipe, config, model, trainer, tokenizer)


def _watch(trainer: StepTrainer, tracer: Tracer) -> None:
    """Let the tracer know what storages are for."""
    trainer.add_callback(_OptimizerParts(trainer, tracer))
    trainer.before_micro_step = lambda: setattr(tracer, "component", ACTIVATIONS)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(
                lambda learnt: tracer.name([learnt.grad] if learnt.grad is not None else [], GRADIENTS)
            )
    decoder = causal_model(trainer.model).get_decoder()
    decoder.register_forward_hook(_LossBegins(tracer))


@dataclass(frozen=True, slots=True)
class _LossBegins:
    """Everything between the decoder's output and its gradient belongs to the output layer and the loss."""

    tracer: Tracer

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0]
        if not hidden.requires_grad:
            return
        self.tracer.component = LOSS
        hidden.register_hook(self._ends)

    def _ends(self, gradient: torch.Tensor) -> None:
        self.tracer.component = ACTIVATIONS


class _OptimizerParts(TrainerCallback):
    """Names the optimizer's states."""

    def __init__(self, trainer: StepTrainer, tracer: Tracer) -> None:
        self._trainer = trainer
        self._tracer = tracer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """What comes now belongs to the optimizer."""
        self._tracer.component = STATES

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Name the states, which may share storages with what existed before."""
        optimizer: Any = self._trainer.optimizer
        for values in optimizer.state.values():
            self._tracer.name([value for value in values.values() if isinstance(value, torch.Tensor)], STATES)
        self._tracer.component = ACTIVATIONS
