"""The run directory: made whole or not at all, found by id, prefix, path or `latest`."""

import os
import re
import secrets
import shlex
import shutil
import time
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from engine.recipe.problems import Problem, ProblemError
from engine.runs.disk import disk_problem, private_folder, sync_folder, write_new
from engine.runs.events import Event, decode_lines, encode_event
from engine.runs.home import HomeFolders, home_folders
from engine.text import clean_line

if TYPE_CHECKING:
    from engine.planning.plan import Plan

_STAGED_PREFIX = ".new-"
_STALE_STAGING_S = 24 * 3600
# No 0/o, 1/l/i: ids are read aloud and typed.
_SUFFIX_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_MAX_SLUG_CHARS = 40
_STAMP = "%Y%m%d-%H%M%S"
_STAMPED_NAME = re.compile(r"\d{8}-\d{6}-")
_WHOLE_NAME = re.compile(rf"\d{{8}}-\d{{6}}-(.+)-[{_SUFFIX_LETTERS}]{{4}}")


def plain_name(folder_name: str) -> str:
    """Return the name of a run's folder without the time in front and the letters behind; others as they are."""
    found = _WHOLE_NAME.fullmatch(folder_name)
    return found[1] if found else folder_name


@dataclass(frozen=True)
class RunDirectory:
    """Paths inside one run; touching none of them."""

    path: Path

    @property
    def folder_name(self) -> str:
        """Name that people give to verbs; the run id unless the folder was renamed."""
        return self.path.name

    @property
    def reference(self) -> str:
        """What a verb finds this run by, quoted for a shell: its name, or its path where it lies outside the runs."""
        inside = self.path.parent == home_folders().runs
        return shlex.quote(self.folder_name if inside else str(self.path))

    @property
    def run_id(self) -> str:
        """Id that the run was created with, also after its folder was copied to another name."""
        created = self.read_created()
        recorded = created.payload.get("run_id") if created else None
        return str(recorded) if recorded else self.path.name

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def control_file(self) -> Path:
        return self.path / "control.jsonl"

    @property
    def picture_file(self) -> Path:
        return self.path / "picture.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "run.lock"

    @property
    def log_file(self) -> Path:
        return self.path / "worker.log"

    @property
    def exit_file(self) -> Path:
        return self.path / "exit.json"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def data_folder(self) -> Path:
        return self.path / "data"

    @property
    def train_file(self) -> Path:
        return self.data_folder / "train.jsonl"

    @property
    def test_file(self) -> Path:
        """Rows put aside, which the run never reads; there only where the recipe asks for them."""
        return self.data_folder / "test.jsonl"

    @property
    def held_out_file(self) -> Path:
        return self.data_folder / "held_out.jsonl"

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    @property
    def references_file(self) -> Path:
        """What the untouched model makes of the rows, for losses that compare with it."""
        return self.path / "references.safetensors"

    @property
    def evaluation_folder(self) -> Path:
        return self.path / "evaluation"

    @property
    def report_json_file(self) -> Path:
        return self.path / "report.json"

    @property
    def report_markdown_file(self) -> Path:
        return self.path / "report.md"

    @property
    def report_html_file(self) -> Path:
        return self.path / "report.html"

    @property
    def data_report_markdown_file(self) -> Path:
        """What the data is and what happened to each row, for a terminal."""
        return self.path / "data-report.md"

    @property
    def data_report_html_file(self) -> Path:
        """The same as a page."""
        return self.path / "data-report.html"

    @property
    def model_folder(self) -> Path:
        return self.path / "model"

    @property
    def adapter_folder(self) -> Path:
        return self.model_folder / "adapter"

    @property
    def merged_folder(self) -> Path:
        return self.model_folder / "merged"

    def read_created(self) -> Event | None:
        """Return the `run.created` event; None when the first line of the log is none."""
        try:
            with self.events_file.open("rb") as log:
                first = log.readline(64 * 1024)
        except OSError:
            return None
        events, _ = decode_lines([first.rstrip(b"\n")])
        return events[0] if events and events[0].type == "run.created" else None

    def read_plan(self) -> "Plan":
        """Return the plan of the run.

        Raises:
            ProblemError: `run.no_plan` when it is missing or not readable.
        """
        from engine.planning.plan import Plan

        try:
            return Plan.model_validate_json(self.plan_file.read_bytes())
        except (OSError, ValueError) as error:
            problem = Problem(
                "run.no_plan",
                f"The plan of run {clean_line(self.folder_name)} cannot be read: {clean_line(error, max_chars=300)}",
                "Start a new run from its recipe.yaml.",
            )
            raise ProblemError(problem) from error


def create_run(home: HomeFolders, recipe_text: str, plan: "Plan") -> RunDirectory:
    """Make the directory of a new run: recipe, plan and the event `run.created`.

    It is written beside its place and renamed, so that half a run never shows.

    Args:
        home: Folders of the user.
        recipe_text: What the preset and the person set, as YAML.
        plan: What this machine will do with it.

    Raises:
        ProblemError: `disk.full`, `disk.not_writable` or `disk.failed`.
    """
    runs = private_folder(home.runs)
    _clear_stale_staging(runs)
    title = plan.recipe.name or f"{Path(plan.recipe.model.base).name.split(':')[-1]} {plan.recipe.objective}"
    run_id = new_run_id(title)
    staged = runs / f"{_STAGED_PREFIX}{run_id}"
    payload = {
        "run_id": run_id,
        "name": title,
        "objective": plan.recipe.objective,
        "base": plan.recipe.model.base,
        "method": plan.recipe.method.name,
    }
    created = Event(1, round(time.time(), 3), "run.created", payload)
    try:
        try:
            staged.mkdir(mode=0o700)
            staged.chmod(0o700)
            write_new(staged / "recipe.yaml", recipe_text.encode(), sync=True)
            write_new(staged / "plan.json", plan.model_dump_json(indent=2).encode() + b"\n", sync=True)
            write_new(staged / "events.jsonl", encode_event(created), sync=True)
            sync_folder(staged)
            os.rename(staged, runs / run_id)
            sync_folder(runs)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    except OSError as error:
        raise ProblemError(disk_problem(error, runs / run_id, "create the run")) from error
    return RunDirectory(runs / run_id)


def new_run_id(title: str, moment: float | None = None) -> str:
    """Return an id that sorts by time (UTC), such as `20261120-143055-commands-lora-k3f9`.

    Args:
        title: Words for people; only ASCII letters and digits are kept.
        moment: Unix seconds; now when None.
    """
    stamp = time.strftime(_STAMP, time.gmtime(moment))
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:_MAX_SLUG_CHARS].strip("-") or "run"
    suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(4))
    return f"{stamp}-{slug}-{suffix}"


def _clear_stale_staging(runs: Path) -> None:
    """Remove what a killed `create_run` left behind a day ago or earlier."""
    oldest_kept = time.time() - _STALE_STAGING_S
    for folder in runs.glob(f"{_STAGED_PREFIX}*"):
        try:
            stale = folder.stat().st_mtime < oldest_kept
        except FileNotFoundError:
            continue
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


# --- finding --------------------------------------------------------------------------------------------------------


def run_folders(home: HomeFolders) -> list[RunDirectory]:
    """Return all runs, the newest first; folders without an event log or a plan are not runs."""
    try:
        names = [entry.name for entry in os.scandir(home.runs) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ProblemError(disk_problem(error, home.runs, "list the runs")) from error
    found = [RunDirectory(home.runs / name) for name in names if not name.startswith(".")]
    return sorted((run for run in found if is_run(run)), key=_stamped_name, reverse=True)


def _stamped_name(run: RunDirectory) -> str:
    """Return a name that sorts by the time of creation, also when the folder was renamed."""
    name = run.folder_name
    if _STAMPED_NAME.match(name):
        return name
    created = run.read_created()
    try:
        return f"{time.strftime(_STAMP, time.gmtime(created.time))}-{name}" if created else ""
    except (OverflowError, ValueError, OSError):
        return ""  # a damaged log names a time that no calendar has


def is_run(run: RunDirectory) -> bool:
    """Return whether a folder holds a run, whole or damaged."""
    # Unlike pathlib's, this takes whatever a person types: too long, with NUL, through a file.
    return os.path.exists(run.events_file) or os.path.exists(run.plan_file)


def find_run(home: HomeFolders, text: str) -> RunDirectory:
    """Return the run that a person means.

    Args:
        home: Folders of the user.
        text: Id, a prefix or other part of one that fits a single run, a path, or `latest`.

    Raises:
        ProblemError: `run.not_found` with the nearest names, or `run.ambiguous` with the candidates.
    """
    wanted = text.strip()
    as_path = Path(os.path.expanduser(wanted))
    if wanted and (os.sep in wanted or wanted.startswith("~")) and is_run(RunDirectory(as_path)):
        return RunDirectory(as_path.absolute())
    runs = run_folders(home)
    if wanted == "latest" and runs:
        return runs[0]
    for fits in (str.__eq__, str.startswith, str.__contains__):
        found = [run for run in runs if wanted and fits(run.folder_name, wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ProblemError(_ambiguous(wanted, found))
    if wanted and is_run(RunDirectory(as_path)):
        return RunDirectory(as_path.absolute())
    raise ProblemError(_not_found(wanted, runs, home))


def _ambiguous(wanted: str, found: list[RunDirectory]) -> Problem:
    names = ", ".join(clean_line(run.folder_name) for run in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    message = f"{len(found)} runs fit {clean_line(wanted, max_chars=80)!r}: {names}{more}."
    return Problem("run.ambiguous", message, "Give more of the name.")


def _not_found(wanted: str, runs: list[RunDirectory], home: HomeFolders) -> Problem:
    where = clean_line(home.runs)
    if not runs:
        return Problem("run.not_found", f"There are no runs in {where}.", "Start one with `ftwizard`.")
    names = [run.folder_name for run in runs]
    near = get_close_matches(wanted, names, n=3, cutoff=0.4) or names[:3]
    shown = ", ".join(clean_line(name) for name in near)
    message = f"No run {clean_line(wanted, max_chars=80)!r} in {where}."
    return Problem("run.not_found", message, f"Nearest: {shown}. `ftwizard runs` lists all.")
