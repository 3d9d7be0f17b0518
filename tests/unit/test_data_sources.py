"""What `data.source` may name: folders, patterns, lists with weights; and what is refused with the next action."""

import json
import os
import socket
from pathlib import Path

import pytest

from engine.data.paths import unreadable
from engine.data.pipeline import prepare
from engine.data.readers import ReadOptions
from engine.data.rows import Tally
from engine.data.sources import expand, read_sources
from engine.data.weights import weigh_rows
from engine.planning.derive import choose_name
from engine.recipe.places import absolute_places
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.read import check_recipe
from engine.recipe.schema_data import WeightedSource


def write_rows(path: Path, count: int = 3, word: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"prompt": f"{word} {n}?", "completion": f"{word} {n}."} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def problem_of(*sources: str, **options: str) -> Problem:
    with pytest.raises(ProblemError) as caught:
        read_sources(list(sources), ReadOptions(**options))
    return caught.value.problems[0]


class TestFolders:
    def test_all_files_of_one_kind_in_order_with_what_is_beside_them_left_alone(self, tmp_path):
        for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl.gz", ".hidden.jsonl", ".git/d.jsonl"):
            write_rows(tmp_path / name)
        for name in ("README.md", "LICENSE.txt", "picture.png", "notes"):
            (tmp_path / name).write_text("about the data")
        assert [file.name for file in expand([str(tmp_path)])] == ["a.jsonl", "b.jsonl", "deep/c.jsonl.gz"]

    def test_files_of_several_kinds_are_refused_with_the_count_of_each(self, tmp_path):
        for name in ("a.jsonl", "b.jsonl", "c.csv"):
            write_rows(tmp_path / name)
        problem = problem_of(str(tmp_path))
        assert problem.code == "data.mixed_kinds"
        assert "2 JSON Lines files, 1 CSV file" in problem.message
        assert str(tmp_path / "*.jsonl") in problem.fix

    def test_a_folder_without_data_tells_what_it_holds(self, tmp_path):
        (tmp_path / "model.safetensors").write_text("x")
        problem = problem_of(str(tmp_path))
        assert problem.code == "data.folder_empty"
        assert "model.safetensors" in problem.message

    def test_folders_of_text_files_make_passages_paragraphs_or_a_row_for_each_file(self, tmp_path):
        for name in ("one", "two"):
            (tmp_path / f"{name}.txt").write_text(f"\n\n{name} a\n\n{name} b\nstill b\n")
        by_unit = {
            unit: [(row.where, row.values["text"]) for file in files for row in file.rows]
            for unit in ("passage", "paragraph", "file")
            if (files := read_sources([str(tmp_path)], ReadOptions(text_unit=unit)))
        }
        assert by_unit["passage"][0] == ("one.txt:3", "one a\n\none b\nstill b")
        assert [text for _, text in by_unit["paragraph"]] == [
            "one a",
            "one b\nstill b",
            "two a",
            "two b\nstill b",
        ]
        assert by_unit["file"] == [(f"{name}.txt:3", f"{name} a\n\n{name} b\nstill b") for name in ("one", "two")]

    def test_links_to_folders_are_not_followed(self, tmp_path):
        write_rows(tmp_path / "data" / "a.jsonl")
        (tmp_path / "data" / "round").symlink_to(tmp_path / "data")
        assert len(expand([str(tmp_path / "data")])) == 1

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
    def test_a_forbidden_folder(self, tmp_path):
        write_rows(tmp_path / "data" / "a.jsonl")
        os.chmod(tmp_path / "data", 0)
        try:
            assert problem_of(str(tmp_path / "data")).code == "data.unreadable"
        finally:
            os.chmod(tmp_path / "data", 0o700)

    def test_a_file_for_evaluation_in_the_folder_is_warned_of(self, tmp_path):
        write_rows(tmp_path / "train.jsonl")
        write_rows(tmp_path / "test.jsonl")
        (first, second) = read_sources([str(tmp_path)])
        (remark,) = first.remarks + second.remarks
        assert (remark.code, remark.severity) == ("data.evaluation_file", "warning")
        assert "test.jsonl" in remark.message
        alone = read_sources([str(tmp_path / "test.jsonl")])
        assert alone[0].remarks == []


class TestPatterns:
    def test_matches_come_in_order(self, tmp_path):
        for name in ("b-2.jsonl", "b-1.jsonl", "c.csv", "deep/b-3.jsonl"):
            write_rows(tmp_path / name)
        assert [file.name for file in expand([f"{tmp_path}/b-*.jsonl"])] == ["b-1.jsonl", "b-2.jsonl"]
        assert len(expand([f"{tmp_path}/**/*.jsonl"])) == 3

    def test_no_match_and_mixed_matches_are_refused(self, tmp_path):
        write_rows(tmp_path / "b.jsonl")
        write_rows(tmp_path / "b.csv")
        assert problem_of(f"{tmp_path}/x*.jsonl").code == "data.no_match"
        assert problem_of(f"{tmp_path}/b.*").code == "data.mixed_kinds"

    def test_a_file_that_is_called_like_a_pattern_is_that_file(self, tmp_path):
        write_rows(tmp_path / "rows[1].jsonl")
        assert [file.name for file in expand([str(tmp_path / "rows[1].jsonl")])] == ["rows[1].jsonl"]

    def test_a_file_named_twice_by_different_ways_is_refused(self, tmp_path):
        path = write_rows(tmp_path / "b.jsonl")
        assert problem_of(str(path), f"{tmp_path}/*.jsonl").code == "data.file_twice"

    def test_patterns_and_weighted_files_do_not_depend_on_where_one_stands(self, tmp_path):
        write_rows(tmp_path / "rows.jsonl")
        tree = {"data": {"source": ["ro*.jsonl", {"path": "rows.jsonl", "weight": 2}, "hub:made/rows"]}}
        assert absolute_places(tree, [tmp_path])["data"]["source"] == [
            str(tmp_path / "ro*.jsonl"),
            {"path": str(tmp_path / "rows.jsonl"), "weight": 2},
            "hub:made/rows",
        ]


class TestNoFiles:
    def test_a_socket(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("rows.jsonl")
            problem = problem_of("rows.jsonl")
        assert (problem.code, "socket" in problem.message) == ("data.not_a_file", True)

    def test_a_device(self):
        assert "a device" in problem_of("/dev/zero").message

    def test_a_broken_link(self, tmp_path):
        (tmp_path / "rows.jsonl").symlink_to(tmp_path / "gone.jsonl")
        assert problem_of(str(tmp_path / "rows.jsonl")).code == "data.link_broken"

    def test_a_path_with_a_nul(self):
        assert problem_of("rows\0.jsonl").code == "data.file_missing"

    @pytest.mark.parametrize("name", ["rows.xlsx", "rows.xlsm", "rows.pdf", "rows.tar", "rows.db"])
    def test_other_kinds_say_what_to_do(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"anything")
        problem = problem_of(str(tmp_path / name))
        assert problem.code == "data.unsupported"
        assert len(problem.fix) > 20


def recipe_of(source: object, **data: object) -> object:
    tree = {
        "objective": "chat",
        "model": {"base": "builtin:starter"},
        "data": {"source": source, **data},
        "training": {"seed": 3},
    }
    return check_recipe(tree, name="recipe")


class TestWeights:
    def test_a_weight_repeats_and_draws_training_rows_alone(self, tmp_path):
        write_rows(tmp_path / "a.jsonl", 100, "a")
        write_rows(tmp_path / "b.jsonl", 100, "b")
        source = [str(tmp_path / "a.jsonl"), {"path": str(tmp_path / "b.jsonl"), "weight": 2.5}]
        plain = prepare(recipe_of([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], held_out=0.2))
        weighed = prepare(recipe_of(source, held_out=0.2))

        def count(rows: list, word: str) -> int:
            return sum(row["messages"][0]["content"].startswith(word) for row in rows)

        of_b = count(plain.train_rows, "b")
        assert weighed.held_out_rows == plain.held_out_rows
        assert count(weighed.train_rows, "a") == count(plain.train_rows, "a")
        assert 2 * of_b < count(weighed.train_rows, "b") < 3 * of_b
        ids = [row["id"] for row in weighed.train_rows]
        assert len(set(ids)) == len(ids)
        (note,) = [finding for finding in weighed.profile.findings if finding.code == "data.weight"]
        assert f"its {of_b} training rows are used {count(weighed.train_rows, 'b')} times" in note.message
        assert prepare(recipe_of(source, held_out=0.2)).train_rows == weighed.train_rows

    def test_a_small_weight_leaves_rows_out_and_counts_them(self, tmp_path):
        write_rows(tmp_path / "a.jsonl", 200, "a")
        prepared = prepare(recipe_of([{"path": str(tmp_path / "a.jsonl"), "weight": 0.25}], held_out=0.1))
        left_out = prepared.profile.dropped["not_drawn"]
        assert len(prepared.train_rows) + left_out == 180
        assert 25 <= len(prepared.train_rows) <= 65

    def test_the_draw_follows_the_row_and_the_seed_and_not_the_order(self):
        rows = [{"id": f"a.jsonl:{n}", "text": str(n)} for n in range(300)]
        drawn = [row["id"] for row in weigh_rows(rows, {"a.jsonl": 0.5}, 1, Tally())]
        assert sorted(drawn) == sorted(row["id"] for row in weigh_rows(rows[::-1], {"a.jsonl": 0.5}, 1, Tally()))
        assert drawn != [row["id"] for row in weigh_rows(rows, {"a.jsonl": 0.5}, 2, Tally())]

    def test_weights_that_leave_nothing_are_refused(self):
        with pytest.raises(ProblemError, match="leave none"):
            weigh_rows([{"id": "a:1", "text": "x"}], {"a": 1e-9}, 0, Tally())

    @pytest.mark.parametrize("weight", [0, -1, 101, "2", None])
    def test_a_weight_out_of_range_is_refused_by_the_recipe(self, weight):
        with pytest.raises(ProblemError) as caught:
            recipe_of([{"path": "a.jsonl", "weight": weight}])
        assert caught.value.problems[0].path == "data.source"

    def test_sources_are_told_without_their_weights(self):
        recipe = recipe_of(["a.jsonl", {"path": "b.jsonl", "weight": 2}])
        assert recipe.data.source == ["a.jsonl", WeightedSource(path="b.jsonl", weight=2.0)]
        assert recipe.data.sources() == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("item", "says", "fix"),
    [
        ({"path": "b.jsonl", "wieght": 2}, "item 2 of data.source has the unknown key wieght", "weight?"),
        ({"weight": 2}, "item 2 of data.source names no file", "path: FILE"),
        ({"path": "b.jsonl", "weight": 0}, "item 2 of data.source has a weight", "such as 2"),
        (["b.jsonl"], "item 2 of data.source is neither", "Name a file"),
    ],
)
def test_what_is_wrong_with_one_source_is_said_of_it(item, says, fix):
    with pytest.raises(ProblemError) as caught:
        recipe_of(["a.jsonl", item])
    (problem,) = caught.value.problems
    assert says in problem.message
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("/data/rows.jsonl", "rows"),
        ("/data/many/*.jsonl", "many"),
        ("/data/many/**/*.jsonl", "many"),
        ("hub:made/rows@v1#test", "rows"),
        ("builtin:commands", "commands"),
        (["corpus/", "b.jsonl"], "corpus"),
        ([{"path": "b.jsonl", "weight": 2}], "b"),
        ("*.jsonl", "*.jsonl"),
    ],
)
def test_a_run_is_called_after_its_first_source(source, title):
    assert choose_name("chat", "made/model", source) == f"model on {title}"


class TestOptionsWithoutEffect:
    @pytest.mark.parametrize("option", [{"encoding": "koi8-r"}, {"unwrap": "data"}, {"text_unit": "file"}])
    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.json"])
    def test_what_no_file_needed_is_refused(self, tmp_path, option, name):
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = write_rows(tmp_path / name)
        if name.endswith("parquet"):
            pq.write_table(pa.table({"text": ["x"]}), path)
        problem = problem_of(str(path), **option)
        assert problem.path == f"data.{next(iter(option))}"
        assert "Remove" in problem.fix

    def test_what_one_file_needed_is_kept_for_the_others(self, tmp_path):
        (tmp_path / "old.csv").write_bytes("prompt,completion\ndéjà,vu\n".encode("cp1252"))
        (tmp_path / "new.csv").write_text("prompt,completion\nnaïve,yes\n")
        (tmp_path / "rows.json").write_text(json.dumps({"data": [{"prompt": "a", "completion": "b"}]}))
        write_rows(tmp_path / "rows.jsonl")
        names = ["old.csv", "new.csv", "rows.json", "rows.jsonl"]
        options = ReadOptions(encoding="windows-1252", unwrap="data")
        files = read_sources([str(tmp_path / name) for name in names], options)
        assert [file.rows[0].values["prompt"] for file in files] == ["déjà", "naïve", "a", "x 0?"]

    def test_a_held_out_file_need_not_be_of_the_same_make(self, tmp_path):
        (tmp_path / "old.csv").write_bytes(("prompt,completion\n" + "déjà {n},vu\n" * 3).encode("cp1252"))
        write_rows(tmp_path / "held.jsonl")
        prepared = prepare(
            recipe_of(str(tmp_path / "old.csv"), encoding="windows-1252", held_out=str(tmp_path / "held.jsonl"))
        )
        assert len(prepared.held_out_rows) == 3


def test_a_refusal_of_the_system_is_a_sentence_also_where_root_is_never_refused(tmp_path):
    problem = unreadable(tmp_path / "rows.jsonl", PermissionError(13, "Permission denied")).problems[0]
    assert problem.message.endswith("rows.jsonl cannot be read: permission denied.")
    assert "owner" in problem.fix


def test_a_name_that_is_too_long_is_a_finding_like_any_other() -> None:
    problem = problem_of("x" * 300 + ".jsonl")
    assert "file name too long" in problem.message
    assert problem.path == "data.source"


def test_the_folder_of_a_model_is_told_as_one(tmp_path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    found = problem_of(str(tmp_path))
    assert found.code == "data.model_folder"
    assert "config.json, model.safetensors" in found.message
    (tmp_path / "model.safetensors").unlink()
    assert [file.name for file in expand([str(tmp_path)])] == ["config.json", "tokenizer.json"]
