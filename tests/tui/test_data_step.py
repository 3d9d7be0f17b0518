"""The data step: a reading under way, rows that are unclear, lengths, checks with their switches, fixes on one key."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.planning.data_words import CutRow
from engine.recipe.problems import Problem, ProblemError
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend, data_profile, shape_look
from tests.tui.snapshots import check_snapshot
from tests.tui.test_wizard import SIZES, shown, walk_to, wizard, wizard_app
from tui.backend import ShapeOffer, WorkProgress
from tui.widgets.histogram import Bar, Mark, histogram
from tui.wizard.lengths import chart_content, cut_sentence
from tui.wizard.settings_offered import offered_settings

EXAMPLE = {"prompt": "The river was high that spring and took the bridge.", "completion": "A bridge was lost."}
UNSURE = ProblemError(Problem("data.shape_unsure", "Can be read in 2 ways.", "Say which.", path="data.mapping"))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def unclear(backend: FakeBackend) -> FakeBackend:
    """Return an engine whose rows can be read in two ways until somebody says which."""
    evidence = "Read as {}: 'first' and 'second', by their lengths."
    backend.look = shape_look(
        offers=(
            ShapeOffer(
                "prompt_completion",
                {"prompt": "first", "completion": "second"},
                evidence.format("prompt_completion"),
                0.5,
                EXAMPLE,
            ),
            ShapeOffer(
                "source_target", {"source": "first", "target": "second"}, evidence.format("source_target"), 0.4, EXAMPLE
            ),
        ),
        columns={"first": EXAMPLE["prompt"], "second": EXAMPLE["completion"], "third": "x"},
    )
    backend.data_error = UNSURE
    return backend


async def chosen(pilot: Any) -> None:
    """Take the built-in data."""
    await walk_to(pilot, "data")
    await pilot.press("down", "enter")


async def test_a_reading_says_how_far_it_is_what_it_found_and_keys_work_meanwhile(backend: FakeBackend) -> None:
    backend.data_gate = asyncio.Event()
    backend.data_words = [
        WorkProgress("Reading tickets.jsonl", 1, 100, "bytes", "read as messages"),
        WorkProgress("Looking for duplicates", 43, 100),
    ]
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: "Looking for duplicates" in shown(pilot))
        assert "43%" in shown(pilot)
        assert "read as messages" in shown(pilot)
        await pilot.press("f1")
        await wait_for(pilot, lambda: app.screen.query("HelpPanel"), "the keys")
        await pilot.press("escape", "f3")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "model")
        await pilot.press("f4")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "data")
        await wait_for(pilot, lambda: "43%" in shown(pilot), "the reading that goes on")
        await pilot.press("escape")
        await wait_for(pilot, lambda: wizard(pilot).facts.data_state.progress == "failed")
        await wait_for(pilot, lambda: "cancelled" in shown(pilot))


async def test_enter_reads_cancelled_data_again_and_not_other_data(backend: FakeBackend) -> None:
    backend.data_gate = asyncio.Event()
    async with wizard_app(backend).run_test(size=(80, 24)) as pilot:
        await walk_to(pilot, "data")
        await pilot.press(*"./mine.jsonl", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.data_state.progress == "busy", "the reading")
        await pilot.press("escape")
        await wait_for(pilot, lambda: "→ Read again ./mine.jsonl" in shown(pilot), "the offer to read again")
        assert "Press enter to read the data again." in " ".join(shown(pilot).split())
        backend.data_gate.set()
        await pilot.press("enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None, "the data")
        assert wizard(pilot).draft.value("data.source") == "./mine.jsonl"


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_pictures_of_unclear_rows(
    size: tuple[int, int], unclear: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = wizard_app(unclear)
    async with app.run_test(size=size) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: wizard(pilot).facts.data_state.progress == "failed")
        await pilot.pause()
        check_snapshot(app, f"wizard-data-unclear-{size[0]}x{size[1]}", tmp_path)


async def test_a_digit_takes_a_way_to_read_unclear_rows(unclear: FakeBackend) -> None:
    app = wizard_app(unclear)
    async with app.run_test(size=(80, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: wizard(pilot).facts.data_state.progress == "failed")
        assert EXAMPLE["completion"] in shown(pilot)
        unclear.data_error = None
        await pilot.press("2")
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        assert unclear.profiled[-1]["data"]["format"] == "source_target"
        assert unclear.profiled[-1]["data"]["mapping"] == {"source": "first", "target": "second"}


async def test_unclear_rows_are_asked_about_before_all_of_them_are_read(unclear: FakeBackend) -> None:
    unclear.data_gate = asyncio.Event()
    app = wizard_app(unclear)
    async with app.run_test(size=(80, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: "How are these rows to be read?" in shown(pilot))
        assert wizard(pilot).facts.data_state.progress == "busy"


async def test_columns_of_unclear_rows_are_bound_by_hand(unclear: FakeBackend) -> None:
    app = wizard_app(unclear)
    async with app.run_test(size=(80, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: wizard(pilot).facts.data_state.progress == "failed")
        await pilot.press("c")
        await wait_for(pilot, lambda: "the first row as it is read" in shown(pilot))
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: "third" in shown(pilot))
        unclear.data_error = None
        await pilot.press("down", "down", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        assert wizard(pilot).draft.value("data.mapping") == {"prompt": "third", "completion": "second"}


async def test_a_length_is_taken_from_what_it_cuts(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        await pilot.press("right")
        await wait_for(pilot, lambda: "plan 408" in shown(pilot))
        await pilot.press("up")
        await wait_for(pilot, lambda: "9 rows lose the whole answer" in " ".join(shown(pilot).split()))
        await pilot.press("enter")
        await wait_for(pilot, lambda: wizard(pilot).draft.value("training.max_length") == 256)
        assert len(backend.profiled) == 1, "a length needs no other reading"


async def test_the_switch_of_a_check_is_turned_where_its_finding_stands(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        await pilot.press("right", "right")
        await wait_for(pilot, lambda: "3,000 read = 2,689 train + 299 held out + 12 dropped" in shown(pilot))
        backend.data_gate = asyncio.Event()
        await pilot.press("enter")
        await wait_for(pilot, lambda: "‹drop›" in shown(pilot), "the switch, while the data is read anew")
        backend.data_gate.set()
        await wait_for(pilot, lambda: backend.profiled[-1]["data"].get("cleaning") == {"near_duplicates": "drop"})
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        assert "[Problems]" in shown(pilot)


async def test_a_fix_that_is_a_setting_is_one_key(backend: FakeBackend) -> None:
    fix = "If that is right, set data.encoding: windows-1252. If not, save the file as UTF-8."
    backend.data_error = ProblemError(Problem("data.encoding", "a.csv:2:3 is byte 0x93.", fix, path="data.source"))
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: "Set data.encoding: windows-1252 and read again" in shown(pilot))
        backend.data_error = None
        await pilot.press("enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        assert backend.profiled[-1]["data"]["encoding"] == "windows-1252"


def test_only_settings_that_the_recipe_takes_are_offered(backend: FakeBackend) -> None:
    def fixes(*texts: str) -> list[Any]:
        return [dict(s) for s in offered_settings([Problem("x", "y", text) for text in texts], backend)]

    assert fixes("Set data.unwrap: rows to read the rows inside.") == [{"data.unwrap": "rows"}]
    assert fixes("Set data.cleaning.secrets: mask.") == [{"data.cleaning.secrets": "mask"}]
    assert fixes("Set data.cleaning.secrets: sing.", "Set data.nonsense: 3.", "Set data.mapping: x.") == []


def test_what_a_length_cuts_is_said_in_full() -> None:
    row = CutRow(512, 31, 0.021, 12, 2, 1204)
    said = cut_sentence(row, estimated=False)
    assert said == (
        "At 512: 31 rows (2.1%) lose 1,204 tokens; 12 rows a part of the answer; 2 rows lose the whole answer."
    )
    assert "estimated" in cut_sentence(row, estimated=True)


def test_estimated_lengths_say_so() -> None:
    profile = data_profile()
    assert profile.lengths is not None
    guessed = profile.model_copy(update={"lengths": profile.lengths.model_copy(update={"estimated": True})})
    assert "~ estimated" in chart_content(guessed, 408, 408, width=76, rows=4).plain
    assert "~" not in chart_content(profile, 408, 408, width=76, rows=4).plain


@pytest.mark.parametrize("width", [20, 40, 76, 118])
def test_a_histogram_stays_in_its_width_and_shows_every_bar_that_counts(width: int) -> None:
    bars = [Bar(str(2**n), 1 if n % 2 else 1000) for n in range(10)]
    lines = histogram(bars, [Mark(0, "a"), Mark(9, "z")], width=width, height=3).plain.split("\n")
    assert len(lines) == 5
    assert all(len(line) <= width for line in lines)
    slot = max(2, min(7, width // 10))
    assert all(lines[2][slot * number] != " " for number in range(10))
    assert (lines[-1][0], lines[-1][slot * 9]) == ("a", "z")


async def test_rows_are_written_as_wide_as_the_step_is(backend: FakeBackend) -> None:
    backend.data = data_profile(examples=[EXAMPLE])
    async with wizard_app(backend).run_test(size=(50, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: "The river was high" in shown(pilot))
        assert EXAMPLE["prompt"] not in shown(pilot)
        await pilot.resize_terminal(100, 30)
        await wait_for(pilot, lambda: EXAMPLE["prompt"] in shown(pilot), "the row in one line")


async def test_data_that_was_read_before_is_explained_and_not_the_list_that_it_was_picked_from(
    backend: FakeBackend,
) -> None:
    backend.recent = ["/data/letters.jsonl"]  # Its row is added to the list after the step is mounted.
    async with wizard_app(backend).run_test(size=(80, 24)) as pilot:
        await chosen(pilot)
        await wait_for(pilot, lambda: "What was found" in shown(pilot))
        await pilot.press("f3")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "model")
        await pilot.press("f4")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "data")
        await pilot.pause()
        assert "What was found" in shown(pilot)
