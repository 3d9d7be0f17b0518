"""What a run teaches about its machine: written to the calibration store, where the next plan reads it."""

from functools import cached_property
from pathlib import Path

from engine.hardware.probe import read_hardware
from engine.planning import calibration_store
from engine.planning.calibration import Calibration, MachineKey, machine_key
from engine.planning.case import setup_of
from engine.planning.duration import reached_flops
from engine.planning.plan import Device
from engine.recipe.problems import ProblemError
from engine.runs.home import home_folders
from engine.runs.picture import Picture, open_picture
from engine.training.context import RunContext
from engine.training.event_log import EventLog

MIN_STEPS = 8
"""Fewer steps than this say little of the speed: the first ones pay for warm-up."""
MIN_TIME_S = 3.0


class MachineLog:
    """The calibration of the run's machine: read before a probe, added to by probe and run.

    A store that cannot be written costs a note, never a run.

    Args:
        device: Where the run computes.
        events: The run's event log.
        cache: Cache folder; the user's when None.
    """

    def __init__(self, device: Device, events: EventLog, cache: Path | None = None) -> None:
        self._device = device
        self._events = events
        self._cache = home_folders().cache if cache is None else cache

    @cached_property
    def key(self) -> MachineKey:
        """What measurements hold for; asks the driver once."""
        return machine_key(read_hardware(folders=[], patient=True), self._device)

    def known(self) -> Calibration | None:
        """Return what was measured before."""
        return calibration_store.read(self._cache, self.key)

    def learn(
        self,
        *,
        context_bytes: int | None = None,
        memory_ratio: float | None = None,
        flops: dict[str, float] | None = None,
    ) -> None:
        """Add measurements; nothing to do when all of them are missing."""
        if context_bytes is None and memory_ratio is None and not flops:
            return
        try:
            calibration_store.record(
                self._cache, self.key, context_bytes=context_bytes, memory_ratio=memory_ratio, flops=flops
            )
        except ProblemError as error:
            for problem in error.problems:
                self._events.write("notice.raised", severity="note", code=problem.code, message=problem.sentence())


def learn_from_run(context: RunContext) -> None:
    """Keep the speed that training reached, and on a GPU how far the rehearsed peak was off."""
    picture, _ = open_picture(context.run)
    MachineLog(context.plan.device, context.events).learn(
        memory_ratio=run_ratio(context, picture), flops=measured_flops(context, picture)
    )


def run_ratio(context: RunContext, picture: Picture) -> float | None:
    """Return measured over rehearsed peak of tensors in training; None where nothing can be compared, or the probe did.

    Of training alone: what evaluation and merging take is decided anew on the machine.
    """
    memory, measured = context.plan.memory, context.memory.tensor_peaks.get("training")
    rehearsed = memory.peaks.get("training")
    if picture.probed.get("ratio") is not None or memory.depth != "simulated" or not rehearsed:
        return None
    if not measured or context.batching.micro_batch != context.plan.steps.micro_batch:
        return None
    return measured / rehearsed


def measured_flops(context: RunContext, picture: Picture) -> dict[str, float] | None:
    """Return `{precision: rate}` of the newest steps of a run; None when there are too few to tell.

    Args:
        context: The run, trained.
        picture: Its newest steps with their times are read.
    """
    window, order = list(picture.speed_window), context.order
    if context.task.signal == "prompts":
        # Most of the time goes into writing, which says nothing of the rate of training.
        return None
    if context.batching.num_gpus > 1:
        # The rate is that of one device, and what the links take of it is not known.
        return None
    if order is None or len(window) < MIN_STEPS:
        return None
    # The first step of an attempt pays for warm-up.
    (first, first_s), (last, last_s) = window[1], window[-1]
    steps, elapsed_s = last - first, last_s - first_s
    if steps < 1 or elapsed_s < MIN_TIME_S:
        return None
    # Steps of events count from 1, those of the order from 0: the one that ended at `last` is `last - 1`.
    tokens = sum(order.padded_tokens_of_step(step) for step in range(first, last))
    rate = reached_flops(
        context.plan.model,
        setup_of(context.plan),
        tokens_per_step=tokens / steps,
        accumulation=context.batching.accumulation,
        step_s=elapsed_s / steps,
    )
    return None if rate is None else {context.recipe.training.precision or "float32": rate}
