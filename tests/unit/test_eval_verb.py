"""What `ftwizard eval` prints of a measurement, and the data section that its options stand for."""

from pathlib import Path
from typing import Any

import pytest

from engine.recipe.problems import ProblemError
from tui.verbs import eval as verb
from tui.verbs.eval import EvalWish, data_tree

MEASUREMENT: dict[str, Any] = {"num_rows": 20, "num_tokens": 0, "num_generated": 0, "elapsed_s": 1.0, "samples": []}
CONTENT: dict[str, Any] = {
    "model": {"name": "tiny"},
    "data": {"source": ["/somewhere/rows.jsonl"], "num_found": 40, "num_measured": 20},
    "objective": "chat",
    "why": "as you said",
    "kept": False,
    "metrics": [],
    "measurement": MEASUREMENT,
    "remarks": [],
    "file": "kept.json",
}


def test_a_sample_of_empty_lines_fills_no_screen(capsys: pytest.CaptureFixture[str]) -> None:
    sample = {"prompt": "go on", "expected": "yes", "text": "\n" * 200 + "at last\x1b[2J\n\n" + "more\n" * 50}
    verb._print({**CONTENT, "measurement": {**MEASUREMENT, "samples": [sample]}}, None)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 20
    assert "\x1b" not in shown


def test_rows_that_were_drawn_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    verb._print(CONTENT, None)
    assert "rows.jsonl: 20 of 40 rows, drawn with the seed" in capsys.readouterr().out


def test_the_data_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("")
    tree = data_tree(EvalWish("rows.jsonl", changes=("data.mapping.prompt=question",)))
    assert tree == {"source": str(tmp_path / "rows.jsonl"), "mapping": {"prompt": "question"}}
    assert data_tree(EvalWish("builtin:commands")) == {"source": "builtin:commands"}
    with pytest.raises(ProblemError, match="says nothing"):
        data_tree(EvalWish("rows.jsonl", changes=("training.seed=1",)))
