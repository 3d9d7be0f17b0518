"""Learning rates in the wizard: drawn over the steps, live with the answers, and looked for by a sweep."""

from pathlib import Path

import pytest

from engine.planning.rate_curve import advise, sweep_rates
from engine.recipe.problems import Problem, ProblemError
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend, FakeSweep
from tests.tui.snapshots import check_snapshot
from tests.tui.test_wizard import Running, choose_setting, shown, walk_to, wizard, wizard_app
from tests.unit.made_plans import plan
from tui.widgets.rate_chart import rate_axis, schedule_points, schedule_rows, schedule_words, sweep_rows
from tui.wizard.rate_screen import RateScreen


def text_of(rows: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def test_the_drawing_has_the_size_that_it_is_given_and_no_colour_alone() -> None:
    for width in (60, 80, 120):
        rows = text_of(schedule_rows(plan(), width, 5))
        assert len(rows) == 5
        assert all(len(row) <= width for row in rows)
        assert "0.002" in rows[0]
        assert "cosine to 0 at step" in rows[-1]
    assert text_of(schedule_rows(plan(), 60, 5, ascii_only=True))[1].isascii()
    assert schedule_rows(plan(), 10, 5) == []


def test_the_points_rise_to_the_peak_and_end_where_the_recipe_says() -> None:
    made = plan({"training.warmup": 0.2, "training.min_rate": 0.5, "training.schedule": "linear"})
    points = schedule_points(made, 50)
    rates = [rate for _, rate in points]
    assert max(rates) == pytest.approx(made.recipe.training.learning_rate)
    assert rates[0] < rates[5] < max(rates)
    assert rates[-1] == pytest.approx(0.5 * max(rates), rel=0.05)
    assert points[-1][0] == made.steps.total_steps
    assert "linear to 50 % at step" in schedule_words(made)


def test_the_curve_of_a_sweep_marks_its_suggestion() -> None:
    import threading

    gate = threading.Event()
    gate.set()
    points = list(FakeSweep(2e-4, gate).points())
    rates = sweep_rates(2e-4)
    drawn = text_of(sweep_rows(points, advise(points), (rates[0], rates[-1]), 70, 12))
    assert len(drawn) == 12
    assert sum(row.count("●") for row in drawn) == 1
    assert "1e-4" in drawn[-1]
    assert text_of(sweep_rows([], None, (rates[0], rates[-1]), 70, 12)) == []


def test_powers_of_ten_stand_where_they_lie() -> None:
    axis = rate_axis(-5, -2, 61)
    assert axis.split() == ["1e-5", "1e-4", "1e-3", "1e-2"]
    assert axis.index("1e-4") + 2 == pytest.approx(20, abs=1)


async def test_the_schedule_is_drawn_beside_what_shapes_it_and_moves_with_it(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "settings")
        await choose_setting(pilot, "delivery.merge")
        await pilot.pause()
        assert "cosine to 0 at step" not in shown(pilot)
        await choose_setting(pilot, "training.schedule")
        await pilot.pause()
        assert "cosine to 0 at step" in shown(pilot)
        await pilot.press("right")
        await wait_for(pilot, lambda: "linear to 0 at step" in shown(pilot), "the drawing of the new schedule")


async def test_the_cursor_stays_in_view_where_the_drawing_takes_its_row(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await walk_to(pilot, "settings")
        await pilot.press("end", "enter")  # Unfolds the advanced settings.
        await choose_setting(pilot, "data.split.test")
        await pilot.pause()
        await pilot.press("down")
        await wait_for(pilot, lambda: "cosine to 0 at step" in shown(pilot), "the drawing")
        await pilot.pause()
        assert "Step limit  " in shown(pilot).split("cosine to 0")[0], "the row under the cursor"


async def go_looking(pilot: Running) -> RateScreen:
    await walk_to(pilot, "settings")
    await choose_setting(pilot, "training.learning_rate")
    # Behind the sweep the settings are seen: a rehearsal that ends meanwhile would change the picture.
    await wait_for(pilot, lambda: "simulated" in shown(pilot) and "◌" not in shown(pilot), "the end of the rehearsal")
    await pilot.press("f")
    await wait_for(pilot, lambda: isinstance(pilot.app.screen, RateScreen))
    screen = pilot.app.screen
    assert isinstance(screen, RateScreen)
    return screen


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_one_key_takes_the_suggestion_as_the_persons_own(
    size: tuple[int, int], backend: FakeBackend, tmp_path: Path
) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        await go_looking(pilot)
        await wait_for(pilot, lambda: "Suggested:" in shown(pilot))
        await pilot.pause()
        check_snapshot(app, f"wizard-rate-{size[0]}x{size[1]}", tmp_path)
        await pilot.press("enter")
        await wait_for(pilot, lambda: "training.learning_rate" in wizard(pilot).draft.you)
        taken = wizard(pilot).draft.you["training.learning_rate"]
        usual = backend.sweeps[0].usual
        assert usual < taken < 20 * usual
        assert str(wizard(pilot).draft.source("training.learning_rate")) == "you"


async def test_escape_ends_a_sweep_and_takes_nothing(backend: FakeBackend) -> None:
    backend.sweep_gate.clear()
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await go_looking(pilot)
        await wait_for(pilot, lambda: "Step 12 of" in shown(pilot))
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, RateScreen), "there is nothing to take yet"
        await pilot.press("escape")
        await wait_for(pilot, lambda: backend.sweeps[0].cancelled)
        assert "training.learning_rate" not in wizard(pilot).draft.you
        assert wizard(pilot).draft.step == "settings"


async def test_a_sweep_that_cannot_be_made_says_why(backend: FakeBackend) -> None:
    backend.sweep_error = ProblemError(Problem("rate.not_here", "No weights [/INST] here.", "Download them."))
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await go_looking(pilot)
        await wait_for(pilot, lambda: "No weights [/INST] here. Download them." in shown(pilot))
        await pilot.press("enter")
        await pilot.press("escape")
        await wait_for(pilot, lambda: not isinstance(pilot.app.screen, RateScreen))
        assert "training.learning_rate" not in wizard(pilot).draft.you


async def test_the_best_metric_turns_through_those_of_the_objective(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "settings")
        from textual.widgets import OptionList

        listed = wizard(pilot).query_one("#settings-list", OptionList)
        listed.highlighted = listed.get_option_index("fold")
        await pilot.press("enter")
        await choose_setting(pilot, "training.best_by")
        seen = set()
        for _ in range(24):
            await pilot.press("right")
            await pilot.pause()
            seen.add(wizard(pilot).draft.value("training.best_by"))
        assert "last" in seen
        assert "exact_match" in seen
        assert "accuracy" not in seen
