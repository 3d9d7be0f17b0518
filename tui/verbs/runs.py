"""`ftwizard runs`, `show` and `stop`: what there is, what it brought, and ending it."""

import os
import signal
import socket
import time
from typing import Any

import typer

from engine.recipe.problems import Problem, ProblemError
from engine.runs.best_words import best_sentence, early_end_sentence
from engine.runs.directory import find_run
from engine.runs.home import home_folders
from engine.runs.listing import RunSummary, list_runs
from engine.text import clean_line
from tui.monitor.follower import RunFollower
from tui.summary import print_summary, read_report
from tui.verbs.output import EXIT_FAILED, print_json, print_table

STOP_WAIT_S = 600.0
_POLL_S = 0.2


def runs(*, as_json: bool) -> int:
    """List all runs, the newest first."""
    found = list_runs(home_folders())
    if as_json:
        print_json([_summary_json(summary) for summary in found])
        return 0
    if not found:
        typer.echo("There are no runs yet. Start one with `ftwizard`, or try `ftwizard run quickstart`.")
        return 0
    rows = [(s.run.folder_name, s.state, _steps(s), _loss(s.loss), _loss(s.eval_loss), s.method) for s in found]
    print_table(("Run", "State", "Steps", "Loss", "Held-out", "Method"), rows, right=(2, 3, 4))
    return 0


def _summary_json(summary: RunSummary) -> dict[str, object]:
    names = ("run_id", "name", "state", "alive", "created_time", "objective", "base", "method")
    numbers = ("step", "total_steps", "loss", "eval_loss", "exit_code", "damage")
    return {"folder": str(summary.run.path), **{name: getattr(summary, name) for name in (*names, *numbers)}}


def _steps(summary: RunSummary) -> str:
    return f"{summary.step}/{summary.total_steps}" if summary.total_steps else ""


def _loss(value: float | None) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def show(run_name: str, *, as_json: bool) -> int:
    """Show the plan in short, the state and the result of one run."""
    from tui.plan_text import plan_lines

    run = find_run(home_folders(), run_name)
    follower = RunFollower(run)
    follower.open()
    plan, picture = run.read_plan(), follower.picture
    if as_json:
        status = follower.status
        print_json(
            {
                "run": run.folder_name,
                "folder": str(run.path),
                "state": follower.state,
                "alive": status.alive,
                "exit_code": status.exit_code,
                "step": picture.step,
                "total_steps": picture.total_steps,
                "best": picture.best,
                "restored": picture.restored,
                "ended_early": picture.ended_early,
                "failure": picture.failure,
                "alarms": picture.alarms,
                "preflight": picture.preflight,
                "recipe": plan.recipe.model_dump(mode="json"),
                "report": read_report(run),
            }
        )
        return 0
    typer.echo(f"Run      {clean_line(run.folder_name)}")
    typer.echo(f"Folder   {clean_line(run.path)}")
    progress = f", step {picture.step} of {picture.total_steps}" if picture.total_steps else ""
    typer.echo(f"State    {clean_line(follower.state)}{progress}")
    for alarm in picture.alarms.values():
        typer.echo(f"Alarm    {clean_line(alarm['message'])}")
    for line in plan_lines(plan, command=("ftwizard", "run", str(run.recipe_file))):
        typer.echo(line)
    _print_checks(picture.preflight)
    for title, sentence in (("Ended", early_end_sentence(picture)), ("Best", best_sentence(picture))):
        if sentence:
            typer.echo(f"{title:<9}{sentence}")
    if picture.failure is not None:
        typer.echo(
            f"Failed   {clean_line(picture.failure.get('message'))} {clean_line(picture.failure.get('fix') or '')}"
        )
    if follower.status.state == "crashed":
        typer.echo(f"Crashed  {clean_line(follower.status.reason)}")
        for line in follower.status.last_log_lines:
            typer.echo(f"         {line}")
    if read_report(run) is not None:
        print_summary(run)
    return 0


def _print_checks(checks: list[dict[str, Any]]) -> None:
    """Print what was checked before the first step, each with what it found where that is something."""
    if not checks:
        return
    from engine.planning.profiles import PreflightCheck
    from tui.verbs.data_text import preflight_lines

    typer.echo("\nChecked before the first step")
    for line in preflight_lines([PreflightCheck.model_validate(check) for check in checks]):
        typer.echo(line)
    typer.echo()


def stop(run_name: str, *, kill: bool, as_json: bool) -> int:
    """Ask a run to save and stop, or kill it, and come back once the end is verified."""
    from engine.runs.control import request
    from engine.runs.liveness import is_alive, status, terminate

    run = find_run(home_folders(), run_name)
    if not is_alive(run):
        state = status(run).state
        problem = Problem("run.not_alive", f"Run {clean_line(run.folder_name)} is {state}; no worker is at work.")
        raise ProblemError(problem)
    if kill:
        ended = terminate(run, signal.SIGKILL)
    else:
        request(run, "stop", f"{os.getpid()}@{socket.gethostname()}")
        if not as_json:
            typer.echo("Asked the run to save and stop ...")
        deadline = time.monotonic() + STOP_WAIT_S
        while is_alive(run) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        ended = not is_alive(run)
    state = status(run).state
    if as_json:
        print_json({"run": run.folder_name, "ended": ended, "state": state})
    elif ended:
        typer.echo(f"{clean_line(run.folder_name)} is {state}. `ftwizard resume {clean_line(run.reference)}` goes on.")
    else:
        typer.echo(
            f"The worker has not ended yet; `ftwizard stop --kill {clean_line(run.reference)}` ends it without saving.",
            err=True,
        )
    return 0 if ended else EXIT_FAILED
