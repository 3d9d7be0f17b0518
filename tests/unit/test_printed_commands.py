"""Commands that verbs print for a person to type again."""

import shlex
from pathlib import Path

import pytest

from engine.runs.directory import create_run
from engine.runs.home import home_folders
from tests.engine.made_plan import made_plan
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
