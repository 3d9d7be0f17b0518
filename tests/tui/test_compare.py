"""Models side by side: answers stream, words that differ are marked, and no process outlives the screen."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from engine.runs.directory import RunDirectory
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.fake_run import PROMPTS, FakeRun
from tests.tui.fake_talkers import FakeTalkers
from tests.tui.snapshots import check_snapshot
from tui.app import FtwizardApp
from tui.backend import Machine, RunRow
from tui.compare.blind_screen import BlindScreen
from tui.compare.screen import CompareScreen
from tui.compare.sides import read_material
from tui.compare.word_diff import diff_parts, diffed
from tui.home.screen import HomeScreen
from tui.results.screen import ResultScreen
from tui.start import Home

HOSTILE = "[/INST][@click=app.quit]x[/] \x1b[2J\u202e list[int] [bold"
ANSWERS = {
    "base": "The lamp was happy and went home to the study room with level 30.",
    "auto": "light.set room=study level=30. The lamp was happy and stayed.",
}


def held_out(run: RunDirectory, pairs: list[tuple[str, str]] = PROMPTS) -> None:
    """Write held-out rows as a worker does."""
    rows = [
        {"id": f"rows.jsonl:{number}", "messages": [{"role": "user", "content": prompt},
                                                    {"role": "assistant", "content": expected}]}
        for number, (prompt, expected) in enumerate(pairs, 1)
    ]  # fmt: skip
    run.data_folder.mkdir(exist_ok=True)
    run.held_out_file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def made_run(folder: Path, name: str = "20261120-143055-commands-lora-k3f9") -> RunDirectory:
    fake = FakeRun(folder, name)
    fake.start()
    fake.finish()
    fake.close()
    held_out(fake.run)
    return fake.run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return made_run(tmp_path / "runs")


def shown(app: FtwizardApp) -> str:
    return "\n".join("".join(s.text for s in strip) for strip in app.screen._compositor.render_strips())


def answer_with(backend: FakeBackend, table: dict[str, str]) -> FakeTalkers:
    backend.talkers = FakeTalkers(lambda which, prompt: table[which])
    return backend.talkers


def row_of(run: RunDirectory, name: str = "commands · lora", state: str = "finished") -> RunRow:
    return RunRow(run.path, run.folder_name, name, state, 400, 400, 0.0)


def open_compare(app: FtwizardApp, run: RunDirectory) -> CompareScreen:
    app.open_compare(run.path)
    screen = app.screen_stack[-1]
    assert isinstance(screen, CompareScreen)
    return screen


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_picture(size: tuple[int, int], run: RunDirectory, backend: FakeBackend, tmp_path: Path) -> None:
    answer_with(backend, ANSWERS)
    other = made_run(tmp_path / "runs", "20261121-090000-commands-full-a2b3")
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        screen = open_compare(app, run)
        if size[0] > 100:
            screen._other = other
        await wait_for(pilot, lambda: "{+" in shown(app), "the diff")
        await pilot.pause()
        check_snapshot(app, f"compare-{size[0]}x{size[1]}", tmp_path)


async def test_answers_stream_at_the_same_time_and_the_diff_comes_at_the_end(
    run: RunDirectory, backend: FakeBackend
) -> None:
    talkers = answer_with(backend, {"base": "one two three four", "auto": "one two five six"})
    talkers.gates = {"base": threading.Event(), "auto": threading.Event()}
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: shown(app).count("writes …") == 2, "both at once")
        talkers.gates["auto"].set()
        await wait_for(pilot, lambda: "one two five six" in shown(app), "the one that is written")
        assert "base  writes …" in shown(app)
        assert "{+" not in shown(app)
        talkers.gates["base"].set()
        await wait_for(pilot, lambda: "[-three four-]" in shown(app) and "{+five six+}" in shown(app), "the diff")
        await pilot.press("d")
        await wait_for(pilot, lambda: "one two three four" in shown(app) and "{+" not in shown(app), "no diff")


async def test_arrows_turn_the_prompts_and_a_typed_one_is_asked_of_all(run: RunDirectory, backend: FakeBackend) -> None:
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: "Prompt 1 of 3 (← →)" in shown(app) and "writes" not in shown(app), "the first")
        assert "Expected  light.set room=study level=30" in shown(app)
        await pilot.press("right")
        await wait_for(pilot, lambda: "Prompt 2 of 3" in shown(app) and "answers" in shown(app), "the second")
        asked = len([line for line in backend.talkers.log if line.startswith("base:")])
        await pilot.press("left")
        await wait_for(pilot, lambda: "Prompt 1 of 3" in shown(app))
        # What was answered is not written again.
        assert len([line for line in backend.talkers.log if line.startswith("base:")]) == asked
        await pilot.press("t", *"to be", "enter")
        await wait_for(pilot, lambda: "auto: to be" in backend.talkers.log and "base: to be" in backend.talkers.log)
        await wait_for(pilot, lambda: "Typed  to be" in shown(app), "the typed prompt")
        assert not app.screen.query_one(Input).display
        await pilot.press("t", "escape")
        assert isinstance(app.screen, CompareScreen)


async def test_leaving_ends_every_process(run: RunDirectory, backend: FakeBackend) -> None:
    talkers = answer_with(backend, ANSWERS)
    talkers.gates = {"base": threading.Event()}
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: len(talkers.opened) == 2, "both processes")
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, HomeScreen))
        await wait_for(pilot, lambda: all(talker.closed for talker in talkers.opened), "their end")
        talkers.gates["base"].set()


async def test_models_that_do_not_fit_take_turns_and_the_screen_says_so(
    run: RunDirectory, backend: FakeBackend
) -> None:
    backend.fixed_machine = Machine("CPU only", (), 900 * 2**20, "host RAM")
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: "they take turns" in shown(app), "the words")
        await wait_for(pilot, lambda: backend.talkers.log.count("close auto") == 1, "the end of the second")
        log = backend.talkers.log
        assert log.index("close base") < log.index("ready auto")


async def test_text_of_models_and_rows_cannot_act(run: RunDirectory, backend: FakeBackend) -> None:
    answer_with(backend, {"base": HOSTILE, "auto": HOSTILE + " more"})
    held_out(run, [(HOSTILE, HOSTILE)])
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: "{+more+}" in shown(app), "the answers")
        assert shown(app).count("[@click=app.quit]") >= 3
        assert not {"\x1b", "\u202e"} & set(shown(app))


async def test_a_model_that_cannot_be_loaded_says_why_in_its_column(run: RunDirectory, backend: FakeBackend) -> None:
    answer_with(backend, {"base": "!The conversation has 900 tokens.", "auto": "fine"})
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: "base  ✗ failed" in shown(app) and "fine" in shown(app), "both columns")
        assert "900 tokens" in shown(app)


async def test_another_run_stands_beside_in_two_or_three_columns(
    run: RunDirectory, backend: FakeBackend, tmp_path: Path
) -> None:
    other = made_run(tmp_path / "runs", "20261121-090000-long-run-a2b3")
    backend.run_rows = [row_of(run), row_of(other, "other [bold")]
    backend.run_rows += [RunRow(tmp_path, "20261122-1", "at work", "training")]
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: "{+auto+}" in shown(app), "two columns")
        await pilot.press("o")
        await wait_for(pilot, lambda: "other [bold" in shown(app), "the runs")
        assert "at work" not in shown(app)
        await pilot.press("enter")
        await wait_for(pilot, lambda: "╭─ base " in shown(app) and "╭─ tuned " in shown(app), "two of three")
        await pilot.press("v")
        await wait_for(pilot, lambda: "╭─ long-run " in shown(app) and "╭─ base " not in shown(app), "another pair")
        await pilot.resize_terminal(120, 36)
        await wait_for(
            pilot, lambda: all(f"╭─ {title} " in shown(app) for title in ("base", "tuned", "long-run")), "all three"
        )


async def test_result_and_home_lead_to_the_comparison(run: RunDirectory, backend: FakeBackend) -> None:
    run.report_json_file.write_text("{}")
    backend.run_rows = [row_of(run)]
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: "commands · lora" in shown(app), "the run")
        await pilot.press("c")
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("down")
        await wait_for(pilot, lambda: "c Compare" in shown(app), "the key")
        await pilot.press("c")
        await wait_for(pilot, lambda: isinstance(app.screen, CompareScreen), "the comparison")
        await pilot.press("escape", "enter")
        await wait_for(pilot, lambda: isinstance(app.screen, ResultScreen) and "c Compare" in shown(app), "the result")
        await pilot.press("c")
        await wait_for(pilot, lambda: isinstance(app.screen, CompareScreen), "the comparison")
        await wait_for(pilot, lambda: "b Blind A/B" in shown(app), "its keys")
        await pilot.press("b")
        await wait_for(pilot, lambda: isinstance(app.screen, BlindScreen), "the blind test")


async def test_a_run_without_rows_offers_to_type(run: RunDirectory, backend: FakeBackend) -> None:
    run.held_out_file.unlink()
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: "t types one" in shown(app), "the offer")
        assert "Blind A/B" not in shown(app)
        await pilot.press("t", "x", "enter")
        await wait_for(pilot, lambda: "{+auto+} answers x" in shown(app), "the answer")


def test_words_are_marked_and_nothing_is_lost() -> None:
    removed, added = diff_parts("the cat sat\non the mat", "the dog sat\non a mat today")
    assert diffed(removed).plain == "the [-cat-] sat\non [-the-] mat"
    assert diffed(added).plain == "the {+dog+} sat\non {+a+} mat {+today+}"
    long = " ".join(f"w{number}" for number in range(3000))
    assert "".join(text for _, text in diff_parts(long, "")[0]) == long
    assert diff_parts("", "") == ([], [])


def test_a_model_that_repeats_itself_does_not_hold_the_screen() -> None:
    started = time.monotonic()
    removed, added = diff_parts("the " * 2000, "a the " * 1000)
    assert time.monotonic() - started < 5
    assert "".join(text for _, text in removed) == "the " * 2000
    assert "".join(text for _, text in added) == "a the " * 1000
    assert diff_parts("one " * 300, "one " * 300 + "two")[1][-1] == ("added", "two")


async def test_a_model_that_names_labels_stands_without_a_base(run: RunDirectory, backend: FakeBackend) -> None:
    plan = json.loads(run.plan_file.read_text())
    plan["recipe"]["objective"] = "classification"
    run.plan_file.write_text(json.dumps(plan))
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_compare(app, run)
        await wait_for(pilot, lambda: "auto answers" in shown(app), "its answer")
        assert "names no such labels" in shown(app)
        assert "╭─ base" not in shown(app)
        assert "Blind A/B" not in shown(app)


def test_runs_of_one_name_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    names = [f"20261120-14305{number}-commands-lora-{letters}" for number, letters in enumerate(("aaaa", "bbbb"))]
    one, other = (made_run(tmp_path / "runs", name) for name in names)
    titles = [side.title for side in read_material(one, Machine(""), other).sides]
    assert titles[:2] == ["base", "tuned"]
    assert titles[2].endswith("commands-lora-bbbb")


def test_models_share_memory_only_where_they_fit(run: RunDirectory) -> None:
    def read(gib: float | None) -> Any:
        free = None if gib is None else int(gib * 2**30)
        return read_material(run, Machine("", (), free, "host RAM"))

    assert read(8).together
    assert read(None).together
    assert not read(0.5).together
    assert "512 MiB are free" in read(0.5).memory_words
