"""What `ftwizard chat` loads of a run or of a folder: which model, where, and whole models from their files."""

from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from engine.catalog.objectives import Head
from engine.models.heads import AUTO_CLASSES
from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory
from engine.text import clean_line

Which = Literal["auto", "merged", "adapter", "base"]


def place_of(plan: Plan, device: str | None) -> str:
    """Return where a model computes: as wished, else on the GPU when there is one and the run used it."""
    return device or ("cuda:0" if plan.device.kind == "cuda" and torch.cuda.is_available() else "cpu")


def choose(run: RunDirectory, which: Which) -> str:
    """Return what to load of a run: `merged`, `adapter` or `base`.

    Raises:
        ProblemError: The run has not left it.
    """
    folders = {"merged": run.merged_folder, "adapter": run.adapter_folder}
    there = [name for name, folder in folders.items() if folder.is_dir()]
    if which == "base":
        return which
    if which == "auto" and there:
        return there[0]
    if which in there:
        return which
    wanted = "model" if which == "auto" else f"{which} model"
    message = f"Run {clean_line(run.folder_name)} has left no {wanted} yet."
    raise ProblemError(Problem("chat.no_model", message, "Wait until it is finished, or `ftwizard resume` it."))


def load_whole(folder: Path, head: Head, device: str, *, trust: bool) -> PreTrainedModel:
    """Load a whole model from the safetensors files of a folder.

    Raises:
        ProblemError: It cannot be loaded.
    """
    try:
        model: PreTrainedModel = AUTO_CLASSES[head].from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=trust
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = clean_line(str(error).split("\n", 1)[0], max_chars=300)
        message = f"The model in {clean_line(folder)} cannot be loaded: {reason}"
        raise ProblemError(Problem("chat.not_loaded", message, "Export it again with `ftwizard resume`.")) from error
    if device == "cpu" and model.dtype == torch.float16:
        # Half precision is not implemented for every operation of a CPU, and slow for the others.
        model = model.float()
    return model.to(torch.device(device))
