"""The strict readers: damaged files are refused with place, cause and next action; odd but legal ones pass."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.encoding_guess import likely_encoding
from engine.data.rows import RawRow
from engine.data.sources import read_sources
from engine.data.table_rows import find_delimiter
from engine.data.text_rows import read_text
from engine.recipe.problems import Problem, ProblemError

GOOD = [json.dumps({"prompt": f"Question {n}?", "completion": f"Answer {n}."}) for n in range(20)]


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def rows_of(path: str) -> list[RawRow]:
    return read_sources([path])[0].rows


def problem_of(path: str) -> Problem:
    with pytest.raises(ProblemError) as caught:
        read_sources([path])
    return caught.value.problems[0]


def test_a_row_of_many_megabytes_is_one_row(tmp_path):
    text = "word " * 2_400_000
    (row,) = rows_of(write(tmp_path, "rows.jsonl", json.dumps({"text": text})))
    assert row.values == {"text": text}


def test_rows_carry_file_and_first_line(tmp_path):
    pretty = write(tmp_path, "p.json", json.dumps([json.loads(row) for row in GOOD[:3]], indent=1))
    table = write(tmp_path, "t.csv", 'prompt,completion\r\na,"one\r\ntwo"\r\n\r\nb,c\r\n')
    assert [row.where for row in rows_of(pretty)] == ["p.json:2", "p.json:6", "p.json:10"]
    assert [(row.where, row.values["completion"]) for row in rows_of(table)] == [
        ("t.csv:2", "one\r\ntwo"),
        ("t.csv:5", "c"),
    ]


def test_first_five_broken_lines_are_named(tmp_path):
    path = write(tmp_path, "rows.jsonl", "\n".join(["{}", *["{"] * 8]) + "\n")
    with pytest.raises(ProblemError) as caught:
        read_sources([path])
    assert [problem.message.split(":")[1] for problem in caught.value.problems] == ["2", "3", "4", "5", "6"]


def test_delimiter_is_found_in_spite_of_commas_in_cells():
    assert find_delimiter("a;b\nx, y;z\nu, v;w\n") == ";"
    assert find_delimiter("a,b\nx;y,z\n") == ","
    assert find_delimiter("only one column\nof text\n") == ","


def test_parquet_rows_read_like_json(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    messages = [
        {"role": "user", "content": "Hi", "name": None},
        {"role": "assistant", "content": "Hello", "name": None},
    ]
    pq.write_table(pa.Table.from_pylist([{"messages": messages, "n": 1}] * 2), tmp_path / "rows.parquet")
    rows = rows_of(str(tmp_path / "rows.parquet"))
    assert [row.where for row in rows] == ["rows.parquet:1", "rows.parquet:2"]
    assert rows[0].values["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


class TestPaths:
    def test_missing_file_names_the_nearest(self, tmp_path):
        write(tmp_path, "train.jsonl", GOOD[0])
        problem = problem_of(str(tmp_path / "trian.jsonl"))
        assert problem.code == "data.file_missing"
        assert "train.jsonl?" in problem.fix

    def test_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "rows.jsonl")
        assert problem_of(str(tmp_path / "rows.jsonl")).code == "data.not_a_file"

    def test_link_that_points_to_itself(self, tmp_path):
        (tmp_path / "rows.jsonl").symlink_to(tmp_path / "rows.jsonl")
        assert problem_of(str(tmp_path / "rows.jsonl")).code == "data.link_loop"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_forbidden_file(self, tmp_path):
        path = write(tmp_path, "rows.jsonl", GOOD[0])
        os.chmod(path, 0)
        assert problem_of(path).code == "data.unreadable"

    def test_tilde_is_explained(self):
        assert "~" in problem_of("~/nowhere/rows.jsonl").fix

    def test_same_file_twice(self, tmp_path):
        path = write(tmp_path, "rows.jsonl", GOOD[0])
        with pytest.raises(ProblemError, match="listed twice"):
            read_sources([path, path])

    def test_files_of_one_name_are_told_apart(self, tmp_path):
        paths = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            paths.append(write(tmp_path / name, "rows.jsonl", GOOD[0]))
        names = [file.rows[0].where for file in read_sources(paths)]
        assert names == [f"{path}:1" for path in paths]

    def test_escapes_in_names_do_not_reach_the_message(self, tmp_path):
        problem = problem_of(str(tmp_path / "\x1b[2Jrows.jsonl"))
        assert "\x1b" not in problem.message + problem.fix


def test_likely_encoding_of_asian_text():
    text = "今天天气很好,我们去公园散步吧。" * 20
    assert likely_encoding(text.encode("gb18030")) == "gb18030"
    assert likely_encoding("Ça va très bien, garçon? déjà vu".encode("latin-1")) == "windows-1252"


class TestText:
    def test_passages_hold_every_word_in_order(self):
        text = "\n\n".join(f"Paragraph {n} " + "word " * (n % 50) for n in range(300))
        rows = list(read_text([text], "book.txt", passage_chars=400))
        assert " ".join(row.values["text"] for row in rows).split() == text.split()
        assert all(len(row.values["text"]) <= 400 for row in rows)

    def test_long_paragraph_is_cut_at_line_ends_and_keeps_line_numbers(self):
        text = "first\n\n" + "\n".join(f"line {n:03}" for n in range(3, 103))
        rows = list(read_text([text], "book.txt", passage_chars=100))
        for row in rows[1:]:
            line = int(row.where.split(":")[1])
            assert text.split("\n")[line - 1] == row.values["text"].split("\n")[0]

    @given(st.text(alphabet="ab \n", max_size=300), st.integers(5, 60))
    def test_nothing_is_lost(self, text, limit):
        rows = list(read_text([text], "t.txt", passage_chars=limit))
        joined = "".join(row.values["text"] for row in rows)
        assert "".join(joined.split()) == "".join(text.split())
        assert all(0 < len(row.values["text"]) <= limit for row in rows)

    def test_windows_line_ends_are_blank_lines_too(self):
        rows = read_text(["one\r\n\r\ntwo\r\n"], "t.txt", passage_chars=5)
        assert [row.values["text"] for row in rows] == ["one", "two"]
