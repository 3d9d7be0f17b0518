"""Stages 3 and 4: train, from the last whole checkpoint to the last step, and leave a checkpoint however it ends."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch

from engine.evaluation.evaluate import EvaluationInterrupted, measure
from engine.evaluation.few_shot import FewShot
from engine.evaluation.measurement import TEST_PHASES, UNTOUCHED_PHASES, Phase, held_out_losses, measurement_file
from engine.methods.gradual_unfreezing import Stage, Unfreezing
from engine.methods.virtual_tokens import without_virtual_tokens
from engine.objectives.build import BuiltTrainer, build_trainer
from engine.out_of_memory import give_back_memory
from engine.recipe.problems import ProblemError
from engine.runs.checkpoints import Checkpoint
from engine.runs.events import EventReader, decode_chunk
from engine.text import clean_line, human_count
from engine.training.alarms import AlarmWatch
from engine.training.best import BestStep
from engine.training.best_events import tell_best, tell_early_end, tell_lost_best, tell_restored
from engine.training.callbacks import Duties, RunCallback, StepLog, TrainingState
from engine.training.checkpoints import TrainingCheckpoints
from engine.training.context import RunContext
from engine.training.faults import Fault, FaultKind, fault_kind
from engine.training.interrupt import StopRequested
from engine.training.lookout import Actions, Lookout
from engine.training.preflight import Preflight
from engine.training.preflight_steps import StepGates
from engine.training.ranks import RankFailedError, Ranks, fingerprint_of
from engine.training.unfreezing import StageCallback


class TrainingFaultError(Exception):
    """Raised when training cannot go on in this process.

    Attributes:
        fault: What happened, to which rows, and whether the last finished step is on the disk.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


@dataclass(slots=True)
class Training:
    """The parts of one attempt."""

    context: RunContext
    built: BuiltTrainer
    checkpoints: TrainingCheckpoints
    state: TrainingState
    best: BestStep

    def restore(self) -> None:
        """Put back the state of the checkpoint that this attempt starts from."""
        if self.context.checkpoint is not None:
            progress = self.checkpoints.load_state(self.context.checkpoint)
            self.state.num_tokens = progress.num_tokens
            self.state.alarms.restore(progress.alarms)
            self.context.stopwatch.reset(progress.elapsed_s)
        if self.built.trainer.share is not None:
            self.built.trainer.share.align()

    def save(self) -> bool:
        """Commit a checkpoint of the last finished step; signals wait until it is done."""
        context = self.context
        with context.stopwatch.held(), context.interrupt.shielded(), context.memory.within("saving"):
            return self.checkpoints.save(self.state.progress())

    def save_on_schedule(self, otherwise: str = "Training goes on.") -> None:
        """Commit a checkpoint; a disk or a memory that cannot take it does not stop training.

        Args:
            otherwise: What happens without the checkpoint; one sentence for the notice.
        """
        try:
            self.save()
        except ProblemError as error:
            for problem in error.problems:
                self.context.notice("error", problem.code, f"{problem.sentence()} {otherwise}")

    def evaluate(self) -> None:
        """Measure the model as it stands; the checkpoint of a new best step is kept."""
        step, before = self.state.step, self.best.standing(self.state.step - 1)
        with self.context.stopwatch.held():
            evaluate(self.context, "during", step)
        self._take_held_out()
        standing = self.best.standing(step)
        if standing.step != step:
            return
        self.save_on_schedule("Training goes on; this step cannot be gone back to.")
        if self.context.store.holds(step):
            self.context.store.pinned = step
            tell_best(self.context, standing, before)

    def evaluate_on_schedule(self) -> bool:
        """Measure the model; return whether training is to end because nothing has got better for long."""
        self.evaluate()
        return self._ends_early()

    def ended_early(self) -> bool:
        """Return whether the attempt before ended training at the step that this one starts from."""
        step = self.state.step
        standing = self.best.standing(step)
        self.context.store.pinned = standing.step
        on_schedule = step % self.context.plan.steps.evaluate_every == 0
        return standing.last_step == step and on_schedule and self._ends_early()

    def _ends_early(self) -> bool:
        standing = self.best.standing(self.state.step)
        if not self.best.exhausted(standing):
            return False
        self.save_on_schedule("What was learnt is in memory only.")
        tell_early_end(self.context, standing, self.state.step, self.built.total_steps)
        return True

    def settle(self) -> None:
        """Put the best step's weights in place of the last one's where those are better."""
        last = self.state.step
        if self.best.standing(last).step is None:
            # Nothing was measured on the way, so that there is nothing to compare the end with.
            return
        if self.best.standing(last).last_step != last:
            self.evaluate()
        standing = self.best.standing(last)
        if standing.step is None or standing.step == last:
            return
        checkpoint = self.context.store.whole_at(standing.step)
        if checkpoint is None:
            tell_lost_best(self.context, standing)
            return
        self.checkpoints.load_weights(str(checkpoint.folder))
        tell_restored(self.context, standing)

    def share_work(self, ranks: Ranks) -> None:
        """Meet the other processes, so that each of them computes its part of every step.

        Raises:
            RankFailedError: One failed or did not come.
            LinkError: They cannot reach each other.
            StopRequested: A stop was asked for meanwhile.
        """
        # Only runs on several GPUs need it.
        from engine.training.distributed import Links, Share, learning

        context, built = self.context, self.built
        trainer, weights = built.trainer, built.sequences.weights
        meeting = ranks.wait_ready(fingerprint_of(built.sequences.lengths, weights), self._check_stop)
        links = Links(0, built.order.num_ranks, meeting, trainer.args.device, ranks.check)
        links.connect()
        trainer.share = Share(
            links,
            built.order,
            learning(trainer.model),
            seed=context.recipe.training.seed,
            announce=ranks.announce,
        )
        trainer.others_loss = self._add_loss

    def leave_ranks(self) -> None:
        """End the other processes; from here on this one is alone."""
        share, self.built.trainer.share = self.built.trainer.share, None
        if share is not None:
            share.links.leave()
        if self.context.ranks is not None:
            self.context.ranks.close()

    def _check_stop(self) -> None:
        self.context.interrupt.check()
        if self.context.desk.stop_asked():
            self.context.desk.check_stop()

    def _add_loss(self, others: torch.Tensor) -> None:
        self.state.micro_losses[-1] = self.state.micro_losses[-1] + others

    def make_up(self) -> None:
        """Measure the step that this attempt starts from, where the one before ended between saving and measuring."""
        self._take_held_out()
        step = self.state.step
        measured = self.context.run.evaluation_folder / measurement_file("during", step)
        if step and step % self.context.plan.steps.evaluate_every == 0 and not measured.exists():
            self.evaluate()

    def _take_held_out(self) -> None:
        """Hand the held-out losses on the disk to the alarms: its step is measured after a checkpoint is made."""
        self.state.alarms.take_held_out(held_out_losses(self.context.run.evaluation_folder, self.state.step))

    def fault(self, error: BaseException, kind: FaultKind) -> Fault:
        """Return what happened, for people and for the decision what to do next."""
        state, sequences = self.state, self.built.sequences
        text = clean_line(str(error).strip().split("\n")[0], max_chars=300)
        fault = Fault(kind, state.step + 1, [], text, state.consistent, where="start")
        if not state.restored:
            return fault
        fault = replace(fault, row_ids=sequences.row_ids(self.built.order.rows_of_step(state.step)))
        micro_batches = self.built.order.micro_batches(state.step)
        # Each finished micro-step has left its share of the loss.
        num_done = len(state.micro_losses)
        if num_done == len(micro_batches):
            return replace(fault, where="optimizer")
        rows = tuple(sequences.row_ids(micro_batches[num_done]))
        return replace(fault, where="micro_step", micro_row_ids=rows)

    def fault_elsewhere(self, error: Exception) -> Fault:
        """Return what happened in another process, or between the processes, as a fault of the step in progress."""
        state = self.state
        fault = error.fault if isinstance(error, RankFailedError) else Fault("rank", 0, [], clean_line(error), True)
        if not state.restored:
            return replace(fault, step=state.step + 1, where="start")
        row_ids = self.built.sequences.row_ids(self.built.order.rows_of_step(state.step))
        return replace(fault, step=state.step + 1, row_ids=row_ids, consistent=state.consistent)

    def keep_last_step(self, fault: Fault) -> Fault:
        """Save the last finished step after a fault that leaves the device whole, so that nothing is lost.

        Returns:
            The fault, with the step that the next attempt starts from.
        """
        if fault.kind in ("out_of_memory", "rank") and fault.consistent and self.state.restored:
            self.built.trainer.model.zero_grad(set_to_none=True)
            give_back_memory()
            self.save_on_schedule("The next attempt starts from the checkpoint before it.")
        started_from = 0 if self.context.checkpoint is None else self.context.checkpoint.step
        return replace(fault, kept_step=max(self.checkpoints.last_step, started_from))


def train(context: RunContext) -> None:
    """Train to the last step; nothing to do when the last step is on the disk already.

    Raises:
        StopRequested: A stop was asked for; the state is saved.
        TrainingFaultError: Out of memory, a device error or a number that is none.
    """
    try:
        _train(context)
    finally:
        # Optimizer states and gradients are not needed to measure and to export, and may be most of the memory.
        give_back_memory()


def _train(context: RunContext) -> None:
    training = _set_up(context)
    failure: Fault | None = None
    try:
        _run(training)
    except StopRequested as stop:
        if stop.save and training.state.consistent:
            training.save_on_schedule()
        raise
    except TrainingFaultError:
        raise
    except Exception as error:
        failure = _fault_of(training, error)
        if failure is None:
            raise
    finally:
        training.leave_ranks()
    context.steps_done = training.state.step
    # Outside the handler: the traceback would hold the activations that did not fit.
    if failure is not None:
        raise TrainingFaultError(training.keep_last_step(failure))


def _fault_of(training: Training, error: Exception) -> Fault | None:
    """Return an error as a fault that recovery knows; None when it is a defect."""
    if training.context.ranks is not None:
        from engine.training.distributed import LinkError

        training.leave_ranks()
        if isinstance(error, RankFailedError | LinkError):
            return training.fault_elsewhere(error)
    kind = fault_kind(error)
    return None if kind is None else training.fault(error, kind)


def evaluate(context: RunContext, phase: Phase, step: int, few_shot: FewShot | None = None) -> None:
    """Measure the model on the rows of a phase; a fault of a metric is reported and costs nothing else.

    Args:
        context: The run.
        phase: When this is.
        step: Optimizer steps done.
        few_shot: Examples to put in front of every question.

    Raises:
        StopRequested: A stop was asked for in the middle.
        TrainingFaultError: The device failed.
    """
    interrupt = context.interrupt
    try:
        base_alone = without_virtual_tokens(context.model) if phase in UNTOUCHED_PHASES else nullcontext()
        with context.memory.within("evaluation"), base_alone:
            measure(
                context.model,
                context.tokenizer,
                context.renderer,
                context.test_rows if phase in TEST_PHASES else context.held_out_rows,
                context.recipe,
                phase=phase,
                step=step,
                emit=context.events.write,
                should_stop=lambda: interrupt.reason is not None or context.desk.stop_asked(),
                folder=context.run.evaluation_folder,
                micro_batch=context.batching.micro_batch,
                few_shot=few_shot,
                rewarding=context.rewarding,
                references=context.references,
            )
    except EvaluationInterrupted:
        interrupt.check()
        context.desk.check_stop()
    except Exception as error:
        text = clean_line(error, max_chars=300)
        if fault_kind(error) == "device":
            fault = Fault("device", step, [], text, consistent=True, where="measurement")
            raise TrainingFaultError(fault) from error
        context.notice(
            "error", "evaluation.failed", f"The evaluation {_WHEN[phase]} failed ({type(error).__name__}: {text})."
        )


_WHEN: dict[Phase, str] = {
    "before": "before training",
    "few_shot": "with examples",
    "during": "during training",
    "after": "after training",
    "test_before": "of the test rows before training",
    "test": "of the test rows after training",
}


def _set_up(context: RunContext) -> Training:
    built = build_trainer(context)
    context.order = built.order
    checkpoints = TrainingCheckpoints(context.store, context.events, built.trainer)
    rewarded = context.recipe.goal.name == "reinforcement-learning"
    state = TrainingState(context.stopwatch, AlarmWatch(built.total_steps, "reward" if rewarded else "loss"))
    best = BestStep(
        context.run.evaluation_folder, context.recipe.training, context.plan.steps.evaluate_every, context.store.holds
    )
    training = Training(context, built, checkpoints, state, best)
    trainer = built.trainer
    trainer.add_callback(
        RunCallback(
            state=state,
            order=built.order,
            log=StepLog(context.events, state, built.total_steps),
            memory=context.memory,
            duties=Duties(training.restore, training.save_on_schedule, training.evaluate_on_schedule),
            steps=context.plan.steps,
            skips_allowed=context.recipe.training.precision == "float16",
            extras=trainer.step_extras,
            tokens_of_step=trainer.tokens_of_step,
        )
    )
    if context.recipe.method.facts.staged:
        tell = partial(_tell_stage, context, _told_stages(context))
        trainer.add_callback(StageCallback(trainer.model, context.recipe, tell=tell))
    if context.recipe.training.preflight != "off":
        # Behind the stages, which say what a step holds back.
        trainer.add_callback(StepGates(Preflight(context.events), trainer))
    lookout = Lookout(
        context.events,
        context.desk,
        context.interrupt,
        state,
        Actions(training.save, training.evaluate),
    )
    trainer.before_micro_step = partial(_look_around, context, lookout)
    trainer.after_micro_step = lookout.after_micro_step
    trainer.load_weights = checkpoints.load_weights
    trainer.tell = context.notice
    return training


def _told_stages(context: RunContext) -> set[int]:
    """Return the numbers of the stages that the run has told of: an attempt may begin with the step that opened one."""
    reader = EventReader(context.run.events_file)
    events = (event for chunk in reader.chunks() if b"stage.opened" in chunk for event in decode_chunk(chunk)[0])
    return {int(event.payload["stage"]) for event in events if event.type == "stage.opened"}


def _tell_stage(context: RunContext, told: set[int], stage: Stage, unfreezing: Unfreezing) -> None:
    """Say that a stage opens, and how much learns from now on; each is told of once in a run."""
    if stage.number in told:
        return
    learning, every = unfreezing.num_learning, unfreezing.num_weights
    context.events.write(
        "stage.opened",
        stage=stage.number,
        num_stages=len(unfreezing.stages),
        step=stage.opens_at,
        title=stage.title,
        trainable_params=learning,
        num_params=every,
    )
    context.notice(
        "note",
        "training.stage_opened",
        f"Stage {stage.number} of {len(unfreezing.stages)} opens with step {stage.opens_at + 1}: {stage.title}; now "
        f"{human_count(learning)} of {human_count(every)} weights learn.",
    )


def _look_around(context: RunContext, lookout: Lookout) -> None:
    lookout.before_micro_step()
    if context.ranks is not None:
        context.ranks.check()


def _run(training: Training) -> None:
    context, built = training.context, training.built
    start_step = 0 if context.checkpoint is None else context.checkpoint.step
    _compare_with_plan(training)
    context.events.write("state.changed", state="training", reason="")
    context.events.write(
        "training.started",
        total_steps=built.total_steps,
        start_step=start_step,
        micro_batch=context.batching.micro_batch,
        accumulation=context.batching.accumulation,
        steps_per_epoch=built.order.steps_per_epoch,
        num_gpus=context.batching.num_gpus,
    )
    context.memory.enter("training")
    if context.checkpoint is not None and _goes_no_further(training, context.checkpoint):
        training.settle()
        return
    folder = None if context.checkpoint is None else str(context.checkpoint.folder)
    if context.ranks is not None:
        training.share_work(context.ranks)
    built.trainer.train(resume_from_checkpoint=folder)
    # The trainer leaves its mixed-precision wrapper on the model; measuring and exporting want the plain one.
    built.trainer.accelerator.unwrap_model(context.model, keep_fp32_wrapper=False)
    training.settle()


def _goes_no_further(training: Training, checkpoint: Checkpoint) -> bool:
    """Put the weights of a checkpoint in place, measure what was left out there; return whether training is over."""
    training.checkpoints.load_weights(str(checkpoint.folder))
    training.checkpoints.last_step = training.state.step = checkpoint.step
    if checkpoint.step >= training.built.total_steps:
        training.context.store.pinned = training.best.standing(checkpoint.step).step
        return True
    training.make_up()
    return training.ended_early()


def _compare_with_plan(training: Training) -> None:
    """Say so when the rows give another number of steps than the plan counted on: the plan only estimates packing."""
    planned, total_steps = training.context.plan.steps.total_steps, training.built.total_steps
    if planned != total_steps:
        training.context.notice(
            "note",
            "training.steps_differ",
            f"Training takes {total_steps} steps; the plan expected {planned}. There are "
            f"{len(training.built.sequences)} sequences, {training.built.order.steps_per_epoch} steps per epoch.",
        )
