"""The data prompts: lines about progress, unclear rows as numbered answers, lengths and problems as text."""

from typing import Any

import pytest

from engine.planning.profiles import DataProfile, Finding, LengthCut, LengthProfile
from engine.recipe.problems import Problem, ProblemError
from tui.plain import _ask_data
from tui.plain_data import PlainProgress, print_data, progress_line
from tui.wizard.draft import Draft

OFFERS = [
    {
        "format": name,
        "mapping": {"prompt": "first", "completion": "second"},
        "evidence": f"Read as {name}.",
        "confidence": 0.5,
        "example": {"prompt": "a \x1b[2J question", "completion": "an answer"},
    }
    for name in ("prompt_completion", "messages")
]


def profile(**changes: Any) -> DataProfile:
    facts: dict[str, Any] = {
        "format": "prompt_completion",
        "num_rows": 2000,
        "num_train": 1780,
        "num_held_out": 198,
        "dropped": {"duplicate": 20, "empty_answer": 2},
        "lengths": LengthProfile(count=1780, mean=100.0, p50=90, p90=180, p99=400, longest=900, total=178_000),
        "cuts": [LengthCut(length=512, num_cut=31, num_answers_cut=12, num_answers_lost=2, lost_tokens=1204)],
        "examples": [{"prompt": "hi", "completion": "ho"}],
    }
    return DataProfile(**(facts | changes))


class FakeHelper:
    """Answers as the helper does; rows are unclear until a shape is chosen."""

    def __init__(self) -> None:
        self.recipes: list[dict[str, Any]] = []

    def start(self) -> None:
        """Nothing to start."""

    def call_blocking(self, name: str, on_progress: Any = None, **arguments: Any) -> Any:
        if name == "shape_offers":
            return {"offers": OFFERS, "columns": {}, "num_rows": 2}
        self.recipes.append(arguments["recipe"])
        if "format" not in arguments["recipe"]["data"]:
            raise ProblemError(Problem("data.shape_unsure", "Two ways.", "Say which.", path="data.mapping"))
        return profile().model_dump(mode="json")


def test_unclear_rows_are_numbered_answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter(["rows.jsonl", "?", "2"])
    monkeypatch.setattr("builtins.input", lambda: next(answers))
    draft = Draft({"objective": "chat", "model.base": "builtin:starter"})
    helper = FakeHelper()
    answered = _ask_data(draft, helper)  # type: ignore[arg-type]
    assert answered.value("data.format") == "messages"
    assert answered.value("data.mapping") == {"prompt": "first", "completion": "second"}
    said = capsys.readouterr().out
    assert "2. 50% Read as messages." in said
    assert "\x1b" not in said


def test_other_data_forgets_how_the_rows_of_before_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["other.jsonl", "", "again.jsonl", "1"])
    monkeypatch.setattr("builtins.input", lambda: next(answers))
    you = {"objective": "chat", "model.base": "builtin:starter", "data.source": "old.jsonl", "data.format": "text"}
    helper = FakeHelper()
    answered = _ask_data(Draft(you), helper)  # type: ignore[arg-type]
    assert "format" not in helper.recipes[0]["data"]
    assert answered.value("data.source") == "again.jsonl"


def test_every_row_every_length_and_every_problem_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_data(profile(findings=[Finding(code="x", message="Something is odd.", severity="warning")]))
    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert "2,000 read = 1,780 train + 198 held out + 22 dropped." in said
    assert "dropped: 2 empty answer" in said
    assert "512" in said
    assert "31 (1.7%)" in said
    assert "1,204" in said
    assert "Something is odd." in said


def test_progress_is_a_line_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 5.0, 7.0, 10.5])
    tell = PlainProgress(clock=lambda: next(times))
    for done in (1, 2, 3, 4):
        tell({"stage": "Reading a.jsonl", "done": done, "total": 4, "unit": "bytes", "found": ""})
    assert capsys.readouterr().out.splitlines() == ["  Reading a.jsonl: 50%", "  Reading a.jsonl: 100%"]


def test_a_line_says_what_was_found() -> None:
    word = {"stage": "Reading", "done": 12431, "total": 0, "unit": "rows", "found": "read as messages"}
    assert progress_line(word) == "  Reading: 12,431 rows; read as messages"
