"""A sweep over learning rates: the run's own model, rows and trainer, one short step at each rate.

Smith 2017, https://arxiv.org/abs/1506.01186, with one change: the loss of each batch is held against that of the
untouched model on the same rows, which takes the difference between batches out of the curve for a third more time.
"""

import math
import random
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.data.rendering import renderer_of
from engine.data.run_rows import load_rows
from engine.data.tokenized import tokenize
from engine.evaluation.isolation import undisturbed
from engine.models.tokenizers import load_tokenizer
from engine.objectives.build import BuiltTrainer, make_examples, make_trainer
from engine.objectives.references import compares, make_references
from engine.planning.plan import Plan
from engine.planning.rate_curve import SWEEP_STEPS, RatePoint, sweep_rates
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.disk import private_folder
from engine.runs.home import home_folders
from engine.stages import load_learner
from engine.training.batching import Batching
from engine.training.order import FixedOrder

Tell = Callable[[RatePoint], None]

BUDGET_S = 30.0
"""Expected time of a sweep's steps; with more rows to a step the curve is smoother."""
LIMIT_S = 600.0
"""After so long a sweep says what it has."""
BROKEN_FACTOR, BROKEN_NATS = 1.5, 1.0
"""Beyond this many times the first loss, and this much, nothing is learnt from going on."""
RECENT_STEPS = 6
FALLEN_SHARE, KEPT_SHARE = 0.02, 0.3
"""A sweep whose loss fell by so much of the first, and keeps so little of that fall, has shown where it breaks."""


def sweep(plan: Plan, scratch: Path, tell: Tell) -> None:
    """Sweep over learning rates.

    Args:
        plan: Of the run; its learning rate is the middle of the sweep.
        scratch: Folder for everything that is written.
        tell: Called with each step.

    Raises:
        ProblemError: Model or rows cannot be used.
    """
    run_sweep(sweep_trainer(plan, scratch), sweep_rates(plan.recipe.training.learning_rate or 0.0), tell)


def sweep_trainer(plan: Plan, scratch: Path) -> BuiltTrainer:
    """Return the run's trainer with the steps of a sweep in front of it."""
    recipe, cache = plan.recipe, home_folders().cache
    folder = plan.model.folder
    if folder is None or recipe.training.max_length is None:
        raise ProblemError(Problem("plan.incomplete", "The plan does not say where the model is.", "Make it again."))
    rows = load_rows(RunDirectory(private_folder(scratch / "run")), plan, cache=cache)
    loaded = load_tokenizer(Path(folder), recipe)
    renderer = renderer_of(plan, loaded.tokenizer)
    tokens = tokenize(rows.train, renderer, rows_sha256=rows.train_sha256, cache=cache)
    rendered = tokens.cut(renderer.max_length, renderer.max_target)
    if problems := rendered.problems():
        raise ProblemError(*problems)
    steps = make_examples(recipe, plan.task, rendered, renderer.max_length)
    micro = plan.steps.micro_batch
    cut = sweep_steps(len(steps), micro, rows_per_step(plan), recipe.training.seed)
    accumulation = max(len(step) for step in cut)
    training = recipe.training.model_copy(update={"max_steps": len(cut), "schedule": "constant", "warmup": 0.0})
    model = load_learner(plan, loaded)
    read = sorted({row for step in cut for rows_at_once in step for row in rows_at_once})
    built = make_trainer(
        recipe.model_copy(update={"training": training}),
        plan.task,
        plan.device.model_copy(update={"others": []}),
        Batching(micro, accumulation),
        steps,
        model=model,
        tokenizer=loaded.tokenizer,
        folder=private_folder(scratch / "trainer"),
        references=make_references(recipe, model, steps, read, micro_batch=micro) if compares(recipe) else None,
    )
    built.trainer.order = FixedOrder(cut)
    return built


def rows_per_step(plan: Plan) -> int:
    """Return how many rows a step of the sweep reads: as in the run where time allows, at least a micro-batch."""
    effective, micro = plan.recipe.training.effective_batch, plan.steps.micro_batch
    if plan.time is None or not plan.steps.total_steps or not plan.time.expected_s:
        return effective
    row_s = plan.time.expected_s / plan.steps.total_steps / effective
    affordable = int(BUDGET_S / (SWEEP_STEPS * row_s)) // micro * micro
    return max(micro, min(effective, affordable))


def sweep_steps(num_rows: int, micro_batch: int, per_step: int, seed: int) -> list[list[list[int]]]:
    """Return the rows of each micro-batch of each step: drawn with the seed, again from the start when all are used."""
    drawn: list[int] = []
    generator = random.Random(seed)
    while len(drawn) < SWEEP_STEPS * per_step:
        drawn += generator.sample(range(num_rows), num_rows)
    steps = [drawn[start : start + per_step] for start in range(0, SWEEP_STEPS * per_step, per_step)]
    return [[step[at : at + micro_batch] for at in range(0, per_step, micro_batch)] for step in steps]


def run_sweep(built: BuiltTrainer, rates: list[float], tell: Tell) -> None:
    """Take one step at each rate and tell its loss; changes the model's weights.

    Args:
        built: With one optimizer step for each rate.
        rates: Of the steps.
        tell: Called with each step.
    """
    trainer, highest = built.trainer, max(rates)
    # Set by the training loop of transformers; the loss of mixtures of experts reads it.
    trainer.current_gradient_accumulation_steps = 1
    before = [untouched_loss(built, step) for step in range(len(rates))]
    trainer.args.learning_rate = highest
    # The library asks for the rate of the step after the last one, too.
    trainer.rate_share = lambda step: rates[min(step, len(rates) - 1)] / highest
    follower = _Follower(rates, before, tell)
    trainer.after_micro_step = follower.after_micro_step
    trainer.add_callback(follower)
    trainer.train()


def untouched_loss(built: BuiltTrainer, step: int) -> float:
    """Return the loss of the model as it stands on the rows of a step, without dropout or noise."""
    trainer = built.trainer
    num_items = torch.tensor(trainer.weight_of_step(step), device=trainer.args.device)
    total = 0.0
    with torch.no_grad(), undisturbed(trainer.model):
        for rows in trainer.order.micro_batches(step):
            batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[row] for row in rows]))
            with trainer.compute_loss_context_manager():
                total += float(trainer.compute_loss(trainer.model, batch, num_items_in_batch=num_items))
    return total


class _Follower(TrainerCallback):
    """Turns finished steps into points, and ends a sweep that is broken or late."""

    def __init__(self, rates: list[float], before: list[float], tell: Tell) -> None:
        self._rates, self._before, self._tell = rates, before, tell
        self._mean = sum(before) / len(before)
        self._micro: list[torch.Tensor] = []
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._deepest = 0.0
        self._until_s = time.monotonic() + LIMIT_S

    def after_micro_step(self, loss: torch.Tensor) -> None:
        """Keep the micro-step's share of the loss."""
        self._micro.append(loss)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell the step, and end the sweep where it is of no use to go on."""
        step = state.global_step - 1
        loss = float(torch.stack(self._micro).sum())
        self._micro.clear()
        if math.isfinite(loss):
            self._tell(RatePoint(self._rates[step], self._mean + loss - self._before[step]))
        if self._broken(loss, loss - self._before[step]) or time.monotonic() > self._until_s:
            control.should_training_stop = True

    def _broken(self, loss: float, change: float) -> bool:
        if not math.isfinite(loss) or loss > BROKEN_FACTOR * self._mean + BROKEN_NATS:
            return True
        self._recent.append(change)
        mean = sum(self._recent) / len(self._recent)
        self._deepest = min(self._deepest, mean)
        return self._deepest < -FALLEN_SHARE * self._mean and mean > KEPT_SHARE * self._deepest
