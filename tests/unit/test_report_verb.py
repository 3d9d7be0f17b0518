"""`ftwizard report`: written anew when it is behind, shown in short, and opened only where somebody can see it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.evaluation.measurement import Measurement, Sample, save_measurement
from engine.runs.directory import RunDirectory
from engine.runs.events import EventWriter
from engine.runs.home import home_folders
from tests.engine.made_plan import made_plan, made_run, write_story
from tests.unit.test_data_verbs import HelperHere
from tui.cli import app
from tui.verbs import report as verb

HERE = {"SSH_CONNECTION": "", "SSH_TTY": "", "DISPLAY": ":0"}
FAR = {**HERE, "SSH_CONNECTION": "10.0.0.7 50000 10.0.0.9 2222"}


class CountingHelper(HelperHere):
    """Answers in this process and counts what is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.before = self.asked.append


@pytest.fixture(autouse=True)
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingHelper:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    for name, value in HERE.items():
        monkeypatch.setenv(name, value)
    here = CountingHelper()
    monkeypatch.setattr(verb, "InspectionHelper", lambda: here)
    return here


@pytest.fixture
def run() -> RunDirectory:
    """A run that was stopped in its middle: measured before training, never after it."""
    runs = home_folders().runs
    runs.mkdir(parents=True)
    made = made_run(runs / "20261120-120000-made-k3f9", made_plan(recipe={"name": "Lamp commands"}))
    write_story(made)
    told(made, "state.changed", state="stopped", reason="")
    made.exit_file.write_text(json.dumps({"state": "stopped", "exit_code": 75}))
    metrics = {"loss": 6.0, "perplexity": 403.4}
    sample = Sample("turn on the lamp", "on", "\x1b[2J on on")
    save_measurement(Measurement("before", 0, metrics, [sample], 20, 400, 6, 2.0), made.evaluation_folder)
    return made


def told(run: RunDirectory, event_type: str, **payload: Any) -> None:
    log = EventWriter(run.events_file)
    log.write(event_type, **payload)
    log.close()


def report(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments])


def test_a_run_that_was_stopped_gets_a_report_and_its_three_files_are_named(run: RunDirectory) -> None:
    shown = report("latest")
    assert shown.exit_code == 0, shown.output
    assert "written anew" in shown.stdout
    assert "Perplexity" in shown.stdout
    assert "403.4" in run.report_json_file.read_text()
    for file in (run.report_html_file, run.report_markdown_file, run.report_json_file):
        assert file.is_file()
        assert str(file) in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "ftwizard chat" not in shown.stdout


def test_it_is_written_again_only_when_the_run_has_done_more(run: RunDirectory, helper: CountingHelper) -> None:
    assert report().exit_code == 0
    told(run, "report.written", folder=".")
    assert "as the run has written it" in report().stdout
    assert helper.asked == ["write_run_report"]
    os.utime(run.report_json_file, (1_000_000_000, 1_000_000_000))
    assert "written anew" in report().stdout
    run.report_html_file.unlink()
    report()
    assert helper.asked == ["write_run_report"] * 3


def test_scripts_get_the_report_itself(run: RunDirectory) -> None:
    document = json.loads(report("made", "--json").stdout)
    assert document == json.loads(run.report_json_file.read_text())
    assert document["run_id"] == "20261120-120000-made-k3f9"


def test_the_page_opens_where_there_is_a_display(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(verb.webbrowser, "open", lambda address: opened.append(address) or True)
    assert report("--open").exit_code == 0
    assert opened == [run.report_html_file.as_uri()]


def test_over_ssh_the_command_that_fetches_the_page_is_told(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb.webbrowser, "open", lambda address: pytest.fail("nobody would see it"))
    monkeypatch.setattr(verb.getpass, "getuser", lambda: "ada")
    for name, value in FAR.items():
        monkeypatch.setenv(name, value)
    shown = report("--open")
    assert shown.exit_code == 0
    assert f"scp -P 2222 ada@10.0.0.9:{run.report_html_file} ." in shown.stderr


def test_where_no_browser_would_be_seen() -> None:
    assert verb.why_unseen(HERE, "linux") == ""
    assert "SSH" in verb.why_unseen(FAR, "darwin")
    assert "display" in verb.why_unseen({}, "linux")
    assert verb.why_unseen({}, "darwin") == ""


def test_a_run_that_is_not_there_is_a_sentence(run: RunDirectory) -> None:
    shown = report("nothing-like-it")
    assert shown.exit_code == 2
    assert "No run 'nothing-like-it'" in shown.stderr
