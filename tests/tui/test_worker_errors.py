"""Work in the background that fails unexpectedly ends in words on its screen, on every screen."""

from pathlib import Path

import pytest
from textual.widgets import Static

from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.test_wizard import shown
from tui.app import FtwizardApp
from tui.backend import Machine, RunRow
from tui.start import Home
from tui.worker_errors import MAX_CHARS, sentence_of


def _raise(*_: object) -> object:
    raise RuntimeError("the driver said \x1b[2J[bold")


async def test_the_first_screen_says_what_broke_once_and_goes_on(backend: FakeBackend) -> None:
    backend.machine = _raise
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: "RuntimeError: the driver said" in shown(pilot), "the words")
        assert "The machine cannot be read" in str(app.screen.query_one("#machine", Static).render())
        assert "\x1b" not in shown(pilot)


async def test_a_list_that_cannot_be_read_is_read_again_later(backend: FakeBackend) -> None:
    calls: list[int] = []

    def runs(limit: int) -> list[RunRow]:
        calls.append(limit)
        if len(calls) == 1:
            raise RuntimeError("once")
        return []

    backend.runs = runs  # type: ignore[method-assign]
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: "RuntimeError: once" in shown(pilot), "the words")
        await wait_for(pilot, lambda: len(calls) > 1, "another look")


async def test_the_monitor_and_the_result_say_what_broke(
    backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.results.screen.read_report", _raise)
    monkeypatch.setattr("tui.monitor.follower.RunFollower.open", _raise)
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        app.open_result(tmp_path)
        await wait_for(pilot, lambda: "The report cannot be read." in shown(pilot))
        await wait_for(pilot, lambda: "RuntimeError: the driver said" in " ".join(shown(pilot).split()), "the words")
        app.open_monitor(tmp_path, replacing=True)
        await wait_for(pilot, lambda: "The run cannot be read." in shown(pilot))


async def test_the_wizard_says_that_the_machine_cannot_be_read(backend: FakeBackend) -> None:
    seen: list[Machine] = []

    def machine() -> Machine:
        seen.append(Machine(""))
        raise RuntimeError("no driver")

    backend.machine = machine  # type: ignore[method-assign]
    app = FtwizardApp(Home(), backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        app.open_wizard()
        await wait_for(pilot, lambda: len(seen) == 2, "the wizard's own reading")
        await wait_for(pilot, lambda: "Unexpected error (machine)" in shown(pilot), "the words")


def test_a_long_error_is_cut_and_one_without_words_is_named() -> None:
    assert len(sentence_of(ValueError("x" * 5000))) <= MAX_CHARS
    assert sentence_of(KeyError()) == "KeyError"
