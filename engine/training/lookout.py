"""Signals and viewers' requests, looked at between micro-steps.

Weights, optimizer and random state there are those of the last finished step, whatever part of the next step has been
accumulated, so saving, measuring and stopping are possible at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from engine.recipe.problems import ProblemError
from engine.runs.control import ControlRequest
from engine.text import clean_line
from engine.training.callbacks import TrainingState
from engine.training.event_log import EventLog
from engine.training.interrupt import Interrupt, StopRequested
from engine.training.requests import RequestDesk

POLL_EVERY_S = 0.1
PAUSED_POLL_S = 0.2


@dataclass(slots=True)
class Actions:
    """What a request can set off.

    Attributes:
        save: Commits a checkpoint; False when there was nothing new to save.
        evaluate: Measures the model on held-out rows.
    """

    save: Callable[[], bool]
    evaluate: Callable[[], None]


class Lookout:
    """Reads the control log and the signal flag."""

    def __init__(
        self, events: EventLog, desk: RequestDesk, interrupt: Interrupt, state: TrainingState, actions: Actions
    ) -> None:
        self._events = events
        self._desk = desk
        self._interrupt = interrupt
        self._state = state
        self._actions = actions
        self._paused = desk.pause_asked
        self._next_poll = 0.0

    def before_micro_step(self) -> None:
        """Act on what was asked for; blocks while paused.

        Raises:
            StopRequested: The run is to stop.
        """
        self._interrupt.check()
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + POLL_EVERY_S
        self._answer_requests()
        if self._paused:
            self._wait_for_resume()

    def after_micro_step(self, loss: torch.Tensor) -> None:
        """Keep the micro-step's share of the loss for the check at the end of the step."""
        self._state.micro_losses.append(loss)

    def _wait_for_resume(self) -> None:
        with self._state.stopwatch.held():
            self._events.write("state.changed", state="paused", reason="a viewer asked for it")
            while self._paused:
                time.sleep(PAUSED_POLL_S)
                self._interrupt.check()
                self._answer_requests()
            self._events.write("state.changed", state="training", reason="resumed")

    def _answer_requests(self) -> None:
        for request in self._desk.take():
            _HANDLERS[request.action](self, request)

    def _pause(self, request: ControlRequest) -> None:
        self._desk.acknowledge(request, "already paused" if self._paused else f"paused after step {self._state.step}")
        self._paused = True

    def _resume(self, request: ControlRequest) -> None:
        self._desk.acknowledge(request, "resumed" if self._paused else "was not paused")
        self._paused = False

    def _checkpoint(self, request: ControlRequest) -> None:
        try:
            saved = self._actions.save()
        except ProblemError as error:
            self._desk.acknowledge(request, clean_line(error))
            return
        self._desk.acknowledge(
            request, f"step {self._state.step} " + ("is saved" if saved else "needs no new checkpoint")
        )

    def _evaluate(self, request: ControlRequest) -> None:
        self._desk.acknowledge(request, f"evaluating step {self._state.step}")
        self._actions.evaluate()

    def _stop(self, request: ControlRequest) -> None:
        self._desk.acknowledge(request, f"stopping after step {self._state.step}, saving first")
        raise StopRequested("a viewer asked to stop")

    def _kill(self, request: ControlRequest) -> None:
        self._desk.acknowledge(request, f"stopping after step {self._state.step} without saving")
        raise StopRequested("a viewer asked to kill the run", save=False)


_HANDLERS: dict[str, Callable[[Lookout, ControlRequest], None]] = {
    "pause": Lookout._pause,
    "resume": Lookout._resume,
    "checkpoint": Lookout._checkpoint,
    "evaluate": Lookout._evaluate,
    "stop": Lookout._stop,
    "kill": Lookout._kill,
}
