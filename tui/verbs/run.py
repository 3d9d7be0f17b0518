"""`ftwizard run`, `attach` and `resume`: start a run or come back to one, and watch it."""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from engine.helper import InspectionHelper
from engine.recipe.problems import Problem, ProblemError, blocking
from engine.runs.directory import RunDirectory, create_run, find_run, run_folders
from engine.runs.events import encode_event
from engine.runs.home import home_folders
from engine.runs.listing import newest_live_run
from engine.text import clean_line
from tui.monitor.follower import RunFollower
from tui.plan_text import way_lines
from tui.preparation import Prepared, deepened, prepare, read_reference, worth_rehearsing
from tui.progress import exit_code_of, follow_plain
from tui.summary import print_summary, read_report
from tui.terminal import examine_terminal
from tui.verbs.output import EXIT_LEFT, print_json, print_problems

if TYPE_CHECKING:
    from engine.runs.launch import Standby

POLL_S = 0.25


def run(reference: str, changes: Sequence[str], *, detach: bool, plain: bool, as_json: bool) -> int:
    """Plan a recipe or preset, start its worker, and watch it to the end unless `detach`."""
    from engine.runs.launch import start_standby

    layered = read_reference(reference, changes)
    # The worker imports for some seconds; it does so while the plan is made.
    with start_standby() as standby:
        helper = InspectionHelper()
        try:
            prepared = prepare(layered, helper, reference=reference)
        finally:
            helper.close()
        if worth_rehearsing(prepared.plan):
            prepared = Prepared(prepared.layered, deepened(prepared.plan, _quiet if as_json else _say))
        if not as_json:
            print_problems(finding for finding in prepared.plan.findings if finding.severity != "error")
            _say_ways(prepared)
        _refuse_blocked(prepared)
        started = launch_prepared(prepared, standby)
    return _watch(started, detach=detach, plain=plain, as_json=as_json)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _quiet(_: str) -> None:
    """Say nothing: a script reads JSON."""


def _say_ways(prepared: Prepared) -> None:
    """Print the ways that make a plan fit, each with its price, where it does not."""
    if prepared.plan.ways:
        typer.echo("Ways to make it fit:", err=True)
    for line in way_lines(prepared.plan.ways):
        typer.echo(line, err=True)


def _refuse_blocked(prepared: Prepared) -> None:
    problems = [Problem(**finding.model_dump()) for finding in prepared.plan.findings]
    if errors := blocking(problems):
        raise ProblemError(*errors)


def launch_prepared(prepared: Prepared, standby: "Standby | None" = None) -> RunDirectory:
    """Create the run directory and start its worker."""
    from engine.recipe.read import dump_recipe
    from engine.runs.launch import launch

    created = create_run(home_folders(), dump_recipe(prepared.layered.tree), prepared.plan)
    launch(created, standby)
    return created


def attach(run_name: str | None, *, plain: bool, as_json: bool) -> int:
    """Watch a run: the one that is named, else the newest live one, else the newest."""
    return _watch(_run_to_watch(run_name), detach=False, plain=plain, as_json=as_json, every_event=True)


def _run_to_watch(run_name: str | None) -> RunDirectory:
    home = home_folders()
    if run_name is not None:
        return find_run(home, run_name)
    live = newest_live_run(home)
    if live is not None:
        return live
    runs = run_folders(home)
    if not runs:
        raise ProblemError(Problem("run.none", "There are no runs yet.", "Start one with `ftwizard`."))
    return runs[0]


def resume(run_name: str, *, detach: bool, plain: bool, as_json: bool) -> int:
    """Continue a stopped or crashed run and watch it."""
    from engine.runs.launch import resume as continue_run

    found = find_run(home_folders(), run_name)
    continue_run(found)
    return _watch(found, detach=detach, plain=plain, as_json=as_json, skip_past=True)


def _watch(
    watched: RunDirectory,
    *,
    detach: bool,
    plain: bool,
    as_json: bool,
    every_event: bool = False,
    skip_past: bool = False,
) -> int:
    if detach:
        return _say_started(watched, as_json=as_json)
    if as_json:
        return _watch_json(watched, every_event=every_event)
    if plain or not examine_terminal().screen:
        return watch_plain(watched, skip_past=skip_past)
    return _watch_screen(watched, leave_when_done=not every_event)


def _say_started(watched: RunDirectory, *, as_json: bool) -> int:
    if as_json:
        print_json({"run": watched.folder_name, "folder": str(watched.path)})
    else:
        typer.echo(f"Started {clean_line(watched.folder_name)}. Watch it with `ftwizard attach`.")
    return 0


def watch_plain(watched: RunDirectory, *, skip_past: bool = False) -> int:
    """Print progress lines until the run ends, then its result; ctrl+c leaves the run alone."""
    typer.echo(f"run {clean_line(watched.folder_name)}")
    try:
        code = follow_plain(watched.path, skip_past=skip_past)
    except KeyboardInterrupt:
        _say_left(watched)
        return EXIT_LEFT
    if code == 0:
        print_summary(watched)
    return code


def _say_left(watched: RunDirectory) -> None:
    name = clean_line(watched.reference)
    typer.echo(
        f"\nThe run goes on. `ftwizard attach {name}` comes back to it, `ftwizard stop {name}` ends it.", err=True
    )


def _watch_screen(watched: RunDirectory, *, leave_when_done: bool) -> int:
    from tui.app import run_app
    from tui.start import Monitor

    result = run_app(Monitor(watched.path, leave_when_done=leave_when_done))
    if result.exit_code:
        return result.exit_code
    follower = RunFollower(watched)
    follower.open()
    if not follower.ended:
        _say_left(watched)
        return 0
    if follower.status.state == "finished":
        print_summary(watched)
    return exit_code_of(follower)


def _watch_json(watched: RunDirectory, *, every_event: bool) -> int:
    """Wait for the end; print each event as a line, or one document with the outcome."""
    follower = RunFollower(watched)
    if every_event:
        follower.on_event = lambda event: typer.echo(encode_event(event).decode(), nl=False)
    try:
        while True:
            follower.poll()
            if follower.ended:
                follower.poll()
                break
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        _say_left(watched)
        return EXIT_LEFT
    code = exit_code_of(follower)
    if not every_event:
        outcome = {"run": watched.folder_name, "folder": str(watched.path), "state": follower.status.state}
        print_json({**outcome, "exit_code": code, "failure": follower.picture.failure, "report": read_report(watched)})
    else:
        typer.echo(json.dumps({"type": "watch.ended", "state": follower.status.state, "exit_code": code}))
    return code
