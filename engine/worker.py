"""Carries one run through its stages: `python -P -m engine.worker RUN_DIR`, or `--standby` to import first and wait.

Exit codes: 0 done, 1 failed, 2 the person's doing, 75 interrupted and resumable. `exit.json` is the last act; a worker
that ends without it has crashed.
"""

import contextlib
import faulthandler
import logging
import os
import socket
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from engine.hardware.host import read_host
from engine.out_of_memory import is_out_of_memory
from engine.recipe.problems import Problem, ProblemError
from engine.runs.checkpoints import CheckpointStore
from engine.runs.control import ControlReader
from engine.runs.directory import RunDirectory
from engine.runs.liveness import Lock, acquire, adopt, write_exit
from engine.runs.picture import PictureWriter
from engine.runs.standby import wait_for_run
from engine.text import clean_line
from engine.tracking.services import wanted
from engine.tracking.tensorboard import TensorBoardFiles
from engine.training.batching import Batching, shared_by
from engine.training.event_log import EventLog
from engine.training.interrupt import EXIT_INTERRUPTED, Interrupt, StopRequested
from engine.training.recovery import RESTART_VARIABLE, Attempts, begin_attempt, decide, going_on, restart_process
from engine.training.requests import RequestDesk

if TYPE_CHECKING:
    from engine.planning.plan import Plan
    from engine.training.faults import Fault

USAGE = "usage: python -P -m engine.worker (RUN_DIR | --standby)\n"
PERSONS_DOING = ("recipe.", "plan.", "data.", "model.", "method.", "tokenizer.", "template.", "delivery.", "run.")
"""Codes of problems that a person's input causes; all others are exit code 1."""
ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
"""Names under which PyTorch reads the settings of its allocator."""


def main(argv: list[str] | None = None) -> int:
    """Carry a run and return the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    faulthandler.enable()
    set_environment()
    if arguments == ["--standby"]:
        if choice_can_wait():
            import engine.stages  # noqa: F401 - warmed while the person still answers questions

        run = wait_for_run()
        return 0 if run is None else carry(run, standby=True)
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(USAGE)
        return 2
    return carry(RunDirectory(Path(arguments[0]).absolute()), standby=False)


def set_environment() -> None:
    """Set what libraries read when they are imported; what the person has set stays."""
    threads = str(read_host().cores)
    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # Rows are tokenised on all cores. Nothing here forks afterwards, which is what the library warns of.
        "TOKENIZERS_PARALLELISM": "true",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "OMP_NUM_THREADS": threads,
        # Threads that wait spin for long by default. Beside any other busy process a small model then trains at a tenth
        # of its speed: 1.5 steps a second against 16 with this, on 2 cores with load 3.
        "GOMP_SPINCOUNT": "1000",
        # The numbering of the plan is NVML's.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }.items():
        os.environ.setdefault(name, value)
    choose_allocator()
    # It warns at import about kernels that it would fetch from the hub.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # PEFT 0.21.2 asks models by a name that transformers 5.23 has deprecated; neither is the person's to change.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def choose_allocator(platform: str = sys.platform) -> None:
    """Let CUDA's allocator grow its pieces of memory, which keeps rows of many lengths from fragmenting it.

    Linux only, and not where the person has set the allocator up under any of its names: CUDA's own name wins over
    the general one in one part of PyTorch and loses in another, so that setting both would mix two wishes.
    """
    if platform == "linux" and not any(name in os.environ for name in ALLOCATOR_VARIABLES):
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"


def carry(run: RunDirectory, *, standby: bool) -> int:
    """Hold the run's lock, carry the run, and write how it ended."""
    held = os.environ.pop(RESTART_VARIABLE, None)
    try:
        lock = acquire(run) if held is None else adopt(run, int(held))
    except ProblemError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    interrupt = Interrupt()
    interrupt.install()
    ending = _Ending(run, lock, interrupt, restarted=held is not None)
    try:
        ending.open()
        _carry(ending, standby=standby)
    except StopRequested as stop:
        return ending.end("stopped", EXIT_INTERRUPTED, f"Stopped: {stop.reason}. `resume` goes on from here.")
    except ProblemError as error:
        return ending.fail(error.problems, error)
    except Exception as error:
        return ending.fail((_unexpected(error),), error)
    return ending.end("finished", 0, "")


def _carry(ending: "_Ending", *, standby: bool) -> None:
    run, events = ending.run, ending.events
    plan = run.read_plan()
    events.follow({"tensorboard": lambda: TensorBoardFiles(run), **wanted(plan.recipe, run.run_id)})
    choose_device(plan)
    store = CheckpointStore(run.checkpoints_folder, run.run_id, plan.recipe.training.keep_checkpoints)
    checkpoint = store.newest_whole()
    attempts, batching = _begin(run, plan, restarted=ending.restarted)
    events.write(
        "worker.started",
        pid=os.getpid(),
        host=socket.gethostname(),
        device=plan.device.name,
        attempt=attempts.count,
        resumed_from=None if checkpoint is None else checkpoint.step,
        standby=standby,
    )
    for rejected in store.rejected:
        events.write("checkpoint.rejected", folder=rejected.folder.name, reason=rejected.reason)
    desk = ending.desk = RequestDesk(ControlReader(run), events)

    from engine.stages import Carried, carry_through
    from engine.training.run import TrainingFaultError

    carried = Carried(run, plan, events, ending.interrupt, desk, batching, store, checkpoint, attempts)
    try:
        with contextlib.closing(carried.ranks):
            carry_through(carried)
    except TrainingFaultError as error:
        _recover(ending, attempts, error.fault, plan)


def choice_can_wait(driver_folder: Path = Path("/proc/driver/nvidia/gpus")) -> bool:
    """Return whether the device may be chosen after the imports: some of them wake CUDA, which then reads no variable.

    With one GPU at most there is nothing to choose between.
    """
    return not driver_folder.is_dir() or len(list(driver_folder.iterdir())) <= 1


def choose_device(plan: "Plan") -> None:
    """Make the plan's device the only one that CUDA shows.

    The plan has honoured the person's own CUDA_VISIBLE_DEVICES. The variable is set all the same: with several cards in
    it the trainer would spread the batch over all of them, and CUDA numbers cards by speed where the plan's index is
    NVML's, by bus.
    """
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    cuda = plan.device.uuid or str(plan.device.index)
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if plan.device.kind == "cpu" else cuda


class _Ending:
    """The last acts of a worker, whatever brought it there."""

    def __init__(self, run: RunDirectory, lock: Lock, interrupt: Interrupt, *, restarted: bool) -> None:
        self.run = run
        self.lock = lock
        self.interrupt = interrupt
        self.restarted = restarted
        self.desk: RequestDesk | None = None
        self._events: EventLog | None = None

    @property
    def events(self) -> EventLog:
        """The open event log."""
        if self._events is None:
            raise RuntimeError("the event log is not open")
        return self._events

    def open(self) -> None:
        """Open the event log."""
        self._events = EventLog(PictureWriter(self.run), self.interrupt)

    def fail(self, problems: tuple[Problem, ...], error: BaseException) -> int:
        """Say in plain words what went wrong; the traceback goes to the log only."""
        traceback.print_exception(error)
        persons = all(problem.code.startswith(PERSONS_DOING) for problem in problems)
        if self._events is not None:
            for problem in problems:
                self._events.write(
                    "worker.failed", code=problem.code, message=problem.message, fix=problem.fix, where=problem.path
                )
        return self.end("failed", 2 if persons else 1, problems[0].sentence())

    def end(self, state: str, exit_code: int, reason: str) -> int:
        """Write the last events and, last of all, the exit status."""
        if self._events is not None:
            if self.desk is not None:
                self.desk.close(state)
            self._events.end_tracking()
            self._events.write("state.changed", state=state, reason=reason)
            self._events.write("run.ended", state=state, exit_code=exit_code)
            self._events.close()
        try:
            write_exit(self.run, state, exit_code, reason)
        except OSError as error:
            # Without it the run shows as crashed, with the end of this log.
            why = clean_line(error.strerror or error)
            sys.stderr.write(
                f"{clean_line(reason)} The exit status could not be written ({why}). Free some space, then resume.\n"
            )
        self.lock.release()
        return exit_code


def _begin(run: RunDirectory, plan: "Plan", *, restarted: bool) -> tuple[Attempts, Batching]:
    attempts, planned = begin_attempt(run, restarted=restarted), planned_batching(plan)
    if attempts.batching is not None and not attempts.faults:
        # A person starts or resumes it, who has seen why GPUs were left out.
        effective_batch = plan.recipe.training.effective_batch
        attempts.batching = shared_by(attempts.batching, planned.num_gpus, effective_batch)
    return attempts, attempts.batching or planned


def planned_batching(plan: "Plan") -> Batching:
    """Return how the plan cuts a step."""
    return Batching(plan.steps.micro_batch, plan.steps.accumulation, plan.steps.num_gpus)


def _recover(ending: "_Ending", attempts: Attempts, fault: "Fault", plan: "Plan") -> None:
    """Go on in a fresh process, or raise what stands in the way."""
    before = attempts.batching or planned_batching(plan)
    batching = decide(fault, attempts, before, plan.recipe.training.effective_batch)
    attempts.save(ending.run)
    message = going_on(fault, before, batching)
    ending.events.write("notice.raised", severity="warning", code=f"training.{fault.kind}", message=message)
    ending.interrupt.hold_for_next_program()
    ending.events.close()
    restart_process(ending.run, ending.lock)


def _unexpected(error: Exception) -> Problem:
    """Return a failure that no stage has put into words."""
    text = clean_line(str(error).strip().split("\n")[0], max_chars=300)
    sentence = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if is_out_of_memory(error):
        return Problem(
            "worker.out_of_memory",
            f"Out of memory outside the training steps ({text or sentence}).",
            "Free memory and resume; or start a new run with QLoRA or a smaller base model.",
        )
    return Problem("worker.unexpected", f"The worker failed with {sentence}.", "The whole story is in worker.log.")


if __name__ == "__main__":
    raise SystemExit(main())
