"""The search on the model hub in the wizard's model step: on demand, cancelled, offline, hostile."""

import asyncio

import pytest
from textual.pilot import Pilot

from engine.recipe.problems import Problem, ProblemError
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.snapshots import check_snapshot
from tests.tui.test_wizard import shown, walk_to, wizard, wizard_app
from tui.backend import HubAnswer, HubModel

HOSTILE = "evil/[red]x\x1b[2J"


async def search(pilot: Pilot[None], words: str) -> None:
    await pilot.press("f5")
    await pilot.press(*words)
    await pilot.press("enter")


async def test_nothing_is_searched_until_enter(backend: FakeBackend) -> None:
    async with wizard_app(backend).run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        assert "F5 searches the model hub" in shown(pilot)
        await pilot.press("f5")
        await pilot.press(*"story")
        await pilot.pause()
        assert "Search the hub for story" in shown(pilot)
        assert "Qwen3 0.6B" not in shown(pilot)
        assert backend.searched == []
        await pilot.press("enter")
        await wait_for(pilot, lambda: "made/one" in shown(pilot), "the results")
        assert backend.searched == [("story", "chat")]
        assert "llama3.1 gated" in shown(pilot)
        assert "2 models, most downloaded first. 3 more do not suit the objective." in shown(pilot)


async def test_a_result_is_taken_as_any_other_hub_model(backend: FakeBackend) -> None:
    async with wizard_app(backend).run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await search(pilot, "story")
        await wait_for(pilot, lambda: "made/one" in shown(pilot), "the results")
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.model is not None, "the model")
        assert wizard(pilot).draft.value("model.base") == "made/gated-two"


async def test_a_search_is_cancelled_and_left_by_escape(backend: FakeBackend) -> None:
    backend.hub_gate = asyncio.Event()
    async with wizard_app(backend).run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await search(pilot, "story")
        await wait_for(pilot, lambda: "Searching the hub for story" in shown(pilot), "the search")
        await pilot.press("escape")
        await wait_for(pilot, lambda: "Searching the hub" not in shown(pilot), "the end of the search")
        backend.hub_gate.set()
        await pilot.pause()
        assert "made/one" not in shown(pilot)
        await pilot.press("escape")
        await wait_for(pilot, lambda: "Qwen3 0.6B" in shown(pilot), "the catalogue")
        assert wizard(pilot).draft.step == "model"


async def test_offline_it_is_said_and_the_catalogue_still_works(backend: FakeBackend) -> None:
    refusal = Problem("model.search_offline", "The model hub is switched off, so it cannot be searched.", "Unset it.")
    backend.hub_error = ProblemError(refusal)
    async with wizard_app(backend).run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await search(pilot, "story")
        await wait_for(pilot, lambda: "The model hub is switched off" in shown(pilot), "the reason")
        await pilot.press("escape", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.model is not None, "the model")
        assert wizard(pilot).draft.value("model.base") == "Qwen/Qwen3-0.6B"


async def test_nothing_found_is_said(backend: FakeBackend) -> None:
    backend.hub_answer = HubAnswer((), 7)
    async with wizard_app(backend).run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await search(pilot, "zzz")
        await wait_for(pilot, lambda: "The hub names no model for these words" in shown(pilot), "the answer")
        assert "7 more do not suit the objective" in shown(pilot)


async def test_hostile_names_are_shown_as_text(backend: FakeBackend) -> None:
    backend.hub_answer = HubAnswer((HubModel(HOSTILE, 1, HOSTILE, HOSTILE, True, 1),), 0)
    async with wizard_app(backend).run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await search(pilot, "[/red]")
        await wait_for(pilot, lambda: "evil/[red]x" in shown(pilot), "the result")
        assert "\x1b" not in shown(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_the_search_looks_as_it_did(backend: FakeBackend, size: tuple[int, int], tmp_path) -> None:  # type: ignore[no-untyped-def]
    app = wizard_app(backend)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await search(pilot, "story")
        await wait_for(pilot, lambda: "made/one" in shown(pilot), "the results")
        await pilot.pause()
        check_snapshot(app, f"wizard-model-hub-{size[0]}x{size[1]}", tmp_path)
