"""The X-ray as line prompts: marks instead of colours, errors lead back, the question is asked."""

from dataclasses import asdict
from typing import Any

import pytest

from engine.recipe.problems import Problem, ProblemError
from tests.tui.fake_xray import ALL_TRAINED, FakeXray, sequence
from tui import plain
from tui.backend import XrayToken
from tui.engine_backend import no_tokenizer
from tui.plain_data import PlainProgress
from tui.plain_xray import page_lines, read_page
from tui.wizard.draft import Draft

ANSWERS = {"objective": "chat", "model.base": "m", "data.source": "d.jsonl"}


class Folder:
    folder = "/models/m"


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> FakeXray:
    """Return what the helper answers with."""
    made = FakeXray()
    monkeypatch.setattr(plain, "model_profile", lambda *_: Folder)
    monkeypatch.setattr(plain, "read_page", lambda *_: made.page(0, 3, "file"))
    return made


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    lines = iter(answers)
    monkeypatch.setattr("builtins.input", lambda: next(lines))


def look(answers: dict[str, Any] = ANSWERS) -> Draft:
    return plain._look_at_sequences(Draft(answers), None)  # type: ignore[arg-type]


def test_three_sequences_stand_as_text_with_marks(
    pages: FakeXray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, "")
    assert look() == Draft(ANSWERS)
    said = capsys.readouterr().out
    assert "62 % of all tokens are trained: the answers and the ends of turns." in said
    assert "«Altogether 24 clips.⟦<|im_end|>⟧»" in said
    assert "+ 312 padding" in said
    assert said.count("\nSequence ") == 3


def test_an_error_leads_back_and_says_why(
    pages: FakeXray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages.facts["problems"] = (Problem("preflight.p7", "All answers are cut.", "Raise training.max_length."),)
    answering(monkeypatch, "")
    with pytest.raises(plain._GoBack):
        look()
    streams = capsys.readouterr()
    assert "All answers are cut." in streams.out + streams.err


@pytest.mark.parametrize("answer", ["y", "n"])
def test_everything_trained_on_a_chat_asks(
    answer: str, pages: FakeXray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages.facts["problems"] = (ALL_TRAINED,)
    answering(monkeypatch, answer)
    if answer == "y":
        assert look().value("data.allow_all_trained") is True
    else:
        with pytest.raises(plain._GoBack):
            look()
    assert "Train on everything?" in capsys.readouterr().out


def test_without_a_tokenizer_it_goes_on(pages: FakeXray, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ProblemError(no_tokenizer())

    monkeypatch.setattr(plain, "read_page", missing)
    answering(monkeypatch, "")
    assert look() == Draft(ANSWERS)


def test_ctrl_c_cancels_the_reading_and_leads_back(
    pages: FakeXray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plain, "read_page", interrupted)
    with pytest.raises(plain._GoBack):
        look()
    assert capsys.readouterr().out.endswith("Cancelled.\n")


def test_no_folder_is_no_tokenizer() -> None:
    with pytest.raises(ProblemError) as raised:
        read_page(None, {}, None)  # type: ignore[arg-type]
    assert raised.value.problems[0].severity == "warning"


def test_the_helper_is_asked_for_the_first_sequences() -> None:
    page = asdict(FakeXray().page(0, 3, "file"))
    asked: list[dict[str, Any]] = []

    class Helper:
        def call_blocking(self, name: str, on_progress: Any, **arguments: Any) -> Any:
            asked.append(arguments)
            assert isinstance(on_progress, PlainProgress)
            return page

    assert len(read_page(Helper(), {"objective": "chat"}, "/models/m").sequences) == 3  # type: ignore[arg-type]
    assert asked == [{"recipe": {"objective": "chat"}, "folder": "/models/m", "start": 0, "count": 3, "order": "file"}]


def test_hostile_tokens_and_names_stay_text() -> None:
    made = FakeXray()
    tokens = (XrayToken("\x1b[2J[/INST]", True), XrayToken("\u202e", False))
    made.sequences = [sequence(0, tokens=tokens, row_ids=("\x1b]0;x\x07",), reasons=("\x07bell",))]
    said = "\n".join(page_lines(made.page(0, 3, "file")))
    assert not set(said) & {"\x1b", "\x07", "\u202e"}
    assert "[/INST]" in said
