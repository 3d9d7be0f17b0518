"""Judging without names: nothing tells which is which before the end, and what was judged is kept."""

import json
import random
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.evaluation.blind_process import win_rate_row
from engine.runs.blind_file import blind_file, load_test, models_mark, new_test, save_test
from engine.runs.directory import RunDirectory
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.fake_talkers import FakeTalkers
from tests.tui.snapshots import check_snapshot
from tests.tui.test_compare import HOSTILE, held_out, made_run, shown
from tui.app import FtwizardApp
from tui.compare import blind_screen
from tui.compare.blind import Pair, verdict_sentence
from tui.compare.blind_screen import BlindScreen
from tui.compare.sides import read_material
from tui.home.screen import HomeScreen
from tui.start import Home

NUM_PROMPTS = 8
PAIRS = [(f"question {number}", "right") for number in range(NUM_PROMPTS)]


@pytest.fixture(autouse=True)
def _fixed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind_screen, "_NEW_SEED", 7)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = made_run(tmp_path / "runs")
    held_out(run, PAIRS)
    return run


def answer_with(backend: FakeBackend, table: dict[str, str]) -> FakeTalkers:
    backend.talkers = FakeTalkers(lambda which, prompt: f"{table[which]} to {prompt}")
    return backend.talkers


def open_blind(app: FtwizardApp, run: RunDirectory, backend: FakeBackend) -> BlindScreen:
    screen = BlindScreen(run, read_material(run, backend.machine()), backend)
    app.push_screen(screen)
    return screen


def pair_number(app: FtwizardApp) -> int:
    found = re.search(r"Prompt (\d+) of", shown(app))
    return int(found[1]) if found else 0


def better_key(app: FtwizardApp, words: str) -> str:
    """Return the key of the column that holds some words."""
    line = next(line for line in shown(app).split("\n") if words in line)
    return "1" if line.index(words) < 40 else "2"


async def judge_all(app: FtwizardApp, pilot: Any, words: str, start: int = 1) -> None:
    for number in range(start, NUM_PROMPTS + 1):
        await wait_for(pilot, lambda number=number: pair_number(app) == number, f"pair {number}")
        await pilot.press(better_key(app, words))


async def test_a_planted_winner_is_found_and_revealed_at_the_end(
    run: RunDirectory, backend: FakeBackend, tmp_path: Path
) -> None:
    answer_with(backend, {"base": "poor", "auto": "good"})
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_blind(app, run, backend)
        await wait_for(pilot, lambda: pair_number(app) == 1, "the first pair")
        await pilot.pause()
        check_snapshot(app, "blind-80x24", tmp_path)
        await judge_all(app, pilot, "good")
        await wait_for(pilot, lambda: "Win rate of tuned: 100.0 %" in shown(app), "the result")
        assert "beyond luck" in shown(app)
        assert "tuned won 8, base won 0, 0 ties, of 8 prompts." in shown(app)
        await pilot.pause()
        check_snapshot(app, "blind-result-80x24", tmp_path)
    kept = json.loads(blind_file(run).read_text())["tests"][0]
    assert [one["choice"] for one in kept["judged"]] == ["second"] * NUM_PROMPTS
    assert kept["result"]["after"] == 1.0
    # Both orders were shown, so that the place says nothing.
    assert {one["swapped"] for one in kept["judged"]} == {True, False}


async def test_a_person_who_likes_places_gives_no_evidence(run: RunDirectory, backend: FakeBackend) -> None:
    answer_with(backend, {"base": "poor", "auto": "good"})
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_blind(app, run, backend)
        for number in range(1, NUM_PROMPTS + 1):
            await wait_for(pilot, lambda number=number: pair_number(app) == number, f"pair {number}")
            await pilot.press("1" if number % 2 else "0")
        await wait_for(pilot, lambda: "Win rate of tuned:" in shown(app), "the result")
        assert "no evidence" in shown(app)


async def test_nothing_on_the_screen_tells_which_is_which(run: RunDirectory, backend: FakeBackend) -> None:
    talkers = answer_with(backend, {"base": "short", "auto": "long " * 30})
    talkers.gates = {"base": threading.Event(), "auto": threading.Event()}
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        screen = open_blind(app, run, backend)
        talkers.gates["auto"].set()
        await wait_for(pilot, lambda: talkers.opened and "auto: question 0" in talkers.log, "one answer")
        await pilot.pause(0.2)
        # The one that is faster is not shown, nor counted, before the other is there.
        assert "both have written" in shown(app)
        assert "long" not in shown(app)
        talkers.gates["base"].set()
        await wait_for(pilot, lambda: pair_number(app) == 1, "the pair")
        for _ in range(3):
            picture = shown(app).lower()
            assert not re.search(r"base|tuned|lora|full|token|second", picture.replace("commands-lora", ""))
            sizes = {screen.query_one(f"#blind-column-{name}").region.size for name in ("1", "2")}
            assert len(sizes) == 1
            await pilot.press("1")


async def test_a_test_goes_on_where_it_was_left_in_the_same_order(run: RunDirectory, backend: FakeBackend) -> None:
    answer_with(backend, {"base": "poor", "auto": "good"})
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_blind(app, run, backend)
        for number in (1, 2, 3):
            await wait_for(pilot, lambda number=number: pair_number(app) == number, f"pair {number}")
            await pilot.press(better_key(app, "good"))
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, HomeScreen))
        await wait_for(pilot, lambda: all(talker.closed for talker in backend.talkers.opened), "the end of processes")
        blind_screen._NEW_SEED = 8
        asked = len(backend.talkers.log)
        open_blind(app, run, backend)
        await judge_all(app, pilot, "good", start=4)
        await wait_for(pilot, lambda: "tuned won 8" in shown(app), "the result")
        assert "base: question 0" not in backend.talkers.log[asked:]
        assert json.loads(blind_file(run).read_text())["tests"][0]["seed"] == 7
        # A finished test shows its result at once, and can begin anew.
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, HomeScreen))
        opened = len(backend.talkers.opened)
        open_blind(app, run, backend)
        await wait_for(pilot, lambda: "tuned won 8" in shown(app), "the result again")
        assert len(backend.talkers.opened) == opened
        await pilot.press("a")
        await wait_for(pilot, lambda: pair_number(app) == 1, "the first pair again")


async def test_equal_answers_are_ties_that_nobody_is_asked_about(run: RunDirectory, backend: FakeBackend) -> None:
    answer_with(backend, {"base": "same", "auto": "same"})
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_blind(app, run, backend)
        await wait_for(pilot, lambda: "8 ties (8 with the same answer)" in shown(app), "the result")
        assert "no evidence" in shown(app)


async def test_prompts_that_a_model_cannot_answer_are_counted(run: RunDirectory, backend: FakeBackend) -> None:
    backend.talkers = FakeTalkers(
        lambda which, prompt: "!Too long." if which == "base" and prompt.endswith("0") else f"{which} {prompt}"
    )
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_blind(app, run, backend)
        await judge_all(app, pilot, "auto", start=2)
        await wait_for(pilot, lambda: "1 prompts could not be answered by both. Too long." in shown(app), "the count")


async def test_hostile_answers_are_shown_as_written(run: RunDirectory, backend: FakeBackend) -> None:
    answer_with(backend, {"base": HOSTILE, "auto": HOSTILE + HOSTILE})
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        open_blind(app, run, backend)
        await wait_for(pilot, lambda: pair_number(app) == 1, "the pair")
        assert "[/INST]" in shown(app)
        assert not {"\x1b", "\u202e"} & set(shown(app))


async def test_models_that_take_turns_write_everything_before_the_other_is_loaded(
    run: RunDirectory, backend: FakeBackend
) -> None:
    from dataclasses import replace

    answer_with(backend, {"base": "poor", "auto": "good"})
    material = replace(read_material(run, backend.machine()), together=False)
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        app.push_screen(BlindScreen(run, material, backend))
        await wait_for(pilot, lambda: pair_number(app) == 1, "the pair")
        log = backend.talkers.log
        assert log.index("close base") < log.index("ready auto")
        assert len([line for line in log if line.startswith("base: ")]) == NUM_PROMPTS


def test_other_weights_or_a_damaged_file_begin_anew(run: RunDirectory) -> None:
    test = new_test(("base", "tuned"), "mark", 3)
    judgement = Pair(read_prompts(run)[0], "a", "b", swapped=True).judged("1")
    assert judgement.choice == "second"
    save_test(run, test.with_judgement(judgement))
    loaded = load_test(run, ("base", "tuned"), "mark")
    assert loaded is not None
    assert loaded.judged == (judgement,)
    assert load_test(run, ("base", "tuned"), "other") is None
    assert load_test(run, ("tuned", "run:x"), "mark") is None
    save_test(run, new_test(("tuned", "run:x"), "mark", 4))
    assert load_test(run, ("base", "tuned"), "mark") == loaded
    for damage in ('{"version": 1, "tests": [1, {"sides": ["base"]}]}', "{", "[]", '{"version": 9}'):
        blind_file(run).write_text(damage)
        assert load_test(run, ("base", "tuned"), "mark") is None


def test_the_mark_of_models_follows_their_weights(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"a" * 100)
    mark = models_mark([tmp_path])
    assert models_mark([tmp_path]) == mark
    file.write_bytes(b"a" * 99 + b"b")
    assert models_mark([tmp_path]) != mark


def read_prompts(run: RunDirectory) -> Any:
    from engine.runs.held_out_prompts import held_out_prompts

    return held_out_prompts(run, 50)


def test_the_order_is_drawn_and_even() -> None:
    test = new_test(("base", "tuned"), "", 1)
    swapped = [test.swapped(f"rows.jsonl:{number}") for number in range(400)]
    assert 160 < sum(swapped) < 240
    assert swapped != [new_test(("base", "tuned"), "", 2).swapped(f"rows.jsonl:{number}") for number in range(400)]


def test_the_win_rate_and_its_verdict_are_those_of_the_reports() -> None:
    ids = [str(number) for number in range(20)]
    better = win_rate_row(ids, [1.0] * 16 + [0.0] * 4)
    assert better["after"] == pytest.approx(0.8)
    assert verdict_sentence(better, "tuned", "base")[0].startswith("▲ You like the answers of tuned")
    worse = win_rate_row(ids, [0.0] * 17 + [1.0] * 3)
    assert "base better" in verdict_sentence(worse, "tuned", "base")[0]
    even = win_rate_row(ids, random.Random(1).choices([0.0, 1.0], k=20))
    assert "no evidence" in verdict_sentence(even, "tuned", "base")[0]
    assert "no evidence" in verdict_sentence(win_rate_row([], []), "tuned", "base")[0]
