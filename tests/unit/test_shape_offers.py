"""The ways to read rows that are offered from the first rows of a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.progress import Progress, WorkWatch
from engine.data.shape_offers import FIRST_ROWS, shape_offers
from engine.recipe.problems import ProblemError
from engine.recipe.read import check_recipe


def recipe_of(path: Path, **data: Any) -> Any:
    tree = {"objective": "chat", "model": {"base": "builtin:starter"}, "data": {"source": str(path), **data}}
    return check_recipe(tree, name="recipe")


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


PROSE = [
    {
        "first": f"The river {number} was high that spring and took the bridge with it, as it had done before.",
        "second": f"A bridge was lost to river {number} in spring, and nobody was surprised by that at all.",
    }
    for number in range(40)
]


def test_two_columns_of_prose_are_offered_and_none_is_certain(tmp_path: Path) -> None:
    look = shape_offers(recipe_of(written(tmp_path / "a.jsonl", PROSE)))
    assert look["offers"]
    assert all(offer["confidence"] < 0.8 for offer in look["offers"])
    assert {column for offer in look["offers"] for column in offer["mapping"].values()} == {"first", "second"}
    assert any(PROSE[0]["first"] in offer["example"].values() for offer in look["offers"])
    assert look["columns"] == PROSE[0]


def test_what_the_recipe_says_comes_first_with_its_first_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", PROSE)
    look = shape_offers(recipe_of(path, mapping={"prompt": "second", "completion": "first"}))
    first = look["offers"][0]
    assert (first["format"], first["confidence"]) == ("prompt_completion", 1.0)
    assert first["example"] == {"prompt": PROSE[0]["second"], "completion": PROSE[0]["first"]}
    assert [offer["mapping"] for offer in look["offers"]].count(first["mapping"]) == 1


def test_a_broken_row_of_a_short_file_is_told_with_its_place(tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"what is {n}?", "answer": f"it is {n}"}) for n in range(60)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([*lines[:30], "{broken", *lines[30:], ""]), encoding="utf-8")
    with pytest.raises(ProblemError, match=r"a\.jsonl:31"):
        shape_offers(recipe_of(path))


def test_only_the_first_rows_are_read(tmp_path: Path) -> None:
    rows = [{"question": f"what is {n}?", "answer": f"it is {n}"} for n in range(FIRST_ROWS)]
    path = written(tmp_path / "a.jsonl", [*rows, {"another": "column"}])
    look = shape_offers(recipe_of(path))
    assert (look["num_rows"], list(look["columns"])) == (FIRST_ROWS, ["question", "answer"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="nothing_here"):
        shape_offers(recipe_of(tmp_path / "nothing_here.jsonl"))


def test_the_look_tells_how_far_it_is(tmp_path: Path) -> None:
    words: list[Progress] = []
    shape_offers(recipe_of(written(tmp_path / "a.jsonl", PROSE)), WorkWatch(words.append))
    assert any("a.jsonl" in word.stage and word.unit == "bytes" for word in words)
