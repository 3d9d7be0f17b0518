"""Finished runs as the start of others: `run:ID` stands for the model that a run has left."""

import os
import shlex
from pathlib import Path, PurePath
from typing import NamedTuple

from engine.paths import typed_path
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory, find_run, is_run, plain_name
from engine.runs.home import home_folders
from engine.text import clean_line

PREFIX = "run:"


class RunModel(NamedTuple):
    """The model that a run has left.

    Attributes:
        run: The run.
        folder: The whole model, with its tokenizer.
    """

    run: RunDirectory
    folder: Path

    @property
    def reference(self) -> str:
        """What names the run for good, where `run:latest` or a part of an id was typed."""
        return reference_to(self.run)


def reference_to(run: RunDirectory) -> str:
    """Return `run:` and what finds a run from any folder: its name, or its path where it lies outside the runs."""
    inside = run.path.parent == home_folders().runs
    return f"{PREFIX}{run.folder_name if inside else run.path.absolute()}"


def base_words(base: str) -> str:
    """Return a base model in a word: the name of a folder or hub model, of a run's model that of the run.

    Args:
        base: As a recipe or a plan says it.
    """
    path = PurePath(base.removeprefix(PREFIX))
    left = RunDirectory(Path(*path.parts[:-2])).merged_folder == Path(path)
    return plain_name(path.parent.parent.name if left else path.name) or base


def is_run_reference(base: str) -> bool:
    """Return whether a base model is said as the result of a run."""
    return base.startswith(PREFIX)


def settled(reference: str, path: str) -> str:
    """Return what a folder, `run:ID` or the name of a run stands for today: an absolute path.

    The worker of a run starts in another folder, and by then `run:latest` is that run itself.

    Args:
        reference: As a person typed it.
        path: Recipe path that says so, for errors.

    Raises:
        ProblemError: There is no such run or folder.
    """
    if is_run_reference(reference):
        run = find_run(home_folders(), reference.removeprefix(PREFIX))
        return f"{PREFIX}{run.path}"
    folder = typed_path(reference).absolute()
    if not folder.is_dir():
        if named := _run_called(reference):
            return f"{PREFIX}{named.path}"
        message = f"There is no folder {clean_line(reference, max_chars=160)}."
        raise ProblemError(Problem("model.folder_missing", message, "Check the path, or name run:ID.", path))
    return str(folder)


def _run_called(name: str) -> RunDirectory | None:
    if not name or os.sep in name:
        return None
    try:
        return find_run(home_folders(), name)
    except ProblemError:
        return None


def weights_bytes(reference: str) -> int:
    """Return the size of the weights that a folder or `run:ID` holds; 0 when there is none to be found.

    An adapter that a run has left alone counts with the base model that it is put on.
    """
    try:
        place = settled(reference, "")
    except ProblemError:
        return 0
    folder = Path(place.removeprefix(PREFIX))
    run = RunDirectory(folder)
    if not is_run(run):
        return _files_bytes(folder)
    if run.merged_folder.is_dir():
        return _files_bytes(run.merged_folder)
    try:
        return _files_bytes(run.adapter_folder) + run.read_plan().model.weights_bytes
    except ProblemError:
        return 0


def _files_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def run_model(base: str, path: str = "model.base") -> RunModel:
    """Return the model that `run:ID` stands for.

    Args:
        base: `run:` and an id, a part of one that fits a single run, a path, or `latest`.
        path: Recipe path that says so, for errors.

    Raises:
        ProblemError: There is no such run, it is not finished, or it has left an adapter alone.
    """
    run = find_run(home_folders(), base.removeprefix(PREFIX))
    if (run.merged_folder / "config.json").is_file():
        return RunModel(run, run.merged_folder)
    name = clean_line(run.folder_name, max_chars=120)
    if (run.adapter_folder / "adapter_config.json").is_file():
        message = f"The run {name} has left an adapter alone, and a run starts from a whole model."
        command = f"python -P -m engine.deployment.merge_later {shlex.quote(str(run.path))}"
        fix = f"Write the whole model first: `{command}`; or train it with delivery.merge true."
        raise ProblemError(Problem("run.no_whole_model", message, fix, path))
    message = f"The run {name} has left no model yet."
    fix = f"Wait until it is finished, or `ftwizard resume {run.reference}`."
    raise ProblemError(Problem("run.no_model", message, fix, path))
