"""Whole runs of any objective for tests: planned by the planner on a made machine, carried by a forked worker."""

from pathlib import Path
from typing import Any

from engine.data.profile import profile_data
from engine.planning.model_profile import read_model_profile
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.recipe.read import check_recipe, dump_recipe
from engine.recipe.sources import flatten, lay, unflatten
from engine.runs.directory import RunDirectory, create_run
from engine.runs.home import HomeFolders
from tests.engine.forked import DEADLINE_S, carry
from tests.engine.made_machine import machine_without_gpu


def planned(tree: dict[str, Any], home: Path, **flat: Any) -> tuple[RunDirectory, Plan]:
    """Return a run that waits for its worker, and its plan.

    Args:
        tree: A recipe as a person writes it.
        home: A folder of its own for this run.
        flat: Further settings, dots as double underscores: `training__max_steps=4`.
    """
    changes = {path.replace("__", "."): value for path, value in flat.items()}
    layered = lay(unflatten({**flatten(tree), **changes}))
    recipe = check_recipe(layered.tree, name="recipe")
    model = read_model_profile(recipe.model.base)
    data = profile_data(recipe, folder=model.folder)
    folders = HomeFolders(home / "runs", home / "cache", home / "drafts")
    plan = make_plan(layered, machine_without_gpu(home), model, data, home=folders)
    return create_run(folders, dump_recipe(layered.tree), plan), plan


def finished(
    tree: dict[str, Any], home: Path, deadline_s: float = DEADLINE_S, **flat: Any
) -> tuple[RunDirectory, Plan]:
    """Return a run that was carried to its end, and its plan."""
    run, plan = planned(tree, home, **flat)
    assert not plan.blocked, [finding.message for finding in plan.findings if finding.severity == "error"]
    assert carry(run, deadline_s=deadline_s) == 0, run.log_file.read_text(encoding="utf-8")
    return run, plan
