"""What training needs to go on, written around the trainer and committed by the run's checkpoint store.

A checkpoint folder holds
    `weights.safetensors`: the parameters that learn (an adapter's only, or all of them);
    `state.safetensors`, `state.json`: optimizer, schedule, loss scaler, random generators, counters;
    `trainer_state.json`: the step, in the form that the trainer reads.
Nothing in it is pickle. The trainer itself never writes one.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engine.out_of_memory import is_out_of_memory
from engine.recipe.problems import Problem, ProblemError
from engine.runs.checkpoints import Checkpoint, CheckpointStore
from engine.runs.disk import disk_problem
from engine.text import clean_line
from engine.training.event_log import EventLog
from engine.training.random_state import restore_random_state
from engine.training.state_files import load_tree, save_tree
from engine.training.trainer import StepTrainer

WEIGHTS = "weights.safetensors"
STATE = "state"
TRAINER_STATE = "trainer_state.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far training has come.

    Attributes:
        step: Optimizer steps done.
        num_tokens: Tokens read by them, padding aside.
        elapsed_s: Training time of all attempts, in seconds.
        random_state: Generators as they stood after the step, before the next micro-batch drew from them.
        alarms: State of the alarms on the curve; empty in checkpoints that were made without.
    """

    step: int
    num_tokens: int
    elapsed_s: float
    random_state: dict[str, Any]
    alarms: dict[str, Any] = field(default_factory=dict)


class TrainingCheckpoints:
    """Saves and restores one trainer.

    Attributes:
        last_step: Step of the newest whole checkpoint; 0 when there is none.
    """

    def __init__(self, store: CheckpointStore, events: EventLog, trainer: StepTrainer) -> None:
        self._store = store
        self._events = events
        self._trainer = trainer
        # Now: gradual unfreezing holds weights back while training runs, and they are no less part of what is learnt.
        self._learnt = learnt_tensors(trainer.model)
        self.last_step = 0

    def save(self, progress: Progress) -> bool:
        """Commit a checkpoint; False when this step is on the disk already or nothing has been learnt yet.

        Raises:
            ProblemError: The checkpoint could not be written; the older ones are untouched.
        """
        if progress.step in (0, self.last_step):
            return False
        started = time.monotonic()
        staging = self._store.stage(progress.step)
        try:
            self._write(staging, progress)
        except Exception as error:
            self._store.discard(staging)
            problem = _write_problem(error, progress.step, staging.parent)
            if problem is None:
                raise
            raise ProblemError(problem) from error
        facts = {"num_tokens": progress.num_tokens, "elapsed_s": progress.elapsed_s}
        checkpoint = self._store.commit(staging, progress.step, facts)
        self.last_step = progress.step
        self._events.write(
            "checkpoint.committed",
            step=progress.step,
            folder=checkpoint.folder.name,
            bytes=checkpoint.num_bytes,
            elapsed_s=time.monotonic() - started,
        )
        self._store.prune()
        return True

    def load_weights(self, folder: str) -> None:
        """Put the learnt weights of a checkpoint into the model, bit for bit."""
        load_learnt_weights(self._learnt, Path(folder) / WEIGHTS)

    def load_state(self, checkpoint: Checkpoint) -> Progress:
        """Put back optimizer, schedule, scaler and random generators, and return the progress of the checkpoint."""
        progress = load_trainer_state(self._trainer, checkpoint.folder)
        self.last_step = checkpoint.step
        return progress

    def _write(self, folder: Path, progress: Progress) -> None:
        trainer = self._trainer
        scaler = trainer.accelerator.scaler
        save_learnt_weights(self._learnt, folder / WEIGHTS)
        tree = {
            "optimizer": trainer.optimizer.state_dict(),
            "schedule": trainer.lr_scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "progress": asdict(progress),
        }
        save_tree(folder, STATE, tree)
        trainer.state.save_to_json(str(folder / TRAINER_STATE))


def load_trainer_state(trainer: StepTrainer, folder: Path) -> Progress:
    """Put back what a checkpoint holds besides weights: optimizer, schedule, scaler and random generators."""
    state = load_tree(folder, STATE)
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.lr_scheduler.load_state_dict(state["schedule"])
    if state["scaler"] is not None and trainer.accelerator.scaler is not None:
        trainer.accelerator.scaler.load_state_dict(state["scaler"])
    restore_random_state(state["progress"]["random_state"])
    return Progress(**state["progress"])


def _write_problem(error: Exception, step: int, folder: Path) -> Problem | None:
    """Return why a checkpoint could not be written; None when that is a defect like any other."""
    action = f"save the checkpoint of step {step}"
    if is_out_of_memory(error):
        return Problem(
            "checkpoint.out_of_memory",
            f"There was not enough memory to {action}.",
            "Free host memory: what learns and its optimizer states pass through it on their way to the disk.",
        )
    if isinstance(error, OSError):
        return disk_problem(error, folder, action)
    if isinstance(error, SafetensorError):
        # safetensors reports faults of the disk in words only.
        return Problem(
            "disk.failed",
            f"Could not {action} in {clean_line(folder)}: {clean_line(error)}",
            "Look at the disk's free space.",
        )
    return None


def learnt_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that learn, by name; tied ones once. To be asked before training has begun."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_learnt_weights(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors, such as `learnt_tensors` of a model, as safetensors."""
    save_file({name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}, path)


def load_learnt_weights(own: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy a file of `save_learnt_weights` into the tensors of the same names.

    Raises:
        ProblemError: The file is not of this model and method.
    """
    stored = load_file(path)
    wrong = [name for name in own.keys() | stored.keys() if name not in own or name not in stored]
    wrong += [name for name in own.keys() & stored.keys() if own[name].shape != stored[name].shape]
    if wrong:
        raise ProblemError(
            Problem(
                "checkpoint.other_model",
                f"The checkpoint {path.parent.name} was made with another model or method: {len(wrong)} tensors "
                f"differ, such as {sorted(wrong)[0]}.",
                "Resume with the recipe and the base model that the run was started with.",
            )
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])
