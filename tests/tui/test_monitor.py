"""The monitor, rebuilt from a run directory: live, ended, crashed, hostile, and asked for things."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Static

from engine.recipe.problems import Problem, ProblemError
from engine.runs.control import ControlReader
from engine.runs.directory import RunDirectory
from engine.runs.liveness import Lock, acquire
from engine.runs.picture import Picture
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.fake_run import PROMPTS, TOTAL_STEPS, FakeRun
from tui.app import FtwizardApp
from tui.monitor.panels import evaluation_lines
from tui.start import Monitor
from tui.widgets.confirm import ConfirmScreen

SIZES = [(80, 24), (120, 36), (200, 60)]
HOSTILE = "[/INST] [@click=app.quit]go[/] \x1b[2J\x1b]52;c;aGk=\x07 \u202eevil"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[FakeRun]:
    """Yield a run whose worker is this process, in the middle of training."""
    fake = FakeRun(tmp_path / "runs")
    lock = acquire(fake.run)
    fake.start()
    for step in range(1, 121):
        fake.step(step)
    yield fake
    lock.release()
    fake.close()


@pytest.fixture
def finished(tmp_path: Path) -> FakeRun:
    """Return a run that came to its end."""
    fake = FakeRun(tmp_path / "runs")
    with acquire(fake.run):
        fake.start()
        for step in range(1, TOTAL_STEPS + 1):
            fake.step(step)
        fake.finish()
    fake.close()
    return fake


def app_for(fake: FakeRun, tmp_path: Path, *, leave_when_done: bool = False) -> FtwizardApp:
    return FtwizardApp(Monitor(fake.run.path, leave_when_done), FakeBackend(tmp_path / "drafts"))


def said(app: FtwizardApp) -> str:
    """Return what the toasts say."""
    return "\n".join(notification.message for notification in app._notifications)


def screen_text(app: FtwizardApp) -> str:
    """Return what is on the screen as plain lines."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


@pytest.mark.parametrize("size", SIZES)
async def test_a_live_run_shows_state_step_numbers_and_curve(
    live: FakeRun, tmp_path: Path, size: tuple[int, int]
) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        text = screen_text(app)
        for words in ("training", "30 %", "held-out loss", "perplexity", "Pause"):
            assert words in text


async def test_new_events_appear_without_a_key(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        live.step(121)
        await wait_for(pilot, lambda: "step 121 of 400" in screen_text(app), "the next step")


async def test_the_number_keys_choose_the_panel(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        await pilot.press("2")
        await wait_for(pilot, lambda: PROMPTS[0][0] in screen_text(app), "the first prompt")
        await pilot.press("right")
        await wait_for(pilot, lambda: PROMPTS[1][0] in screen_text(app), "the second prompt")
        await pilot.press("3")
        await wait_for(pilot, lambda: "predicted 500 to 800 MiB" in screen_text(app), "the prediction")
        await pilot.press("4")
        await wait_for(pilot, lambda: "checkpoint at step 100 is whole" in screen_text(app), "the checkpoint")


async def test_a_request_is_pending_until_the_worker_acknowledges_it(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        await pilot.press("c")
        await wait_for(pilot, lambda: "Asked for: checkpoint" in screen_text(app), "the pending request")
        (request,) = ControlReader(live.run).poll()
        assert request.action == "checkpoint"
        live.write("control.acknowledged", id=request.id, action="checkpoint", result="committed at step 120")
        await wait_for(pilot, lambda: "Asked for" not in screen_text(app), "the end of the request")
        await wait_for(pilot, lambda: "committed at step 120" in screen_text(app), "the result")


async def test_pause_becomes_go_on_while_paused(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        live.write("state.changed", state="paused", reason="asked by a viewer")
        await wait_for(pilot, lambda: "paused" in screen_text(app), "the pause")
        await pilot.press("p")
        await wait_for(pilot, lambda: ControlReader(live.run).poll() != [], "a request")
        assert json.loads(live.run.control_file.read_text().splitlines()[-1])["action"] == "resume"


async def test_stop_asks_first_and_escape_changes_nothing(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        await pilot.press("s")
        await wait_for(pilot, lambda: isinstance(app.screen, ConfirmScreen), "the question")
        await pilot.press("escape")
        await wait_for(pilot, lambda: not isinstance(app.screen, ConfirmScreen), "the monitor")
        assert not live.run.control_file.exists() or ControlReader(live.run).poll() == []


async def test_ctrl_c_asks_and_detaching_leaves_the_run_alone(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        await pilot.press("ctrl+c")
        await wait_for(pilot, lambda: isinstance(app.screen, ConfirmScreen), "the question")
        await pilot.press("enter")
    assert app.return_value is not None
    assert app.return_value.run_path == live.run.path
    assert not live.run.control_file.exists()


async def test_a_finished_run_says_so_and_opens_its_result(finished: FakeRun, tmp_path: Path) -> None:
    app = app_for(finished, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "Finished. Enter shows the result." in screen_text(app), "the banner")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "no report yet" in screen_text(app), "the result screen")


async def test_the_monitor_of_a_verb_leaves_when_the_run_is_done(
    finished: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.monitor.screen.LEAVE_AFTER_S", 0.0)
    app = app_for(finished, tmp_path, leave_when_done=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: not app.is_running or app.return_value is not None, "the end")
    assert app.return_value is not None
    assert app.return_value.exit_code == 0


async def test_a_crash_is_shown_with_the_way_on(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        live.run.log_file.write_text("RuntimeError: the last words\n")
        _release_lock_of(live)
        await wait_for(pilot, lambda: "Crashed" in screen_text(app), "the crash")
        await pilot.press("4")
        await wait_for(pilot, lambda: "the last words" in screen_text(app), "the log")
        await pilot.press("p")
        assert not live.run.control_file.exists()


async def test_a_key_of_the_other_half_of_a_life_says_why_it_does_nothing(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        await pilot.press("r")
        await wait_for(pilot, lambda: "there is nothing to resume" in said(app), "why not resume")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "comes when it is finished" in said(app), "why no result")
        _release_lock_of(live)
        await wait_for(pilot, lambda: "Crashed" in screen_text(app), "the crash")
        await pilot.press("c")
        await wait_for(pilot, lambda: "nothing is at work" in said(app), "why no checkpoint")


async def test_a_resume_under_way_is_shown_and_not_asked_for_twice(
    live: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunDirectory] = []
    gate = threading.Event()

    def slow(run: RunDirectory) -> None:
        asked.append(run)
        gate.wait(30)
        raise ProblemError(Problem("worker.not_started", "The worker ended before it began."))

    monkeypatch.setattr("engine.runs.launch.resume", slow)
    _release_lock_of(live)
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await wait_for(pilot, lambda: "Crashed" in screen_text(app), "the crash")
        await pilot.press("r", "r")
        await wait_for(pilot, lambda: "Starting the worker again" in screen_text(app), "the busy line")
        gate.set()
        await wait_for(pilot, lambda: "ended before it began" in screen_text(app), "why it failed")
        assert len(asked) == 1


def _release_lock_of(fake: FakeRun) -> None:
    import gc

    for lock in (item for item in gc.get_objects() if isinstance(item, Lock)):
        if lock.run == fake.run:
            lock.release()


async def test_hostile_text_is_shown_as_it_is_written_and_acts_on_nothing(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    live.write("notice.raised", severity="warning", code="x", message=HOSTILE)
    live.evaluate("during", 120, texts=[HOSTILE] * 3)
    live.run.log_file.write_text(HOSTILE + "\n")
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        await wait_for(pilot, lambda: screen_text(app).count("[/INST]") >= 3, "sample, notice and log")
        assert not set("\x1b\x07\u202e") & set(screen_text(app))


@pytest.mark.parametrize("size", [(1, 1), (10, 3), (40, 12), (59, 15)])
async def test_small_terminals_do_not_break_it(live: FakeRun, tmp_path: Path, size: tuple[int, int]) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=size) as pilot:
        await wait_for(pilot, lambda: app.screen.query_one("#status", Static).content, "the status")
        await pilot.press("2", "3", "4", "g", "m", "y")


async def test_every_chart_can_be_shown(live: FakeRun, tmp_path: Path) -> None:
    app = app_for(live, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        for title in ("learning rate", "gradient norm", "tokens per second", "worker RAM, GiB"):
            await pilot.press("g")
            await wait_for(pilot, lambda title=title: title in screen_text(app), title)


def test_metrics_that_do_not_fit_are_counted_not_hidden(finished: FakeRun) -> None:
    from engine.runs.picture import open_picture

    picture, _ = open_picture(finished.run)
    wide, narrow = evaluation_lines(picture, 120), evaluation_lines(picture, 40)
    assert "rouge-L" in wide[0].plain
    assert "+3" in narrow[0].plain
    assert all(len(line.plain) <= 40 for line in narrow)


def test_a_change_without_a_better_direction_is_marked_neither_way() -> None:
    picture = Picture()
    for phase, step, metrics in (
        ("before", 0, {"reward": 0.1, "completion_length": 40.0}),
        ("during", 10, {"reward": 0.5, "completion_length": 90.0}),
    ):
        picture.evaluations.append({"phase": phase, "step": step, "metrics": metrics})
    newest = evaluation_lines(picture, 80)[1].plain
    assert "0.50 ▲" in newest
    assert newest.rstrip().endswith("90.00")


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_an_alarm_stands_above_the_chart_until_it_is_over(
    live: FakeRun, tmp_path: Path, size: tuple[int, int]
) -> None:
    def tell(code: str, message: str) -> None:
        live.write("notice.raised", severity="warning", code=code, message=message, step=120)

    app = app_for(live, tmp_path)
    async with app.run_test(size=size) as pilot:
        await wait_for(pilot, lambda: "step 120 of 400" in screen_text(app), "the step")
        assert not app.screen.query_one("#alarm").display
        tell("alarm.spike", f"The loss jumped from 1.2 to 4.8 {HOSTILE}")
        await wait_for(pilot, lambda: "! The loss jumped from 1.2 to 4.8" in screen_text(app), "the alarm")
        assert "\x1b" not in screen_text(app)
        tell("alarm.divergence", "The loss is rising: 3.9")
        await wait_for(pilot, lambda: "! (and 1 more, panel 4) The loss" in screen_text(app), "both")
        tell("alarm.spike_over", "The loss is back at 1.2")
        tell("alarm.divergence_over", "The loss has come down again")
        await wait_for(pilot, lambda: not app.screen.query_one("#alarm").display, "its end")
        await pilot.press("4")
        await wait_for(pilot, lambda: "The loss has come down again" in screen_text(app), "the log")
