"""What tests of the screens share: fixed facts, fixed time, a cursor that does not blink, and waiting for facts."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.fake_backend import FakeBackend

WAIT_LIMIT_S = 10.0


@pytest.fixture
def backend(tmp_path: Path) -> FakeBackend:
    """Return an engine with fixed facts whose drafts lie in the test's folder."""
    return FakeBackend(tmp_path / "drafts")


@pytest.fixture(autouse=True)
def _still_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    real_init = Input.__init__

    def init(self: Input, *args: object, **kwargs: object) -> None:
        real_init(self, *args, **kwargs)  # type: ignore[arg-type]
        self.cursor_blink = False

    monkeypatch.setattr(Input, "__init__", init)


async def wait_for(pilot: "Pilot[Any]", predicate: Callable[[], object], what: str = "") -> None:
    """Wait until `predicate` holds, at most ten seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WAIT_LIMIT_S
    while not predicate():
        if loop.time() > deadline:
            raise AssertionError(f"waited in vain for {what or predicate}")
        await pilot.pause(0.01)
