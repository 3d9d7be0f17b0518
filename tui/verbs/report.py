"""`ftwizard report`: the report of a run, written anew where it says less than the run's files, and how to see it."""

import getpass
import os
import shlex
import socket
import sys
import webbrowser
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import typer

from engine.helper import InspectionHelper
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory, find_run
from engine.runs.events import Event, decode_lines
from engine.runs.home import home_folders
from engine.text import clean_line
from tui.monitor.follower import RunFollower
from tui.summary import print_summary, read_report
from tui.verbs.output import print_json

_SAYS_NOTHING_NEW = frozenset({"report.written", "state.changed"})
"""What a run that ends writes behind its report."""
_TAIL_BYTES = 64 << 10


def report(run_name: str, *, open_page: bool, as_json: bool) -> int:
    """Show the report of a run, whatever became of it; write it first where it is missing or older than the run."""
    run = find_run(home_folders(), run_name)
    follower = RunFollower(run)
    follower.open()
    anew = not is_current(run, follower.state)
    if anew:
        _write(run, follower.state)
    if as_json:
        print_json(_content(run))
    else:
        _print(run, follower.state, anew=anew, alive=follower.status.alive)
    if open_page:
        _show_page(run.report_html_file)
    return 0


def is_current(run: RunDirectory, state: str) -> bool:
    """Return whether the report says all that the files of a run say.

    Args:
        run: The run.
        state: What has become of it.
    """
    files = (run.report_json_file, run.report_markdown_file, run.report_html_file)
    content = read_report(run)
    if content is None or content.get("state") != state or not all(file.is_file() for file in files):
        return False
    written = run.report_json_file.stat().st_mtime
    newest = [event.time for event in _last_events(run) if event.type not in _SAYS_NOTHING_NEW]
    return all(time <= written for time in newest)


def _last_events(run: RunDirectory) -> list[Event]:
    with run.events_file.open("rb") as log:
        start = max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES)
        log.seek(start)
        lines = log.read().split(b"\n")
    # The first line of a tail is most likely the end of one.
    events, _ = decode_lines([line for line in (lines[1:] if start else lines) if line])
    return events


def _write(run: RunDirectory, state: str) -> None:
    with closing(InspectionHelper()) as helper:
        helper.call_blocking("write_run_report", folder=str(run.path), state=state)


def _content(run: RunDirectory) -> dict[str, object]:
    content = read_report(run)
    if content is None:
        raise ProblemError(Problem("report.unreadable", f"{clean_line(run.report_json_file)} cannot be read."))
    return content


def _print(run: RunDirectory, state: str, *, anew: bool, alive: bool) -> None:
    typer.echo(f"Run       {clean_line(run.folder_name)}, {clean_line(state)}")
    typer.echo(f"Report    {'written anew from the files of the run' if anew else 'as the run has written it'}")
    if alive:
        typer.echo("          The run goes on; this is what is known so far.")
    print_summary(run)
    typer.echo()
    for kind, file in (("HTML", run.report_html_file), ("Markdown", run.report_markdown_file)):
        typer.echo(f"{kind:<10}{clean_line(file)}")
    typer.echo(f"{'JSON':<10}{clean_line(run.report_json_file)}")


def _show_page(page: Path) -> None:
    """Open a page in the browser; where there is none to be seen, say how to get the file."""
    why = why_unseen(os.environ, sys.platform)
    if not why and webbrowser.open(page.absolute().as_uri()):
        return
    typer.echo(f"{why or 'No browser could be started.'} To see the report on your own machine, type there:", err=True)
    typer.echo(f"  {clean_line(fetch_command(page, os.environ))}", err=True)


def why_unseen(environment: Mapping[str, str], platform: str) -> str:
    """Return why a browser that is started here would not be seen; empty where it would.

    Args:
        environment: Variables of the session.
        platform: As `sys.platform`.
    """
    if environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"):
        return "This is a session over SSH: a browser started here would not be seen."
    if platform == "linux" and not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")):
        return "There is no display here to open a browser on."
    return ""


def fetch_command(page: Path, environment: Mapping[str, str]) -> str:
    """Return the command that copies a file from this machine, typed on another one."""
    host, port = socket.gethostname(), "22"
    # Where the session came in; the name of this machine need not mean anything on the other side.
    connection = environment.get("SSH_CONNECTION", "").split()
    if len(connection) == 4:
        host, port = connection[2:]
    host = f"[{host}]" if ":" in host else host
    options = [] if port == "22" else ["-P", port]
    return shlex.join(["scp", *options, f"{getpass.getuser()}@{host}:{page.absolute()}", "."])
