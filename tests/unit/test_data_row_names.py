"""Rows have names of their own, also several on one line; a header that is a row, or that comes again, is told."""

import json
from pathlib import Path

import pytest

from engine.data.cleaned_file import clean_rows, split_files
from engine.data.readers import ReadOptions, open_source
from engine.recipe.problems import Problem
from engine.recipe.read import check_recipe
from engine.recipe.schema import Recipe

ROWS = [{"prompt": f"What is {n} and {n}?", "completion": f"That makes {2 * n}."} for n in range(40)]


def recipe_of(path: Path, **data: object) -> Recipe:
    values = {"objective": "chat", "model": {"base": "builtin:starter"}, "data": {"source": str(path), **data}}
    return check_recipe(values, name="test")


def one_line(folder: Path, rows: list[dict]) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows))
    return path


class TestRowsThatBeginOnOneLine:
    def test_each_has_a_name_of_its_own(self, tmp_path):
        with open_source(one_line(tmp_path, ROWS[:3])) as source:
            assert [row.where for row in source] == ["rows.json:1", "rows.json:1#2", "rows.json:1#3"]

    def test_so_have_the_passages_of_a_text_without_line_breaks(self, tmp_path):
        path = tmp_path / "long.txt"
        path.write_text("word " * 2000 + "\n\nlast")
        with open_source(path, options=ReadOptions(text_unit="passage")) as source:
            names = [row.where for row in source]
        assert len(set(names)) == len(names) > 3

    def test_a_split_puts_each_on_its_side(self, tmp_path):
        folder = tmp_path / "parts"
        folder.mkdir()
        record = split_files(recipe_of(one_line(tmp_path, ROWS), held_out=0.25), folder)
        assert record["counts"] == {"read": 40, "train": 30, "held_out": 10}
        sides = [[json.loads(line) for line in (folder / f"{side}.jsonl").open()] for side in ("train", "held_out")]
        assert sorted(sides[0] + sides[1], key=str) == sorted(ROWS, key=str)

    def test_cleaning_gives_a_reason_to_the_rows_that_are_left_out_alone(self, tmp_path):
        rows = [*ROWS[:5], {"prompt": "Why?", "completion": " "}]
        out, dropped = tmp_path / "out.jsonl", tmp_path / "dropped.jsonl"
        made = clean_rows(recipe_of(one_line(tmp_path, rows)), out, kind="jsonl", dropped_out=dropped)
        assert (made["num_rows"], made["num_dropped"]) == (5, 1)
        (left_out,) = map(json.loads, dropped.open())
        assert (left_out["where"], left_out["row"]) == ("rows.json:1#6", rows[-1])


class TestHeaders:
    def remarks(self, folder: Path, text: str) -> list[Problem]:
        path = folder / "rows.csv"
        path.write_text(text)
        with open_source(path) as source:
            list(source)
        return source.remarks

    def test_a_first_line_of_prose_alone_is_told(self, tmp_path):
        (remark,) = self.remarks(tmp_path, "How do I open it?,You turn the key\nHow do I close it?,You push it\n")
        assert (remark.code, remark.severity) == ("data.header_is_row", "warning")
        assert "'How do I open it?'" in remark.message
        assert remark.message.endswith("rows.csv:1.")

    def test_so_is_prose_beside_a_label_that_comes_again(self, tmp_path):
        (remark,) = self.remarks(tmp_path, "I like it very much,good\nIt broke,bad\nIt is fine,good\n")
        assert remark.code == "data.header_is_row"

    def test_a_header_that_comes_again_is_told_with_its_line(self, tmp_path):
        (remark,) = self.remarks(tmp_path, "prompt,completion\na,b\nprompt,completion\nc,d\n")
        assert remark.code == "data.header_again"
        assert remark.message.endswith("rows.csv:3.")

    @pytest.mark.parametrize(
        "text",
        [
            "prompt,completion\nHow do I open it?,You turn the key\n",
            "When,What did you like about it?,Name\n3 May,All of it was good,Ann\n4 May,Nothing,Bo\n",
            "text,label\ntext,1\nmore,2\n",
            "the question of the user,answer\nWhy?,So\nHow?,\n",
        ],
    )
    def test_a_sound_header_is_not(self, tmp_path, text):
        assert self.remarks(tmp_path, text) == []
