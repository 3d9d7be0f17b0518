"""Runs as a person starts them, carried out in the test's process: planned, prepared, trained, measured, exported."""

from pathlib import Path
from typing import Any

from engine.data.profile import profile_data
from engine.models.hub import profile_model
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.recipe.read import check_recipe
from engine.recipe.sources import lay, unflatten
from engine.runs.checkpoints import CheckpointStore
from engine.runs.control import ControlReader
from engine.runs.directory import RunDirectory, create_run
from engine.runs.home import HomeFolders
from engine.runs.picture import PictureWriter
from engine.stages import Carried, prepare_context
from engine.training.batching import Batching
from engine.training.context import RunContext
from engine.training.event_log import EventLog
from engine.training.interrupt import Interrupt
from engine.training.requests import RequestDesk
from tests.engine.made_machine import machine_without_gpu

USUAL = {
    "training.effective_batch": 4,
    "training.max_steps": 4,
    "training.evaluate_every": 100,
    "training.checkpoint_every": 100,
    "evaluation.max_rows": 4,
    "data.held_out": 0.2,
}


def planned(folder: Path, values: dict[str, Any]) -> Plan:
    """Return the plan that a machine without a GPU makes of a recipe.

    Args:
        folder: Where runs would lie.
        values: `{recipe path: value}`, laid over `USUAL`.
    """
    home = home_in(folder)
    layered = lay(unflatten({path: value for path, value in (USUAL | values).items() if value is not None}))
    recipe = check_recipe(layered.tree, name="test")
    model = profile_model(recipe.model.base, recipe.model.revision)
    return make_plan(
        layered, machine_without_gpu(home.runs), model, profile_data(recipe, folder=model.folder), home=home
    )


def home_in(folder: Path) -> HomeFolders:
    """Return the folders of a person."""
    return HomeFolders(folder / "runs", folder / "cache", folder / "drafts")


def started(folder: Path, values: dict[str, Any]) -> RunDirectory:
    """Return the directory of a new run, as the front end leaves it."""
    plan = planned(folder, values)
    assert not plan.blocked, [finding.message for finding in plan.findings if finding.severity == "error"]
    return create_run(home_in(folder), "objective: chat\n", plan)


def context_of(run: RunDirectory, *, micro_batch: int | None = None) -> RunContext:
    """Return a run that is ready to be measured and trained; from its newest checkpoint, where it has one.

    Args:
        run: A run directory.
        micro_batch: Rows at once, in place of the plan's.
    """
    plan, interrupt = run.read_plan(), Interrupt()
    events = EventLog(PictureWriter(run), interrupt)
    store = CheckpointStore(run.checkpoints_folder, run.run_id, plan.recipe.training.keep_checkpoints)
    rows = micro_batch or plan.steps.micro_batch
    batching = Batching(rows, plan.recipe.training.effective_batch // rows)
    desk = RequestDesk(ControlReader(run), events)
    return prepare_context(Carried(run, plan, events, interrupt, desk, batching, store, store.newest_whole()))
