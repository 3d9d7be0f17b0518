"""All runs in a table, and several in one picture."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import OptionList

from engine.runs.directory import RunDirectory
from engine.runs.lineage import family_order, parent_name
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.fake_run import TOTAL_STEPS, FakeRun
from tests.tui.snapshots import check_snapshot
from tests.tui.test_compare import HOSTILE, held_out, shown
from tests.tui.test_monitor_pictures import report
from tui.app import FtwizardApp
from tui.backend import RunRow
from tui.compare.screen import CompareScreen
from tui.home.screen import HomeScreen
from tui.results.screen import ResultScreen
from tui.runs.curves import OTHER_ROWS, curves_data, read_facts, table_lines
from tui.runs.curves_screen import CurvesScreen
from tui.runs.screen import RunsScreen
from tui.runs.table import SORTS, TableState, arranged, family_of
from tui.start import Home

NOW = 1_800_000_000.0
NAMES = ["20261120-100000-commands-lora-aaaa", "20261121-100000-commands-full-bbbb", "20261122-100000-judge-cccc"]
BASES = ["builtin:starter", "/home/x/runs/20261120-100000-commands-lora-aaaa/model/merged", "run:" + NAMES[1]]


def row(place: int, **changes: Any) -> RunRow:
    facts = {
        "path": Path("/none"), "run_id": NAMES[place % 3], "name": f"run {place}", "state": "finished", "step": 400,
        "total_steps": 400, "changed_at": NOW - 9000 + place * 1000, "loss": [0.5, 0.25, 0.75][place % 3],
        "held_out_loss": [0.6, None, 0.3][place % 3], "objective": "chat", "base": BASES[place % 3],
        "method": ["lora", "full", "lora"][place % 3],
    }  # fmt: skip
    return RunRow(**{**facts, **changes})  # type: ignore[arg-type]


def whole_runs(folder: Path) -> list[RunRow]:
    """Write three runs that can be read, and return their rows, the newest first."""
    rows = []
    for place, name in enumerate(NAMES):
        fake = FakeRun(folder, name)
        fake.start()
        for step in range(1, TOTAL_STEPS + 1 - 100 * place):
            fake.step(step)
        fake.finish()
        fake.close()
        fake.run.report_json_file.write_text(json.dumps(report()))
        rows.append(row(place, path=fake.run.path))
    return rows[::-1]


@pytest.fixture(autouse=True)
def _fixed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.runs.screen.time.time", lambda: NOW)


async def open_table(app: FtwizardApp, pilot: Any, words: str) -> RunsScreen:
    await wait_for(pilot, lambda: words in shown(app), "the first screen")
    await pilot.press("r")
    await wait_for(pilot, lambda: isinstance(app.screen, RunsScreen) and words in shown(app), "the table")
    assert isinstance(app.screen, RunsScreen)
    return app.screen


def order(app: FtwizardApp) -> list[str]:
    return [option.id or "" for option in app.screen.query_one(OptionList).options]


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_pictures(size: tuple[int, int], backend: FakeBackend, tmp_path: Path) -> None:
    backend.run_rows = whole_runs(tmp_path / "runs")
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        await open_table(app, pilot, "run 2")
        await pilot.press("space", "space", "space", "up")
        await wait_for(pilot, lambda: "3 marked" in shown(app), "the marks")
        await pilot.pause()
        check_snapshot(app, f"runs-{size[0]}x{size[1]}", tmp_path)
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(app.screen, CurvesScreen) and "started from" in shown(app), "curves")
        await pilot.pause()
        check_snapshot(app, f"curves-{size[0]}x{size[1]}", tmp_path)


async def test_runs_are_sorted_filtered_and_opened(backend: FakeBackend, tmp_path: Path) -> None:
    backend.run_rows = whole_runs(tmp_path / "runs")
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await open_table(app, pilot, "run 2")
        assert order(app) == NAMES[::-1]
        await pilot.press(*"s" * SORTS.index("loss"))
        await wait_for(pilot, lambda: order(app) == [NAMES[1], NAMES[0], NAMES[2]], "by loss")
        await pilot.press("u")
        await wait_for(pilot, lambda: order(app) == [NAMES[2], NAMES[0], NAMES[1]], "turned")
        await pilot.press("slash", *"JUDGE")
        await wait_for(pilot, lambda: order(app) == [NAMES[2]] and "1 of 3 runs" in shown(app), "the filter")
        await pilot.press("enter", "enter")
        await wait_for(pilot, lambda: isinstance(app.screen, ResultScreen), "the result")
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, RunsScreen), "the table again")
        await pilot.press("escape")
        await wait_for(pilot, lambda: len(order(app)) == 3, "all runs")
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, HomeScreen), "home")


async def test_a_narrow_table_says_an_order_that_no_column_shows(backend: FakeBackend, tmp_path: Path) -> None:
    backend.run_rows = whole_runs(tmp_path / "runs")
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_table(app, pilot, "run 2")
        await pilot.press(*"s" * SORTS.index("from"))
        await wait_for(pilot, lambda: "3 runs, by lineage" in shown(app) and "  └ run 2" in shown(app), "the lineage")
        assert order(app) == NAMES


async def test_marks_lead_to_curves_and_to_answers(backend: FakeBackend, tmp_path: Path) -> None:
    backend.run_rows = whole_runs(tmp_path / "runs")
    for run in backend.run_rows:
        held_out(RunDirectory(run.path))
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await open_table(app, pilot, "run 2")
        await pilot.press("space", "space", "c")
        await wait_for(pilot, lambda: isinstance(app.screen, CurvesScreen) and "Perplexity" in shown(app), "curves")
        assert "A loss" in shown(app)
        assert "b held-out" in shown(app)
        assert "1.23 ±0.04" in shown(app)
        await pilot.press("l", "escape")
        await wait_for(pilot, lambda: isinstance(app.screen, RunsScreen), "the table")
        await pilot.press("a")
        await wait_for(
            pilot, lambda: isinstance(app.screen, CompareScreen) and "╭─ commands-full" in shown(app), "both"
        )


async def test_seven_marks_are_refused_with_a_word(backend: FakeBackend) -> None:
    backend.run_rows = [row(place, run_id=f"run-{place}") for place in range(8)]
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_table(app, pilot, "run 2")
        await pilot.press(*["space"] * 7)
        await wait_for(pilot, lambda: "6 runs are the most" in shown(app), "the refusal")
        assert "6 marked" in shown(app)


async def test_hostile_names_are_shown_as_written(backend: FakeBackend) -> None:
    backend.run_rows = [row(0, name=HOSTILE, run_id=HOSTILE, base=HOSTILE, method=HOSTILE, state=HOSTILE)]
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await open_table(app, pilot, "[/INST]")
        await pilot.press("space", "enter")
        await wait_for(pilot, lambda: isinstance(app.screen, CurvesScreen) and "[/INST]" in shown(app), "the picture")
        assert not {"\x1b", "\u202e"} & set(shown(app))


async def test_two_hundred_runs_stay_quick(backend: FakeBackend) -> None:
    backend.run_rows = [row(place, run_id=f"run-{place:03}", base="x") for place in reversed(range(200))]
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        screen = await open_table(app, pilot, "run 199")
        assert len(order(app)) == 200
        started = time.monotonic()
        for _ in range(10):
            screen.action_sort()
            screen.action_mark()
        # 200 lines laid out anew twenty times; about 10 ms each on a free core.
        assert (time.monotonic() - started) / 20 < 0.15


async def test_an_empty_table_says_so(backend: FakeBackend) -> None:
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: "None yet" in shown(app), "home")
        await pilot.press("r")
        await wait_for(pilot, lambda: "There are no runs yet" in shown(app), "the words")
        await pilot.press("space", "c", "enter", "a", "s")
        assert isinstance(app.screen, RunsScreen)


def test_lineage_is_read_from_the_base_model() -> None:
    assert [parent_name(base) for base in BASES] == ["", NAMES[0], NAMES[1]]
    assert parent_name("run:/elsewhere/" + NAMES[0]) == NAMES[0]
    assert parent_name("Qwen/Qwen3-0.6B") == ""
    assert parent_name("") == ""


def test_runs_stand_under_the_run_that_they_started_from() -> None:
    rows = [row(place) for place in range(3)]
    found = arranged(rows[::-1], TableState(sort="from"), family_of(rows))
    assert [(run.run_id, depth) for run, depth in found] == list(zip(NAMES, [0, 1, 2], strict=True))


def test_a_family_leaves_nobody_out() -> None:
    # Two that name each other, one that names itself, one whose parent is gone.
    parents = {"a": "b", "b": "a", "c": "c", "d": "gone", "e": "d"}
    found = family_order(list("abcde"), parents)
    assert sorted(name for name, _ in found) == list("abcde")
    assert dict(found)["e"] == 1
    chain = [str(number) for number in range(3000)]
    assert family_order(chain, {str(n): str(n - 1) for n in range(1, 3000)})[-1] == ("2999", 2999)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("turned", [False, True])
def test_every_order_keeps_every_run_and_numbers_that_are_none_come_last(sort: Any, turned: bool) -> None:
    rows = [row(0), row(1), row(2), row(3, run_id="x", loss=float("nan"), step=None), row(4, run_id="y", loss=None)]
    found = [run for run, _ in arranged(rows, TableState(sort=sort, turned=turned), family_of(rows))]
    assert sorted(run.run_id for run in found) == sorted(run.run_id for run in rows)
    if sort == "loss":
        assert {run.run_id for run in found[3:]} == {"x", "y"}


def test_curves_of_runs_tell_themselves_apart_without_colour(tmp_path: Path) -> None:
    facts = [read_facts(run) for run in whole_runs(tmp_path / "runs")]
    lines = curves_data(facts, log_y=False).lines
    assert [line.mark for line in lines] == ["c", "C", "b", "B", "a", "A"]
    assert len({line.kind for line in lines}) == 3
    table = [line.plain for line in table_lines(facts, 76)]
    assert table[0].split() == ["A", "B", "C"]
    assert "run B" in table[2]
    assert "run C" in table[2]
    assert OTHER_ROWS not in table
    facts[0].run.path.joinpath("data").mkdir()
    facts[0].run.path.joinpath("data/held_out.jsonl").write_text("{}\n")
    changed = [read_facts(one.run) for one in facts]
    assert OTHER_ROWS in [line.plain for line in table_lines(changed, 76)]


def test_a_run_that_is_gone_has_no_numbers_and_breaks_nothing() -> None:
    facts = [read_facts(row(0)), read_facts(row(1))]
    assert all(not line.points for line in curves_data(facts, log_y=True).lines)
    assert any("held-out loss" in line.plain for line in table_lines(facts, 40))
