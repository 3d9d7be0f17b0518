"""The method step as line prompts: the same table, numbers and words instead of marks."""

import builtins
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.recipe.sources import Layered
from tests.tui.fake_backend import CPU_ONLY, data_profile, make_plan, model_profile
from tui import plain
from tui.preparation import Prepared
from tui.wizard.draft import Draft, new_draft

ANSWERS = {"objective": "chat", "model": {"base": "m"}, "data": {"source": "d.jsonl"}}
Ask = Callable[..., Draft]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return the method step with fixed plans, answered by the lines given."""

    def prepare(layered: Layered, helper: Any, *, reference: str) -> Prepared:
        return Prepared(layered, make_plan(layered, model_profile(), data_profile(), CPU_ONLY, []))

    monkeypatch.setattr(plain, "prepare", prepare)

    def answered(*lines: str, draft: Draft | None = None) -> Draft:
        left: Iterator[str] = iter(lines)
        monkeypatch.setattr(builtins, "input", lambda: next(left))
        return plain._ask_method(draft or new_draft(you=ANSWERS), None)  # type: ignore[arg-type]

    return answered


def test_the_table_says_in_words_what_the_screen_marks(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("").value("method.name") is None
    shown = capsys.readouterr().out
    assert "LoRA                ~2.1 of 5.2 GiB" in shown
    assert "recommended, chosen" in shown
    assert "does not fit" in shown
    assert "cannot run here" in shown
    assert "512 tokens cover 99.1 % of the rows" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if line[:1].isdigit())


@pytest.mark.parametrize("answer", ["3", "qlora"])
def test_a_number_or_a_name_takes_an_option(answer: str, ask: Ask) -> None:
    assert ask(answer).you["method.name"] == "qlora"


def test_what_cannot_run_or_is_not_there_is_asked_again(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("5", "99", "²", "2").you["method.name"] == "lora"
    shown = capsys.readouterr().out
    assert "It cannot run here: one run uses one GPU in this version" in shown
    assert shown.count("is not in the list") == 2


def test_a_question_mark_explains_every_option(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    ask("?", "1")
    shown = capsys.readouterr().out
    assert "micro-batch 4 × accumulation 4" in shown
    assert "Close to LoRA; rounding the base model costs a little" in shown


def test_a_way_makes_it_fit_and_the_table_comes_again(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    full = new_draft(you=ANSWERS).taking({"method.name": "full"})
    draft = ask("6", "full", draft=full)
    shown = capsys.readouterr().out
    assert "makes it fit" in shown
    assert shown.count("Decide for me") == 2
    assert draft.you["method.name"] == "full"


def test_deciding_oneself_takes_the_choice_back(ask: Ask) -> None:
    draft = new_draft(you=ANSWERS).taking({"method.name": "qlora", "training.optimizer": "paged_adamw_8bit"})
    assert set(ask("1", draft=draft).you) == {"objective", "model.base", "data.source"}
