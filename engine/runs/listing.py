"""The list of runs: one line each, tolerant of runs that are damaged."""

import contextlib
from dataclasses import dataclass
from typing import Any

from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory, run_folders
from engine.runs.home import HomeFolders
from engine.runs.liveness import derive_state, is_alive, look_for_end
from engine.runs.picture import read_head
from engine.text import clean_line


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the list of runs.

    Attributes:
        run: The directory.
        run_id: Name of the folder, as verbs take it.
        state: As in `liveness.RunStatus`, or `damaged`.
        alive: A worker holds the lock.
        created_time: Unix seconds; None when unknown.
        loss: Newest training loss; None before the first step.
        eval_loss: Newest evaluation loss.
        damage: What is wrong with the files; empty for a whole run.
    """

    run: RunDirectory
    run_id: str
    name: str
    state: str
    alive: bool
    created_time: float | None = None
    objective: str = ""
    base: str = ""
    method: str = ""
    step: int = 0
    total_steps: int | None = None
    loss: float | None = None
    eval_loss: float | None = None
    exit_code: int | None = None
    damage: str = ""


def list_runs(home: HomeFolders) -> list[RunSummary]:
    """Return all runs, the newest first; damaged ones are listed as such."""
    return [summarize(run) for run in run_folders(home)]


def newest_live_run(home: HomeFolders) -> RunDirectory | None:
    """Return the newest run whose worker is alive; None when none is."""
    for run in run_folders(home):
        # A run whose lock cannot be looked at hides no other; the list shows it as damaged.
        with contextlib.suppress(ProblemError):
            if is_alive(run):
                return run
    return None


def summarize(run: RunDirectory) -> RunSummary:
    """Return the line of one run; reads a few kilobytes, whatever the length of its log."""
    try:
        head = read_head(run)
        alive, exit_record = look_for_end(run)
    except (OSError, ProblemError) as error:
        damage = clean_line(error, max_chars=200)
        return RunSummary(run, run.folder_name, run.folder_name, "damaged", False, damage=damage)
    damage = _damage(run, head)
    state = derive_state(head.get("state", "created"), int(head.get("attempts", 0)), alive, exit_record)
    return RunSummary(
        run=run,
        run_id=run.folder_name,
        name=str(head.get("name") or run.folder_name),
        state="damaged" if damage and not alive else state,
        alive=alive,
        created_time=head.get("created_time"),
        objective=str(head.get("objective") or ""),
        base=str(head.get("base") or ""),
        method=str(head.get("method") or ""),
        step=int(head.get("step") or 0),
        total_steps=head.get("total_steps"),
        loss=head.get("loss"),
        eval_loss=head.get("eval_loss"),
        exit_code=exit_record.exit_code if exit_record else None,
        damage=damage,
    )


def _damage(run: RunDirectory, head: dict[str, Any]) -> str:
    if not run.events_file.exists():
        return "events.jsonl is missing"
    if not head.get("created_time"):
        return "events.jsonl does not begin with run.created"
    try:
        with run.plan_file.open("rb") as file:
            plan = file.read(1)
    except OSError as error:
        return f"plan.json: {clean_line(error.strerror)}"
    return "" if plan == b"{" else "plan.json is not a plan"
