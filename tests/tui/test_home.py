"""The first screen: what it shows, where it leads, and that nothing written by others can act on it."""

import time
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from engine.recipe.problems import Problem, ProblemError
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import ONE_GPU, FakeBackend
from tests.tui.snapshots import check_snapshot
from tui.app import FtwizardApp
from tui.backend import Machine, RunRow
from tui.home.entries import home_entries
from tui.home.screen import HomeScreen
from tui.start import AppResult, Home
from tui.wizard import draft as drafts
from tui.wizard.draft import FoundDraft, new_draft, newest_draft, save_draft
from tui.wizard.screen import WizardScreen

NOW = 1_800_000_000.0
SIZES = [(80, 24), (120, 36)]
HOSTILE = "[/INST][@click=app.quit]\x1b[2J\x1b]0;x\x07 list[int] [bold"


def home_app(backend: FakeBackend, **settings: object) -> FtwizardApp:
    return FtwizardApp(Home(), backend, **settings)  # type: ignore[arg-type]


def some_runs(folder: Path) -> list[RunRow]:
    def row(number: int, name: str, state: str, step: int | None, age_s: float) -> RunRow:
        path = folder / f"run-{number}"
        path.mkdir()
        return RunRow(path, f"20260101-12000{number}-run-k3f{number}", name, state, step, 400, NOW - age_s)

    return [
        row(1, "commands · lora", "training", 120, 20),
        row(2, "gsm8k · qwen3-0.6b", "finished", 400, 4000),
        row(3, "medquad · full", "crashed", 77, 90_000),
        row(4, "support tickets · qlora", "stopped", 210, 400_000),
    ]


async def ready(pilot: "Pilot[AppResult]") -> None:
    home = pilot.app.screen
    assert isinstance(home, HomeScreen)
    await wait_for(pilot, lambda: home.presets, "the lists")
    await wait_for(pilot, lambda: "free" in shown(pilot), "the machine")
    await pilot.pause()


def shown(pilot: "Pilot[AppResult]") -> str:
    """Return the screen as text."""
    compositor = pilot.app.screen._compositor
    return "\n".join("".join(segment.text for segment in strip) for strip in compositor.render_strips())


@pytest.fixture(autouse=True)
def _fixed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["empty", "busy", "gpu"])
async def test_picture(size: tuple[int, int], kind: str, backend: FakeBackend, tmp_path: Path) -> None:
    if kind != "empty":
        backend.run_rows = some_runs(tmp_path)
        save_draft(
            new_draft(you={"objective": "chat", "model.base": "Qwen/Qwen3-0.6B"}).at_step("data"), backend.drafts
        )
    if kind == "gpu":
        backend.fixed_machine = ONE_GPU
    app = home_app(backend)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        await ready(pilot)
        check_snapshot(app, f"home-{kind}-{size[0]}x{size[1]}", tmp_path)


@pytest.mark.parametrize("colors", ["16", "none"])
async def test_picture_with_few_colours(
    colors: str, backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colors == "none":
        monkeypatch.setenv("NO_COLOR", "1")
    backend.run_rows = some_runs(tmp_path)
    app = home_app(backend, colors=colors)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await ready(pilot)
        check_snapshot(app, f"home-colors-{colors}-80x24", tmp_path)


async def test_new_run_is_first_and_focused_and_opens_the_wizard(backend: FakeBackend) -> None:
    app = home_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await ready(pilot)
        assert isinstance(app.focused, OptionList)
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(app.screen, WizardScreen))
        assert app.screen.draft.is_empty  # type: ignore[attr-defined]
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_a_preset_opens_the_wizard_over_its_values(backend: FakeBackend) -> None:
    app = home_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await ready(pilot)
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: isinstance(app.screen, WizardScreen))
        draft = app.screen.draft  # type: ignore[attr-defined]
        assert draft.preset == "quick-start"
        assert str(draft.source("model.base")) == "preset quick-start"
        assert draft.is_empty


async def test_a_draft_is_offered_and_continued_and_can_be_forgotten(backend: FakeBackend) -> None:
    save_draft(new_draft(you={"objective": "chat", "model.base": "builtin:starter"}).at_step("data"), backend.drafts)
    app = home_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await ready(pilot)
        assert "Continue your draft" in shown(pilot)
        assert "step 3 of 7" in shown(pilot)
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: isinstance(app.screen, WizardScreen))
        assert app.screen.draft.step == "data"  # type: ignore[attr-defined]
        app.screen.leave()  # type: ignore[attr-defined]
        await wait_for(pilot, lambda: isinstance(app.screen, HomeScreen))
        await pilot.press("delete")
        await wait_for(pilot, lambda: "Continue your draft" not in shown(pilot), "the draft to go")
        assert newest_draft(backend.drafts).draft is None


async def test_hostile_text_is_shown_and_does_nothing(backend: FakeBackend, tmp_path: Path) -> None:
    backend.fixed_machine = Machine(f"{HOSTILE} free", (HOSTILE,), None)
    backend.run_rows = [RunRow(tmp_path, HOSTILE, HOSTILE, HOSTILE, 1, 2, NOW)]
    save_draft(new_draft(you={"objective": HOSTILE, "model.base": HOSTILE}), backend.drafts)
    app = home_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await ready(pilot)
        await pilot.press("down", "down", "up")
        await pilot.click("#machine", offset=(20, 1))
        await pilot.pause()
        assert "[/INST][@click=app.quit]" in shown(pilot)
        assert "list[int]" in shown(pilot)
        assert "\x1b" not in shown(pilot)
        assert app.is_running


async def test_a_preset_that_is_gone_is_said_not_raised(backend: FakeBackend) -> None:
    app = home_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await ready(pilot)
        await pilot.press("down", "down", "enter")
        await wait_for(pilot, lambda: "No preset chat-lora" in shown(pilot), "the notice")
        assert isinstance(app.screen, HomeScreen)


async def test_unreadable_runs_are_said_in_their_place(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_limit: int) -> list[RunRow]:
        raise ProblemError(Problem("disk.failed", "The folder of runs cannot be listed.", "Check its rights."))

    monkeypatch.setattr(backend, "runs", refuse)
    app = home_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await ready(pilot)
        assert "The folder of runs cannot be listed." in shown(pilot)
        assert "quick-start" in shown(pilot), "presets are there all the same"


async def test_quitting_needs_no_question(backend: FakeBackend) -> None:
    app = home_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("q")
    assert app.return_value == AppResult(0, None)


async def test_a_signal_ends_the_app_with_its_code(backend: FakeBackend) -> None:
    app = home_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        app.leave_with_code(143)
    assert app.return_code == 143
    assert app.return_value == AppResult(143, None)


async def test_every_theme_can_be_taken(backend: FakeBackend) -> None:
    app = home_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        for name in ("ftwizard-light", "nord", "textual-light", "ftwizard-ansi", "ftwizard-dark"):
            app.theme = name
            await pilot.pause()
            assert app.theme == name


def test_steps_and_ages_are_said_in_words() -> None:
    rows = [RunRow(Path("/r"), "id", "name", "training", 3, 9, NOW - 7200)]
    text = "\n".join(entry.content.plain for entry in home_entries(rows, [], FoundDraft(None), now=NOW))
    assert "step 3 of 9" in text
    assert "2 h ago" in text
    assert "▶ training" in text


def test_draft_titles_cover_every_step() -> None:
    assert set(drafts.STEP_TITLES) == set(drafts.STEPS)


@pytest.mark.parametrize("width", [60, 80])
async def test_every_row_keeps_to_one_line_on_a_narrow_terminal(
    width: int, backend: FakeBackend, tmp_path: Path
) -> None:
    backend.run_rows = some_runs(tmp_path)
    app = home_app(backend)
    async with app.run_test(size=(width, 24)) as pilot:
        await ready(pilot)
        listed = app.screen.query_one(OptionList)
        lines = {index for index, _ in listed._lines}
        headings = 2
        assert len(listed._lines) == len(lines) + headings, "only a heading has a second line, which is empty"
