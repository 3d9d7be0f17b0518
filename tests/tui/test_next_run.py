"""From the result of a run to the wizard of the next one."""

import json
from pathlib import Path

import pytest
from textual.widgets import OptionList

from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.fake_run import FakeRun
from tests.tui.snapshots import check_snapshot
from tests.tui.test_monitor_pictures import hide_paths, report, shown
from tui.app import FtwizardApp
from tui.results.next_run import NextRunScreen
from tui.results.screen import ResultScreen
from tui.start import Home
from tui.widgets.bars import TopBar
from tui.widgets.key_footer import KeyFooter
from tui.wizard.draft import draft_from_json, draft_to_json, newest_draft
from tui.wizard.screen import WizardScreen

NAME = "20261120-143055-commands-lora-k3f9"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """Return a finished run of the home folder that has left a whole model."""
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path))
    made = FakeRun(tmp_path / "runs", NAME)
    made.close()
    made.run.merged_folder.mkdir(parents=True)
    (made.run.merged_folder / "config.json").write_text("{}")
    made.run.report_json_file.write_text(json.dumps(report()))
    return made


def app_on(tmp_path: Path) -> FtwizardApp:
    return FtwizardApp(Home(), FakeBackend(tmp_path / "drafts"))


def keys(app: FtwizardApp) -> list[str]:
    return [binding.description for binding, _ in app.screen.query_one(KeyFooter).shown_bindings()]


async def test_the_result_leads_to_the_wizard_with_what_is_known(
    fake: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_paths(fake, monkeypatch)
    app = app_on(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_result(fake.run.path)
        await wait_for(pilot, lambda: "▲ better" in shown(app), "the report")
        assert "Next run" in keys(app)
        await pilot.press("end")
        await wait_for(pilot, lambda: "next     Preference · Reward model · Reinforcement learning (n)" in shown(app))
        await pilot.press("n")
        await wait_for(pilot, lambda: isinstance(app.screen, NextRunScreen) and "Step 2 of RLHF" in shown(app))
        await pilot.pause()
        check_snapshot(app, "next-run-80x24", tmp_path)
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: isinstance(app.screen, WizardScreen), "the wizard")
        wizard = app.screen
        assert isinstance(wizard, WizardScreen)
        await wait_for(pilot, lambda: wizard.draft.step == "data" and wizard.query("#step"), "the step of the data")
        assert wizard.draft.you == {"objective": "reward-model", "model.base": f"run:{NAME}"}
        assert wizard.draft.source("model.base").kind == "you"
        assert "Next run, from commands-lora" in shown(app).splitlines()[0]
        # Back leads through the answers that were brought along, and to the result at last.
        await pilot.press("f3")
        await wait_for(pilot, lambda: wizard.draft.step == "model", "the model")
        await pilot.press("f3")
        await wait_for(pilot, lambda: wizard.draft.step == "objective", "the objective")
        await pilot.press("f3")
        await wait_for(pilot, lambda: isinstance(app.screen, ResultScreen), "the result")


async def test_a_draft_remembers_which_run_it_goes_on_from(fake: FakeRun, tmp_path: Path) -> None:
    app = app_on(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_next_run(fake.run.folder_name, {"objective": "chat", "model.base": "run:x"})
        await wait_for(pilot, lambda: newest_draft(tmp_path / "drafts").draft is not None, "the draft")
        found = newest_draft(tmp_path / "drafts").draft
        assert found is not None
        assert found.follows == NAME
        assert draft_from_json({**draft_to_json(found), "follows": None}).follows == ""
        app.pop_screen()
        app.open_wizard(draft=found)
        await wait_for(
            pilot, lambda: isinstance(app.screen, WizardScreen) and "from commands-lora" in shown(app), "the bar"
        )
        assert app.screen.query_one(TopBar)


async def test_escape_closes_the_question_and_opens_nothing(fake: FakeRun, tmp_path: Path) -> None:
    app = app_on(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_result(fake.run.path)
        await wait_for(pilot, lambda: "▲ better" in shown(app), "the report")
        await pilot.press("n")
        await wait_for(pilot, lambda: isinstance(app.screen, NextRunScreen), "the question")
        assert app.screen.query_one(OptionList).has_focus
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, ResultScreen), "the result")
        assert newest_draft(tmp_path / "drafts").draft is None


async def test_a_run_whose_model_is_gone_offers_nothing(fake: FakeRun, tmp_path: Path) -> None:
    (fake.run.merged_folder / "config.json").unlink()
    app = app_on(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_result(fake.run.path)
        await wait_for(pilot, lambda: "▲ better" in shown(app), "the report")
        assert "Next run" not in keys(app)
        assert "next  " not in shown(app)
        await pilot.press("n")
        await pilot.pause()
        assert isinstance(app.screen, ResultScreen)
