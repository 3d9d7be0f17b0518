"""What is looked at while the trainer runs: steps, memory, faults, schedule, requests.

The trainer calls `RunCallback` between steps and `Lookout` between micro-steps. Both act on one `TrainingState`.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.planning.plan import Steps
from engine.runs.alarm_notices import alarm_code
from engine.training.alarms import Alarm, AlarmWatch
from engine.training.checkpoints import Progress
from engine.training.event_log import EventLog
from engine.training.faults import NotFiniteError
from engine.training.memory import MemorySampler
from engine.training.order import StepOrder
from engine.training.random_state import capture_random_state
from engine.training.stopwatch import Stopwatch

SPEED_WINDOW_STEPS = 20
MAX_SKIPPED_STEPS = 50
"""Steps in a row that float16's loss scaling may skip before the run counts as diverged."""


@dataclass(slots=True)
class TrainingState:
    """Where training stands, kept by the callback and read when something has to be saved or named.

    Attributes:
        step: Optimizer steps finished.
        num_tokens: Tokens read by them.
        alarms: What is watched for on the curve.
        restored: Whether the state that this attempt starts from is in place.
        consistent: False while the optimizer changes the weights: what is in memory then is no step's state.
        random_state: Generators after the last finished step.
        micro_losses: Shares of the loss of the step in progress, on the device.
    """

    stopwatch: Stopwatch
    alarms: AlarmWatch
    step: int = 0
    num_tokens: int = 0
    restored: bool = False
    consistent: bool = True
    random_state: dict[str, Any] = field(default_factory=dict)
    micro_losses: list[torch.Tensor] = field(default_factory=list)

    def progress(self) -> Progress:
        """Return what a checkpoint records; the last finished step, also in the middle of the next one."""
        return Progress(self.step, self.num_tokens, self.stopwatch.elapsed_s, self.random_state, self.alarms.to_json())

    def finish_step(self, step: int, num_tokens: int) -> None:
        """Take note that an optimizer step is complete."""
        self.step = step
        self.num_tokens += num_tokens
        self.random_state = capture_random_state()
        self.micro_losses.clear()
        self.consistent = True


class StepLog:
    """Writes one `step.logged` event per optimizer step."""

    def __init__(self, events: EventLog, state: TrainingState, total_steps: int) -> None:
        self._events = events
        self._state = state
        self._total_steps = total_steps
        self._window: deque[tuple[int, float]] = deque(maxlen=SPEED_WINDOW_STEPS + 1)

    def tell(self, alarm: Alarm) -> None:
        """Write the notice of an alarm, or of its end."""
        self._events.write(
            "notice.raised",
            severity="note" if alarm.over else "warning",
            code=alarm_code(alarm.kind, over=alarm.over),
            message=alarm.text,
            step=alarm.step,
        )

    def start(self) -> None:
        """Begin measuring speed at the current step."""
        self._window.append((self._state.num_tokens, self._state.stopwatch.elapsed_s))

    def write(
        self,
        step: int,
        *,
        epoch: float,
        loss: float,
        learning_rate: float | None,
        grad_norm: float | None,
        extra: Mapping[str, float] | None = None,
    ) -> None:
        """Write the event of one step; NaN and infinity as what they are.

        Args:
            step: Optimizer step, from 1.
            epoch: Passes over the rows so far.
            loss: Of the step.
            learning_rate: Used by the step.
            grad_norm: Before clipping.
            extra: What the objective tells besides, by names of `engine.catalog.step_numbers`.
        """
        elapsed_s = self._state.stopwatch.elapsed_s
        self._window.append((self._state.num_tokens, elapsed_s))
        (tokens_before, elapsed_before) = self._window[0]
        duration_s = elapsed_s - elapsed_before
        self._events.write(
            "step.logged",
            step=step,
            total_steps=self._total_steps,
            epoch=epoch,
            loss=loss,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            num_tokens=self._state.num_tokens,
            tokens_per_s=(self._state.num_tokens - tokens_before) / duration_s if duration_s > 0 else 0.0,
            elapsed_s=elapsed_s,
            **({"extra": dict(extra)} if extra else {}),
        )


@dataclass(slots=True)
class Duties:
    """What is done on schedule.

    Attributes:
        restore: Called once when the optimizer exists; puts back the state of a checkpoint.
        save: Writes a checkpoint.
        evaluate: Measures the model on held-out rows; True when training is to end for want of progress.
    """

    restore: Callable[[], None]
    save: Callable[[], object]
    evaluate: Callable[[], bool]


class RunCallback(TrainerCallback):
    """Follows the trainer from step to step."""

    def __init__(
        self,
        *,
        state: TrainingState,
        order: StepOrder,
        log: StepLog,
        memory: MemorySampler,
        duties: Duties,
        steps: Steps,
        skips_allowed: bool,
        extras: Callable[[], Mapping[str, float]],
        tokens_of_step: Callable[[int], int],
    ) -> None:
        self._state = state
        self._order = order
        self._log = log
        self._memory = memory
        self._duties = duties
        self._steps = steps
        self._skips_allowed = skips_allowed
        self._extras = extras
        self._tokens_of_step = tokens_of_step
        self._skipped = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put back the state of a checkpoint; optimizer and schedule exist only now."""
        self._duties.restore()
        self._state.step = state.global_step
        self._state.restored = True
        self._state.random_state = capture_random_state()
        self._state.stopwatch.start()
        self._log.start()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell the order of rows which epoch begins, before the trainer opens its loader."""
        self._order.epoch = state.global_step // self._order.steps_per_epoch

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop before a loss that is no number reaches the weights."""
        loss = float(torch.stack(self._state.micro_losses).sum())
        if loss != loss or loss in (float("inf"), float("-inf")):
            self._log_fault(state, loss, None)
            raise NotFiniteError("loss", loss)
        self._state.consistent = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take note of a finished step."""
        self._state.finish_step(state.global_step, self._tokens_of_step(state.global_step - 1))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write the step's event, then do what is due after it."""
        # The trainer keeps every entry for its own checkpoints; the event log is our history.
        state.log_history.clear()
        if logs is None or "loss" not in logs:
            return
        grad_norm, extra = logs.get("grad_norm"), self._extras()
        self._log.write(
            state.global_step,
            epoch=state.epoch or 0.0,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=grad_norm,
            extra=extra,
        )
        self._check_gradient(state.global_step, grad_norm)
        self._look_for_alarms(state.global_step, {**logs, **extra})
        self._memory.sample()
        if self._do_what_is_due(state.global_step, state.max_steps):
            control.should_training_stop = True

    def _look_for_alarms(self, step: int, numbers: dict[str, Any]) -> None:
        # Not every step of reinforcement learning draws new answers, and so has a reward of its own.
        value = numbers.get(self._state.alarms.watched)
        if value is not None:
            for alarm in self._state.alarms.look(step, value, numbers.get("grad_norm"), numbers["learning_rate"]):
                self._log.tell(alarm)

    def _check_gradient(self, step: int, grad_norm: float | None) -> None:
        if grad_norm is None or abs(grad_norm) < float("inf"):
            self._skipped = 0
            return
        # float16's loss scaling tries scales that overflow and skips those steps: a few are how it works.
        self._skipped += 1
        if self._skips_allowed and self._skipped <= MAX_SKIPPED_STEPS:
            return
        # The weights are spoilt, so that this step does not count as finished; it is the one to be named.
        self._state.step, self._state.consistent = step - 1, False
        raise NotFiniteError("gradient norm", grad_norm)

    def _do_what_is_due(self, step: int, total_steps: int) -> bool:
        """Save and measure as the schedule says; return whether training is to end early."""
        last = step >= total_steps
        # The end is always saved; what it is worth is measured by the evaluation after training.
        if last or step % self._steps.checkpoint_every == 0:
            self._duties.save()
        return not last and step % self._steps.evaluate_every == 0 and self._duties.evaluate()

    def _log_fault(self, state: TrainerState, loss: float, grad_norm: float | None) -> None:
        self._log.write(
            state.global_step + 1, epoch=state.epoch or 0.0, loss=loss, learning_rate=None, grad_norm=grad_norm
        )
