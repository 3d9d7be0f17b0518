"""Reward models that a run asks: where they lie today, and why they cannot be had."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.catalog.objectives import find_objective
from engine.planning.profiles import Finding
from engine.planning.settings import Settings
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.sources import flatten
from engine.runs.directory import RunDirectory, is_run
from engine.runs.references import PREFIX, settled
from engine.text import clean_line


def settle_judge(settings: Settings, path: str) -> None:
    """Write down the place of a reward model as it stands today: by tomorrow `run:latest` is another run.

    Args:
        settings: The settings of a plan.
        path: Recipe path that names the model.
    """
    if settings.is_set(path):
        with suppress(ProblemError):
            # What is not there is a finding of the plan.
            settings.pin(path, settled(settings[path], path))


def judge_of(values: Mapping[str, Any]) -> tuple[str, str]:
    """Return the recipe path that names the reward model of a run, and what it names; two empty texts without one.

    Args:
        values: `{recipe path: value}`.
    """
    signal = find_objective(values["objective"]).signal
    if signal == "prompts" and "model" in values["reinforcement.rewards"]:
        return "reinforcement.reward_model", values["reinforcement.reward_model"] or ""
    if signal == "preferences":
        return "preference.judge", values["preference.judge"] or ""
    return "", ""


def judge_findings(recipe: Recipe) -> Iterator[Finding]:
    """Yield why the reward model of a run cannot be had, or is none."""
    path, named = judge_of(flatten(recipe.model_dump(mode="json")))
    if not named:
        return
    try:
        place = settled(named, path)
    except ProblemError as error:
        for problem in error.problems:
            yield Finding(code=problem.code, message=problem.message, fix=problem.fix, path=path)
        return
    run = RunDirectory(Path(place.removeprefix(PREFIX)))
    if is_run(run):
        yield from _run_findings(run, path)


def _run_findings(run: RunDirectory, path: str) -> Iterator[Finding]:
    name = clean_line(run.folder_name, max_chars=120)
    try:
        recipe = run.read_plan().recipe
    except ProblemError as error:
        for problem in error.problems:
            yield Finding(code=problem.code, message=problem.message, fix=problem.fix, path=path)
        return
    if recipe.goal.signal != "rewards":
        message = f"The run {name} has the objective {recipe.objective}, and gives no rewards."
        fix = "Name a run of the objective reward-model, or a folder with such a model."
        yield Finding(code="reward.no_reward_model", message=message, fix=fix, path=path)
    elif not run.merged_folder.is_dir() and not run.adapter_folder.is_dir():
        message = f"The run {name} has left no model yet."
        fix = f"Wait until it is finished, or `ftwizard resume {run.reference}`."
        yield Finding(code="run.no_model", message=message, fix=fix, path=path)
