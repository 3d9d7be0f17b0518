"""P10, P11 and P22: what learns, how much of the model adapters reach, and whether one batch can be learnt by heart.

The trial (P22) takes real optimizer steps on the run's own weights and puts everything back bit by bit: weights,
buffers, modes, patches of the trainer and random states. Its optimizer is RMSprop, whose one state per weight and the
copy of the weights together take what the two states of AdamW take, so that it needs no more memory than training.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from engine.data.preflight_case import Verdict
from engine.data.rendered import ListedSequences, RenderedRows
from engine.methods.apply import trainable_summary
from engine.methods.blocks import block_modules
from engine.methods.gradual_unfreezing import stages_of
from engine.methods.targets import linear_layers
from engine.methods.virtual_tokens import num_virtual_tokens
from engine.objectives.build import make_examples, make_trainer
from engine.objectives.sequences import Sequences
from engine.out_of_memory import give_back_memory, is_out_of_memory
from engine.recipe.schema import Recipe
from engine.text import human_bytes, human_count, human_duration
from engine.training.context import RunContext
from engine.training.device_memory import device_free_bytes
from engine.training.preflight_chance import looks_untrained
from engine.training.random_state import capture_random_state, restore_random_state
from engine.training.settings import CHECKPOINTING
from engine.training.trainer import StepTrainer

LEAST_COVERAGE = 0.3
STEPS_OF_A_RATE = 10
RATE_FACTORS = (1.0, 0.3, 5.0)
"""Times the run's learning rate: its own first, then a calmer and a bolder one."""
ENOUGH_TOKENS = 512
"""Tokens of the batch, or one sequence: whether anything can be learnt shows in few as well, and sooner."""
ENOUGH_FALL = 0.5
UNTRAINED_FALL = 0.01
"""What is asked of a base model of random weights: its frozen output layer lets a loss fall only so far."""
KNOWN_LOSS = 0.05
LIMIT_S = {"cpu": 30.0, "cuda": 60.0}
TRAINING_SHARE = 0.05
LEAST_LIMIT_S = 1.5
FULL_FACTOR = 10.0
_DRAWN = 64


def check_coverage(context: RunContext) -> Verdict:
    """Look how many of the model's linear layers carry an adapter."""
    model = context.model
    if not isinstance(model, PeftModel):
        whole = context.recipe.method.facts.trains_whole
        learns = "Every weight learns" if whole else "The top of the model learns"
        return Verdict("skipped", f"{learns}; there are no adapters.")
    if num_virtual_tokens(model):
        return Verdict("skipped", "Virtual tokens stand in front of the text; no layer carries an adapter.")
    base = model.get_base_model()
    if context.recipe.method.facts.learns == "bottleneck":
        return _bottlenecks(base)
    adapted = {id(module.get_base_layer()) for module in base.modules() if isinstance(module, BaseTunerLayer)}
    modules = dict(base.named_modules())
    # An adapted layer is named twice: as its wrapper, and as the layer inside.
    layers = {id(modules[name]) for name in linear_layers(base)}
    share = len(adapted & layers) / max(1, len(layers))
    measured = {"adapted": float(len(adapted)), "linear_layers": float(len(layers)), "share": share}
    message = f"{len(adapted & layers)} of {len(layers)} linear layers carry an adapter"
    if share >= LEAST_COVERAGE:
        return Verdict("passed", f"{message}.", measured=measured)
    return Verdict(
        "warning",
        f"{message}, {100 * share:.0f} %: much of what the model does cannot change.",
        "Set method.targets to all-linear, unless so few are wanted.",
        measured=measured,
    )


def _bottlenecks(base: Any) -> Verdict:
    """Look that an adapter stands in every block; which layers it stands behind is the method's own."""
    blocks = block_modules(base)
    counts = [sum(isinstance(part, BaseTunerLayer) for part in block.modules()) for block in blocks.values()]
    measured = {"adapters": float(sum(counts)), "blocks": float(len(counts))}
    message = f"{sum(counts)} adapters stand in {sum(map(bool, counts))} of {len(counts)} blocks."
    if all(counts):
        return Verdict("passed", message, measured=measured)
    return Verdict("blocked", message, "Choose the method lora.", measured=measured)


def check_what_learns(context: RunContext) -> Verdict:
    """Look that something learns, and that no weight is frozen by mistake."""
    summary = trainable_summary(context.model)
    measured = {"trainable_params": float(summary.trainable_params), "share": summary.share}
    if not summary.trainable_params:
        return Verdict(
            "blocked", "All weights are frozen: nothing would learn.", "Choose another method.", (), measured
        )
    if context.recipe.method.facts.trains_whole and summary.trainable_params < summary.num_params:
        frozen = summary.num_params - summary.trainable_params
        message = f"{human_count(frozen)} of {human_count(summary.num_params)} weights are frozen in full fine-tuning."
        return Verdict("blocked", message, "Choose the method lora, or another base model.", (), measured)
    message = f"{human_count(summary.trainable_params)} of {human_count(summary.num_params)} weights learn."
    if context.recipe.method.facts.staged:
        stages = stages_of(context.model, context.recipe)
        measured["stages"] = float(len(stages))
        last, total = stages[-1].opens_at, context.plan.steps.total_steps
        message = f"{message[:-1]} in the end: {len(stages)} stages from the top, the last opens with step {last + 1}."
        if last >= total:
            fix = "Set method.unfreeze_every lower, raise method.layers_per_stage, or train longer."
            never = f"{message} Training ends after step {total}: what lies lowest never learns."
            return Verdict("warning", never, fix, measured=measured)
    return Verdict("passed", message, measured=measured)


# --- one batch by heart -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Trial:
    """What happened to the loss of one batch.

    Attributes:
        first: Loss before the first step.
        lowest: Lowest loss seen.
        num_steps: Optimizer steps taken.
        rate: Learning rate of the lowest loss.
        silent: Trained tensors that had no gradient after two steps.
        row_ids: The rows of the batch.
        cut_short: The time was up before all rates were tried.
    """

    first: float = float("nan")
    lowest: float = float("inf")
    num_steps: int = 0
    rate: float = 0.0
    silent: list[str] = field(default_factory=list)
    row_ids: list[str] = field(default_factory=list)
    cut_short: bool = False

    @property
    def fall(self) -> float:
        """Share of the first loss that is gone at the lowest."""
        return 1 - self.lowest / self.first if self.first > 0 else 1.0


def time_limit_s(context: RunContext) -> float:
    """Return how long the trial may take: a small share of the training itself, bounded by the kind of device."""
    limit_s = LIMIT_S["cuda" if context.on_gpu else "cpu"]
    if context.recipe.training.preflight == "full":
        return FULL_FACTOR * limit_s
    planned = context.plan.time
    return limit_s if planned is None else min(limit_s, max(LEAST_LIMIT_S, TRAINING_SHARE * planned.expected_s))


def check_trial(context: RunContext) -> Verdict:
    """Try to learn one micro-batch by heart in at most thirty steps, then put everything back."""
    limit_s = time_limit_s(context)
    if reason := _reason_to_skip(context, limit_s):
        return Verdict("skipped", reason)
    try:
        with context.memory.within("training"), as_before(context.model):
            trial = run_trial(context, limit_s)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        trial = None
    finally:
        give_back_memory()
    if trial is None:
        return Verdict("skipped", "The memory that is free now does not hold the trial; training may still fit.")
    memorizes = context.recipe.method.facts.memorizes
    return _judge(trial, untrained=looks_untrained(context.model), memorizes=memorizes)


def _reason_to_skip(context: RunContext, limit_s: float) -> str:
    steps, planned = context.plan.steps, context.plan.time
    if planned is not None and steps.total_steps:
        step_s = planned.expected_s / steps.total_steps / max(1, steps.accumulation)
        if step_s * STEPS_OF_A_RATE > limit_s:
            return (
                f"Ten trial steps would take about {_seconds(step_s * STEPS_OF_A_RATE)}, more than the "
                f"{_seconds(limit_s)} that suit this run. Set training.preflight to full for it."
            )
    needed = 4 * trainable_summary(context.model).trainable_params
    free = device_free_bytes(context.plan.device)
    # Copy, gradients and the optimizer's state; on a GPU the copy lies in host memory.
    on_device = needed * (2 if context.on_gpu else 3)
    if free is not None and on_device > free:
        return f"The trial needs {human_bytes(on_device)}, {human_bytes(free)} are free."
    return ""


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.1f} s" if duration_s < 60 else human_duration(duration_s)


def _judge(trial: Trial, *, untrained: bool, memorizes: bool = True) -> Verdict:
    measured = {
        "first_loss": trial.first,
        "lowest_loss": trial.lowest,
        "fall": trial.fall,
        "steps": float(trial.num_steps),
        "learning_rate": trial.rate,
    }
    words = (
        f"The loss of one batch went from {trial.first:.3g} to {trial.lowest:.3g} in {trial.num_steps} steps, "
        "which were then undone"
    )
    if trial.silent:
        names = ", ".join(trial.silent[:3]) + (" and others" if len(trial.silent) > 3 else "")
        message = f"{len(trial.silent)} trained tensors get no gradient: {names}."
        return Verdict("warning", message, "Look at method.targets.", trial.row_ids, measured)
    if trial.first <= KNOWN_LOSS or trial.fall >= ENOUGH_FALL:
        return Verdict("passed", f"{words}.", measured=measured)
    if untrained and trial.fall >= UNTRAINED_FALL:
        return Verdict("passed", f"{words}; the base model is random, so that it cannot fall far.", measured=measured)
    if not memorizes and trial.fall >= UNTRAINED_FALL:
        return Verdict("passed", f"{words}; so few weights learn nothing by heart.", measured=measured)
    if trial.cut_short:
        return Verdict("skipped", f"{words}; time was up before more could be tried.", measured=measured)
    return Verdict(
        "warning",
        f"{words}; half of it should be gone. The model may be unable to learn these rows.",
        "Look at the rows in the X-ray, the chat template and method.targets.",
        trial.row_ids,
        measured,
    )


def run_trial(context: RunContext, limit_s: float) -> Trial:
    """Take up to thirty steps on one micro-batch with the run's trainer; changes the model's weights."""
    until_s = time.monotonic() + limit_s
    sequences = _one_batch(context)
    built = make_trainer(
        _plain_loss(context.recipe),
        context.task,
        context.plan.device,
        context.batching,
        sequences,
        model=context.model,
        tokenizer=context.tokenizer,
        folder=context.run.checkpoints_folder,
    )
    trainer = built.trainer
    # Set by the training loop of transformers, which is not taken here; the loss of mixtures of experts reads it.
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(len(sequences))])
    num_trained = torch.tensor(sum(sequences.weights), device=trainer.args.device)
    trial = Trial(row_ids=sequences.row_ids(range(len(sequences))))
    weights = [(name, weight) for name, weight in context.model.named_parameters() if weight.requires_grad]
    kept = [weight.detach().to("cpu", copy=True) for _, weight in weights]
    try:
        with _recomputing(context):
            for factor in RATE_FACTORS:
                _give_back(weights, kept)
                rate = factor * float(context.recipe.training.learning_rate or 0.0)
                _take_steps(context, trainer, batch, num_trained, weights, trial, rate, until_s)
                if trial.cut_short or trial.fall >= ENOUGH_FALL or trial.first <= KNOWN_LOSS:
                    break
    finally:
        context.model.zero_grad(set_to_none=True)
        _give_back(weights, kept)
    return trial


def _plain_loss(recipe: Recipe) -> Recipe:
    """Return the recipe without what keeps a loss from falling, or makes it small from the start."""
    training = recipe.training.model_copy(update={"label_smoothing": 0.0})
    classes = recipe.classification.model_copy(update={"focal_gamma": 0.0})
    return recipe.model_copy(update={"training": training, "classification": classes})


def _one_batch(context: RunContext) -> Sequences:
    """Return some rows drawn with the seed, packed if the run's are: at most one micro-batch, of few tokens."""
    sequences = context.rendered.sequences
    learnt = sequences.lengths if context.renderer.learns_rows else sequences.num_learnt
    teaching = [int(index) for index in np.flatnonzero(learnt)]
    drawn = random.Random(context.recipe.training.seed).sample(teaching, min(_DRAWN, len(teaching)))
    if context.renderer.keeps_rows_whole:
        # A drawn side brings the other one along.
        names = {sequences.row_id(index) for index in drawn}
        drawn = [index for index in teaching if sequences.row_id(index) in names]
    rows = RenderedRows(ListedSequences([sequences[index] for index in drawn]))
    examples = make_examples(context.recipe, context.task, rows, context.renderer.max_length)
    sizes = accumulate(int(length) for length in examples.lengths[: context.batching.micro_batch])
    few = sum(size <= ENOUGH_TOKENS for size in sizes)
    return examples.only(range(max(1, few)))


def _take_steps(
    context: RunContext,
    trainer: StepTrainer,
    batch: dict[str, torch.Tensor],
    num_trained: torch.Tensor,
    weights: list[tuple[str, nn.Parameter]],
    trial: Trial,
    rate: float,
    until_s: float,
) -> None:
    """Take ten steps at one rate; the loss after the last is looked at too."""
    parameters = [weight for _, weight in weights]
    # One tensor after the other: the fused variants hold copies of all of them.
    optimizer = torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, foreach=False)
    scaler = torch.amp.GradScaler(
        context.model.device.type, enabled=context.on_gpu and context.recipe.training.precision == "float16"
    )
    context.model.train()
    for step in range(STEPS_OF_A_RATE + 1):
        context.desk.attend()
        began_s = time.monotonic()
        loss = _loss(trainer, batch, num_trained)
        _note(trial, float(loss.detach()), rate)
        if step == STEPS_OF_A_RATE or trial.fall >= ENOUGH_FALL or trial.first <= KNOWN_LOSS:
            break
        scaler.scale(loss).backward()
        if trial.num_steps == 1:
            trial.silent = _without_gradient(weights)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, context.recipe.training.max_grad_norm, foreach=False)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        trial.num_steps += 1
        # One more step would end too late.
        if 2 * time.monotonic() - began_s > until_s:
            trial.cut_short = True
            break
    optimizer.zero_grad(set_to_none=True)


def _loss(trainer: StepTrainer, batch: dict[str, torch.Tensor], num_trained: torch.Tensor) -> torch.Tensor:
    inputs = trainer._prepare_inputs(dict(batch))
    with trainer.accelerator.autocast():
        loss: torch.Tensor = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=num_trained)
    return loss


def _note(trial: Trial, loss: float, rate: float) -> None:
    if trial.num_steps == 0:
        trial.first = loss
    if loss < trial.lowest:
        trial.lowest, trial.rate = loss, rate


def _without_gradient(weights: list[tuple[str, nn.Parameter]]) -> list[str]:
    """Return tensors without any gradient; experts that no token of the batch was sent to have none by nature."""
    return [
        name
        for name, weight in weights
        if (weight.grad is None or not bool(weight.grad.any())) and ".experts." not in name
    ]


def _give_back(weights: list[tuple[str, nn.Parameter]], kept: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for (_, weight), value in zip(weights, kept, strict=True):
            weight.copy_(value)


@contextmanager
def _recomputing(context: RunContext) -> Iterator[None]:
    """Recompute activations as the run will, where it will."""
    if not context.recipe.training.activation_checkpointing:
        yield
        return
    model: Any = context.model
    switch_on: Callable[..., None] = getattr(model, f"{CHECKPOINTING}_enable")
    switch_on(**{f"{CHECKPOINTING}_kwargs": {"use_reentrant": False}})
    try:
        yield
    finally:
        getattr(model, f"{CHECKPOINTING}_disable")()


@contextmanager
def as_before(model: nn.Module) -> Iterator[None]:
    """Put back, after a block, what a trainer changes besides weights: buffers, modes, patches and random states."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    patched = base.__dict__.get("forward")
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    states = capture_random_state()
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
        for module, training in modes:
            module.training = training
        # TRL wraps the model's own forward each time that a trainer is built.
        base.__dict__.pop("forward", None)
        if patched is not None:
            base.__dict__["forward"] = patched
        restore_random_state(states)
