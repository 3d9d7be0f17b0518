"""The rows of a run directory: written once, read lazily, and the same on another machine."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.data import run_rows
from engine.data.pipeline import prepare
from engine.data.run_rows import RowLines, load_rows
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from engine.runs.directory import RunDirectory


def plan_of(folder: Path, **data: Any) -> Any:
    """Return what `load_rows` looks at of a plan."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q {n}?", "completion": f"a {n} é"}) + "\n" for n in range(80)))
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": str(path), **data}}
    recipe = Recipe.model_validate(tree)
    return SimpleNamespace(recipe=recipe, data=prepare(recipe).profile)


def test_the_first_attempt_writes_what_later_ones_read(tmp_path, monkeypatch):
    plan, run = plan_of(tmp_path, split={"test": 0.1}), RunDirectory(tmp_path / "run")
    prepared = prepare(plan.recipe)
    first = load_rows(run, plan)
    (tmp_path / "rows.jsonl").unlink()
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    again = load_rows(RunDirectory(tmp_path / "elsewhere"), plan)
    for rows in (first, again):
        assert rows.train == prepared.train_rows
        assert rows.held_out == prepared.held_out_rows
        assert rows.test == prepared.test_rows
        assert rows.train_sha256 == prepared.train_sha256
        assert rows.dropped == plan.data.dropped
    written = (tmp_path / "elsewhere/data/train.jsonl").read_bytes()
    assert hashlib.sha256(written).hexdigest() == prepared.train_sha256
    assert written == "".join(json.dumps(row) + "\n" for row in prepared.train_rows).encode()
    assert sorted(path.name for path in (tmp_path / "elsewhere/data").iterdir()) == [
        "held_out.jsonl",
        "test.jsonl",
        "train.jsonl",
    ]


@pytest.mark.parametrize("cached", [True, False])
def test_data_that_changed_since_the_plan_is_refused(tmp_path, cached):
    plan = plan_of(tmp_path)
    cache = tmp_path / "cache" if cached else None
    if cached:
        prepare(plan.recipe, cache=cache)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"prompt": "one", "completion": "more"}\n')
    with pytest.raises(ProblemError) as caught:
        load_rows(RunDirectory(tmp_path / "run"), plan, cache=cache)
    assert caught.value.problems[0].code == "data.changed"
    assert not (tmp_path / "run/data").exists()


def test_the_rows_of_the_plan_come_out_of_the_cache(tmp_path, monkeypatch):
    plan = plan_of(tmp_path)
    prepared = prepare(plan.recipe, cache=tmp_path / "cache")
    monkeypatch.setattr("engine.data.pipeline.read_raw", None)
    assert load_rows(RunDirectory(tmp_path / "run"), plan, cache=tmp_path / "cache").train == prepared.train_rows


class TestLines:
    def rows(self) -> list[dict[str, Any]]:
        return [{"id": f"r:{n}", "text": f"text\n{n} " * (n % 7)} for n in range(500)]

    def test_are_a_sequence_like_a_list(self, tmp_path, monkeypatch):
        monkeypatch.setattr(run_rows, "_TOUCHED_BYTES", 100)
        rows = self.rows()
        (tmp_path / "rows.jsonl").write_text("\n \n".join(json.dumps(row) for row in rows))
        lines = RowLines(tmp_path / "rows.jsonl")
        assert lines == rows
        assert lines[-1] == rows[-1]
        assert lines[490:20:-3][5:9] == rows[490:20:-3][5:9]
        assert list(reversed(lines)) == rows[::-1]
        assert lines != rows[1:]
        with pytest.raises(IndexError):
            lines[500]

    def test_of_an_empty_file_are_none(self, tmp_path):
        (tmp_path / "rows.jsonl").write_text("")
        assert not RowLines(tmp_path / "rows.jsonl")
        assert list(RowLines(tmp_path / "rows.jsonl")) == []
