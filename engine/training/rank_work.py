"""What another rank does: the worker's model, rows and trainer, a share of every step, and nothing that writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.data.rendering import renderer_of
from engine.data.run_rows import RowLines
from engine.data.tokenized import tokenize
from engine.models.tokenizers import load_tokenizer
from engine.objectives.build import BuiltTrainer, make_examples, make_trainer
from engine.objectives.references import compares
from engine.runs.directory import RunDirectory
from engine.runs.home import home_folders
from engine.stages import load_learner
from engine.text import clean_line
from engine.training.batching import Batching
from engine.training.checkpoints import WEIGHTS, learnt_tensors, load_learnt_weights, load_trainer_state
from engine.training.distributed import Links, Share, learning
from engine.training.faults import fault_kind
from engine.training.ranks import RankJob, fingerprint_of
from engine.training.references import read_references
from engine.training.unfreezing import StageCallback


class Orders(Protocol):
    """What the worker says."""

    def next(self) -> dict[str, Any]:
        """Return the next line, waiting as long as it takes."""

    def await_step(self, step: int) -> None:
        """Wait until the worker has come to the end of a step (from 0)."""


class Progress:
    """Where this process stands, for what is told when it fails.

    Attributes:
        built: The trainer; None before there is one.
        training: Whether the first step has begun.
        num_done: Micro-steps of the current step that are done.
    """

    def __init__(self) -> None:
        self.built: BuiltTrainer | None = None
        self.training = False
        self.num_done = 0

    def fault(self, error: Exception) -> dict[str, Any]:
        """Return an error as the worker reads it; before the first step every one stands in the way of starting."""
        text = clean_line(str(error).strip().split("\n")[0], max_chars=300)
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        if self.built is None or not self.training:
            return {"kind": "rank", "text": text, "where": "start", "row_ids": []}
        kind, micro_batches = fault_kind(error), self.built.order.micro_batches(self.built.trainer.state.global_step)
        if self.num_done >= len(micro_batches):
            return {"kind": kind, "text": text, "where": "optimizer", "row_ids": []}
        row_ids = self.built.sequences.row_ids(micro_batches[self.num_done])
        return {"kind": kind, "text": text, "where": "micro_step", "row_ids": row_ids}


class Follower(TrainerCallback):
    """Keeps step with the worker's trainer, apart from everything that writes."""

    def __init__(self, built: BuiltTrainer, checkpoint: str | None, progress: Progress) -> None:
        self._built = built
        self._checkpoint = checkpoint
        self._progress = progress

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put back the state of a checkpoint and take over the weights of rank 0."""
        trainer = self._built.trainer
        if self._checkpoint is not None:
            load_trainer_state(trainer, Path(self._checkpoint))
        if trainer.share is not None:
            trainer.share.align()
        self._progress.training = True

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell the order of rows which epoch begins."""
        order = self._built.order
        order.epoch = state.global_step // order.steps_per_epoch

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take note of a finished step."""
        self._progress.num_done = 0

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep no history: the worker's event log is."""
        state.log_history.clear()

    def after_micro_step(self, _: Any) -> None:
        """Take note of a finished micro-step."""
        self._progress.num_done += 1


def take_part(job: RankJob, progress: Progress, orders: Orders, *, tell: Callable[[dict[str, Any]], None]) -> None:
    """Build the trainer and take part in every step.

    Args:
        job: What to do.
        progress: Kept up to date.
        orders: What the worker says.
        tell: Says something to the worker.
    """
    built = progress.built = build(job)
    trainer = built.trainer
    tell({"ready": fingerprint_of(built.sequences.lengths, built.sequences.weights)})
    orders.next()
    # Nobody has to be watched from here: the worker watches all, and its end is the end of this process.
    links = Links(job.rank, job.num_gpus, Path(job.meeting), trainer.args.device, check=lambda: None)
    links.connect()
    trainer.share = Share(
        links,
        built.order,
        learning(trainer.model),
        seed=job.plan.recipe.training.seed,
        announce=orders.await_step,
    )
    follower = Follower(built, job.checkpoint, progress)
    learnt = learnt_tensors(trainer.model)
    trainer.load_weights = lambda folder: load_learnt_weights(learnt, Path(folder) / WEIGHTS)
    trainer.after_micro_step = follower.after_micro_step
    trainer.add_callback(follower)
    if job.plan.recipe.method.facts.staged:
        trainer.add_callback(StageCallback(trainer.model, job.plan.recipe))
    trainer.train(resume_from_checkpoint=job.checkpoint)


def build(job: RankJob) -> BuiltTrainer:
    """Return the trainer of the run's rows, model and method, as the worker builds its own."""
    plan, run = job.plan, RunDirectory(Path(job.run))
    recipe = plan.recipe
    loaded = load_tokenizer(Path(job.folder), recipe)
    renderer = renderer_of(plan, loaded.tokenizer)
    # The worker has tokenised the same rows, so that they are read from the cache.
    tokens = tokenize(RowLines(run.train_file), renderer, cache=home_folders().cache)
    rendered = tokens.cut(renderer.max_length, renderer.max_target)
    sequences = make_examples(recipe, plan.task, rendered, renderer.max_length)
    # The worker has written them before it started this process.
    references = read_references(run, plan, sequences) if compares(recipe) else None
    return make_trainer(
        recipe,
        plan.task,
        plan.device,
        Batching(job.micro_batch, job.accumulation, job.num_gpus),
        sequences,
        model=load_learner(plan, loaded),
        tokenizer=loaded.tokenizer,
        folder=run.checkpoints_folder,
        rank=job.rank,
        references=None if references is None else references.train,
    )
