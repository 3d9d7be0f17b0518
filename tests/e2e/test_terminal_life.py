"""The main job in a real terminal: walk the wizard by keys, train, lose the terminal, come back, see it finish."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runs.directory import RunDirectory
from engine.runs.liveness import is_alive, status
from tests.e2e.tmux import Tmux

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

FTWIZARD = f"{sys.executable} -m tui.cli"
STEPS = 60


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the variables of the terminal: a home of its own, no hub, colours."""
    return {
        "FTWIZARD_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    session = Tmux(tmp_path / "tmux.sock")
    yield session
    session.kill()


def the_run(tmp_path: Path) -> RunDirectory:
    (folder,) = [path for path in (tmp_path / "home" / "runs").iterdir() if not path.name.startswith(".")]
    return RunDirectory(folder)


def wait_until(predicate: object, what: str, limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not predicate():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def steps_logged(run: RunDirectory) -> list[int]:
    lines = run.events_file.read_text().splitlines()
    return [event["step"] for event in map(json.loads, lines) if event["type"] == "step.logged"]


def processes_in(folder: Path) -> list[int]:
    """Return the Python processes that stand in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and (entry / "cwd").readlink() == folder
                and b"python" in (entry / "comm").read_bytes()
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def walk_to_review(tmux: Tmux) -> None:
    """Answer every question of the wizard by keys."""
    tmux.wait_for("New run")
    tmux.keys("Enter")
    tmux.wait_for("What should the model learn?")
    tmux.keys("Enter")
    tmux.wait_for("Filter, or type")
    tmux.type("starter")
    tmux.wait_for("Starter model")
    tmux.keys("Enter")
    tmux.wait_for("Built-in commands")
    tmux.keys("Enter")
    tmux.wait_for("to learn from")
    tmux.keys("F4")
    tmux.wait_for("of all tokens are trained")
    tmux.keys("F4")
    tmux.wait_for("Which weights should learn?")
    tmux.wait_for("recommended")
    tmux.keys("F4")
    tmux.wait_for("Effective batch")
    tmux.keys("F4")
    tmux.wait_for("Ready. Nothing speaks against this run.")


def test_a_run_started_in_the_wizard_outlives_its_terminal(
    tmux: Tmux, environment: dict[str, str], tmp_path: Path
) -> None:
    tmux.start(FTWIZARD, environment, tmp_path)
    walk_to_review(tmux)
    tmux.keys("Enter")
    tmux.wait_for("step ")
    run = the_run(tmp_path)
    total_steps = run.read_plan().steps.total_steps
    wait_until(lambda: steps_logged(run), "the first step")
    tmux.kill()
    step_at_kill = max(steps_logged(run))
    wait_until(lambda: max(steps_logged(run)) > step_at_kill, "steps after the terminal was gone")
    assert is_alive(run)

    tmux.start(f"{FTWIZARD} attach", environment, tmp_path)
    tmux.wait_for("Finished. Enter shows the result.", limit_s=240)
    tmux.keys("Enter")
    shown = tmux.wait_for("Exact match")
    assert "better" in shown
    assert steps_logged(run) == list(range(1, total_steps + 1))
    assert status(run).exit_code == 0


def test_a_killed_worker_is_shown_as_a_crash_and_resumed_by_a_key(
    tmux: Tmux, environment: dict[str, str], tmp_path: Path
) -> None:
    settings = (f"training.max_steps={STEPS}", "training.checkpoint_every=5", "evaluation.generate_rows=2")
    changes = " ".join(f"--set {setting}" for setting in settings)
    tmux.start(f"{FTWIZARD} run quickstart {changes}", environment, tmp_path)
    tmux.wait_for(f"of {STEPS}")
    run = the_run(tmp_path)
    wait_until(lambda: len(list(run.checkpoints_folder.glob("step-*"))) >= 2, "two checkpoints")
    owner = status(run)
    assert owner.pid is not None
    subprocess.run(["kill", "-9", str(owner.pid)], check=True)
    tmux.wait_for("Crashed")
    tmux.keys("r")
    tmux.wait_for("Finished. Enter shows the result.", limit_s=240)
    assert status(run).state == "finished"
    assert set(steps_logged(run)) == set(range(1, STEPS + 1))


def test_an_unfinished_draft_is_offered_again(tmux: Tmux, environment: dict[str, str], tmp_path: Path) -> None:
    tmux.start(FTWIZARD, environment, tmp_path)
    tmux.wait_for("New run")
    tmux.keys("Enter")
    tmux.wait_for("What should the model learn?")
    tmux.keys("Enter")
    tmux.wait_for("Filter, or type")
    tmux.kill()
    wait_until(lambda: not processes_in(tmp_path), "the end of wizard, helper and standby worker", limit_s=30)
    tmux.start(FTWIZARD, environment, tmp_path)
    tmux.wait_for("Continue your draft")
    tmux.keys("Down", "Enter")
    tmux.wait_for("Filter, or type")


def test_without_a_terminal_the_run_prints_plain_lines_and_its_result(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tui.cli", "run", "quickstart"]
    for setting in ("training.max_steps=6", "evaluation.generate_rows=2", "evaluation.max_rows=8"):
        command += ["--set", setting]
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    for words in ("step 6/6", "evaluation after", "Perplexity", "before", "merged"):
        assert words in done.stdout
