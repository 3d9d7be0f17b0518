"""Commands that verbs print for a person to type again."""

import json
import shlex
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.helper import InspectionHelper
from engine.runs.directory import create_run
from engine.runs.events import EventWriter
from engine.runs.home import home_folders
from tests.engine.made_plan import made_plan
from tui.cli import app
from tui.verbs import data_recipe
from tui.verbs.recipes import plan
from tui.verbs.runs import show

RECIPE = "objective: chat\nmodel: {base: builtin:starter}\ndata: {source: builtin:commands}\n"


def shown_command(stdout: str) -> list[str]:
    """Return the words of the line that says how to start the same run."""
    [line] = [line for line in stdout.splitlines() if line.startswith("Command ")]
    return shlex.split(line)[1:]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_plan_prints_the_recipe_and_the_changes_that_were_given(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "my recipe.yaml").write_text(RECIPE)
    assert plan("my recipe.yaml", ["name=a b"], as_json=False, fast=True) == 0
    assert shown_command(capsys.readouterr().out) == ["ftwizard", "run", "my recipe.yaml", "--set", "name=a b"]


def test_show_prints_where_the_recipe_of_the_run_lies(capsys: pytest.CaptureFixture[str]) -> None:
    run = create_run(home_folders(), RECIPE, made_plan())
    assert show("latest", as_json=False) == 0
    assert shown_command(capsys.readouterr().out) == ["ftwizard", "run", str(run.recipe_file)]


def test_show_tells_the_alarms_that_are_not_over(capsys: pytest.CaptureFixture[str]) -> None:
    run = create_run(home_folders(), RECIPE, made_plan())
    log = EventWriter(run.events_file)
    told = (("alarm.spike", "It jumped\x1b[2J."), ("alarm.divergence", "It rises."), ("alarm.spike_over", ""))
    for code, message in told:
        log.write("notice.raised", severity="warning", code=code, message=message, step=3)
    log.close()
    assert show("latest", as_json=False) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("Alarm")] == ["Alarm    It rises."]
    assert show("latest", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["alarms"] == {"divergence": {"step": 3, "message": "It rises."}}


def commands_of(page: str) -> list[list[str]]:
    """Return the commands of a page's blocks that look at data."""
    text = (Path(__file__).parents[2] / page).read_text()
    return [shlex.split(line) for line in text.splitlines() if line.startswith("ftwizard data ")]


def test_the_commands_of_the_data_page_run_one_after_the_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ({"question": f"What is {n} twice?", "answer": f"It is {2 * n}.", "kind": "ab"[n % 2]} for n in range(60))
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = commands_of("docs/data.md")
    assert {words[2] for words in shown} == {"inspect", "xray", "clean", "split"}
    with closing(InspectionHelper(log_file=home / "inspection.log")) as helper:
        # One helper for all of them: its imports take seconds.
        monkeypatch.setattr(helper, "close", lambda: None)
        monkeypatch.setattr(data_recipe, "InspectionHelper", lambda: helper)
        for words in shown:
            ended = CliRunner().invoke(app, words[1:])
            assert ended.exit_code == 0, (words, ended.output)
        monkeypatch.undo()
    assert {path.name for path in home.iterdir()} >= {"report", "cleaned.jsonl", "dropped.jsonl", "parts"}
