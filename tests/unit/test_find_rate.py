"""`ftwizard find-rate`: the curve and the suggestion for people and for scripts; leaving changes nothing."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from engine.planning.rate_curve import RatePoint
from tests.unit.made_plans import plan
from tests.unit.test_rate_curve import LOWEST, curve, planted
from tui.verbs import find_rate as verb
from tui.verbs.output import EXIT_LEFT


class Sweep:
    """A sweep that is planted; `leave` presses ctrl+c in its middle."""

    def __init__(self, points: list[RatePoint], *, leave: bool = False) -> None:
        self._points, self._leave = points, leave
        self.cancelled = False

    def points(self) -> Iterator[RatePoint]:
        yield from self._points[:5]
        if self._leave:
            raise KeyboardInterrupt
        yield from self._points[5:]

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(sweep: Sweep) -> None:
        made = plan({"method.name": "lora", "training.learning_rate": 2e-4})
        monkeypatch.setattr("tui.preparation.read_reference", lambda *_: None)
        monkeypatch.setattr("tui.preparation.prepare", lambda *_, **__: SimpleNamespace(plan=made))
        monkeypatch.setattr("engine.planning.rate_search.RateSearch", lambda *_: sweep)

    return of


def test_people_see_a_curve_a_suggestion_and_the_command_that_takes_it(
    swept: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(Sweep(curve(planted)))
    assert verb.find_rate("mine.yaml", [], as_json=False) == 0
    shown = capsys.readouterr().out
    assert "Suggested: " in shown
    assert "1e-4" in shown
    assert "usual for the method" in shown
    assert "ftwizard run mine.yaml --set training.learning_rate=" in shown


def test_scripts_get_points_and_reasons(swept: Any, capsys: pytest.CaptureFixture[str]) -> None:
    swept(Sweep(curve(planted)))
    assert verb.find_rate("mine.yaml", [], as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["suggested"] < LOWEST
    assert document["planned"] == 2e-4
    assert document["usual"]["low"] < document["usual"]["high"]
    assert len(document["points"]) == 80
    assert document["reason"]


def test_a_flat_curve_suggests_nothing_and_offers_no_command(swept: Any, capsys: pytest.CaptureFixture[str]) -> None:
    swept(Sweep(curve(lambda _: 5.0)))
    assert verb.find_rate("mine.yaml", [], as_json=False) == 0
    shown = capsys.readouterr().out
    assert "No suggestion." in shown
    assert "Take it" not in shown


def test_ctrl_c_ends_the_sweep(swept: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep(curve(planted), leave=True)
    swept(sweep)
    assert verb.find_rate("mine.yaml", [], as_json=False) == EXIT_LEFT
    assert sweep.cancelled
    assert "Nothing was changed" in capsys.readouterr().err
