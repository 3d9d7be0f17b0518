"""The model step as line prompts: what suits and fits, a search on the hub, and what happens without one."""

from typing import Any

import pytest

from engine.recipe.problems import Problem, ProblemError
from tests.tui.fake_backend import model_profile
from tui import plain, plain_model
from tui.backend import ModelOffer
from tui.plain_model import first_choice, offer_details, offer_summary
from tui.wizard.draft import Draft

OFFERS = [
    ModelOffer("made/small", "Small", "A small one.", 10**8, 2 * 10**8, "mit", "download", "fits", gated=True),
    ModelOffer("builtin:starter", "Starter", "Tiny.", 10**6, 4 * 10**6, "apache-2.0", "built in", "fits, even full"),
]


class Helper:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def call_blocking(self, name: str, **arguments: Any) -> Any:
        self.asked.append({"name": name, **arguments})
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def found(*names: str) -> dict[str, Any]:
    facts = {"num_params": 5, "licence": "", "languages": "en", "gated": False, "downloads": 3}
    return {"models": [{"reference": name, **facts} for name in names], "left_out": 0}


def told(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    return " ".join(f"{shown.out} {shown.err}".split())


def asked_model(monkeypatch: pytest.MonkeyPatch, helper: Helper, *answers: str, objective: str = "chat") -> str:
    given = list(answers)
    monkeypatch.setattr(plain, "suited_offers", lambda _: (OFFERS, 2))
    monkeypatch.setattr(plain, "model_profile", lambda base, *_: model_profile(base))
    monkeypatch.setattr(plain, "_ask", lambda question, default="", *_: given.pop(0) or default)
    draft = plain._ask_model(Draft({"objective": objective}), helper)  # type: ignore[arg-type]
    return str(draft.value("model.base"))


def test_an_empty_line_takes_the_starter_and_the_rest_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked_model(monkeypatch, Helper(), "") == "builtin:starter"
    shown = capsys.readouterr().out
    assert "2 more of the catalogue do not fit this machine." in shown
    assert "mit, gated" in shown


def test_a_search_lists_what_the_hub_found_and_its_number_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    helper = Helper(found("made/one", "made/two"))
    assert asked_model(monkeypatch, helper, "search tiny stories", "2") == "made/two"
    assert helper.asked == [{"name": "search_hub", "words": "tiny stories", "objective": "chat"}]


def test_without_a_hub_the_catalogue_stays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    offline = ProblemError(Problem("model.search_offline", "The model hub is switched off.", "Type a folder."))
    assert asked_model(monkeypatch, Helper(offline, found()), "search a", "search b", "1") == "made/small"
    shown = told(capsys)
    assert "The model hub is switched off." in shown
    assert "The hub names no model for these words" in shown


def test_a_model_that_the_objective_does_not_train_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profiles = {"made/bert": {"kind": "encoder"}, "made/small": {}}
    given = ["made/bert", "1"]
    monkeypatch.setattr(plain, "suited_offers", lambda _: (OFFERS, 0))
    monkeypatch.setattr(plain, "model_profile", lambda base, *_: model_profile(base, **profiles[base]))
    monkeypatch.setattr(plain, "_ask", lambda question, default="", *_: given.pop(0) or default)
    draft = plain._ask_model(Draft({"objective": "chat"}), Helper())  # type: ignore[arg-type]
    assert draft.value("model.base") == "made/small"
    assert "trains decoders; this is an encoder" in told(capsys)


def test_words_of_an_offer() -> None:
    assert offer_summary(OFFERS[0]) == "100 M weights; 191 MiB download; mit, gated; fits."
    assert "accepted on the hub first" in offer_details(OFFERS[0])
    assert first_choice(OFFERS) == "builtin:starter"
    assert first_choice(OFFERS[:1]) == "made/small"


def test_the_catalogue_is_judged_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backend:
        def machine(self) -> None:
            return None

        def model_offers(self, machine: None, objective: str) -> list[ModelOffer]:
            blocked = ModelOffer("made/huge", "Huge", "x", blocked="Needs more.")
            other = ModelOffer("made/bert", "Bert", "x", unsuited="An encoder.")
            return [*OFFERS, blocked, other]

    monkeypatch.setattr(plain_model, "EngineBackend", Backend)
    assert plain_model.suited_offers("chat") == (OFFERS, 1)
