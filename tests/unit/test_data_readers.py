"""The strict readers: damaged files are refused with place, cause and next action; odd but legal ones pass."""

import bz2
import gzip
import json
import lzma
import os
import re
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


def with_line(number: int, line: str) -> str:
    return "\n".join([*GOOD[: number - 1], line, *GOOD[number:]]) + "\n"


BAD = {
    "broken line": (
        "rows.jsonl",
        with_line(13, '{"prompt": "x" "completion": "y"}'),
        r"rows\.jsonl:13:16: not valid JSON",
    ),
    "torn last line": ("rows.jsonl", "\n".join(GOOD) + '\n{"prompt": "How', r"rows\.jsonl:21:\d+: .*cut off"),
    "NUL byte": ("rows.jsonl", with_line(3, '{"prompt": "a\0b"}'), r"rows\.jsonl:3:14 is a NUL"),
    "Latin-1 byte": (
        "rows.jsonl",
        with_line(6, '{"prompt": "café"}').encode("latin-1"),
        r"rows\.jsonl:6:16 .*0xe9.*windows-1252.*café",
    ),
    "Windows quotes": ("rows.csv", "prompt,completion\na,“b”\n".encode("cp1252"), r"rows\.csv:2:3 .*windows-1252.*“b”"),
    "picture": ("rows.jsonl", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00" * 20, r"rows\.jsonl:1:1 .*binary"),
    "lone surrogate": ("rows.jsonl", with_line(5, '{"prompt": "\\ud83d"}'), r"rows\.jsonl:5:1: half of a character"),
    "empty file": ("rows.jsonl", "", r"rows\.jsonl is empty"),
    "blank lines": ("rows.jsonl", "\n  \n\t\n", r"only blank lines"),
    "HTML page": ("rows.jsonl", "\n<!DOCTYPE html><html><body>404</body></html>", r"HTML page"),
    "LFS pointer": ("rows.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", r"Git-LFS pointer"),
    "array cut off": ("rows.json", "[\n" + ",\n".join(GOOD) + ',\n{"prompt"', r"rows\.json:22:\d+: .*cut off"),
    "array not closed": ("rows.json", "[\n" + ",\n".join(GOOD), r"rows\.json:21:\d+: the list is not closed"),
    "array without comma": ("rows.json", "[\n" + "\n".join(GOOD[:2]) + "]", r"rows\.json:3:1: a comma is missing"),
    "array with last comma": ("rows.json", "[\n" + GOOD[0] + ",\n]", r"rows\.json:3:1: a comma is followed"),
    "text after array": ("rows.json", f"[{GOOD[0]}]\nmore", r"rows\.json:2:1: more text"),
    "string in array": ("rows.json", f'[{GOOD[0]},\n"text"]', r"rows\.json:2:1: the row is a string"),
    "list as a line": ("rows.jsonl", with_line(7, "[1, 2]"), r"rows\.jsonl:7:1: the row is a list"),
    "number as a line": ("rows.jsonl", with_line(7, "12"), r"rows\.jsonl:7:1: the row is a number"),
    "NaN as a line": ("rows.jsonl", with_line(7, "NaN"), r"rows\.jsonl:7:1: NaN is not JSON"),
    "NaN in a row": ("rows.jsonl", with_line(7, '{"a": NaN}'), r"rows\.jsonl:7:1: NaN is not JSON"),
    "null as a line": ("rows.jsonl", with_line(7, "null"), r"rows\.jsonl:7:1: the row is null"),
    "wrapper": ("rows.json", '{"data": [' + ",".join(GOOD) + "]}", r'"data" holds 20 rows'),
    "wrapper on a line": ("rows.jsonl", '{"data": [' + ",".join(GOOD) + "]}\n", r'"data" holds 20 rows'),
    "duplicate keys": (
        "rows.jsonl",
        with_line(2, '{"prompt": "a", "prompt": "b"}'),
        r"rows\.jsonl:2:1: .*'prompt' .*twice",
    ),
    "pretty-printed lines": ("rows.jsonl", '{\n "prompt": "a"\n}\n', r"rows\.jsonl:1:\d: a row does not end"),
    "nested too deeply": ("rows.jsonl", with_line(2, '{"a":' + "[" * 100_000), r"rows\.jsonl:2:1: .*nested too deeply"),
    "empty list": ("rows.json", "[]", r"empty list"),
    "ragged CSV": (
        "rows.csv",
        "prompt,completion\na,b\nc,d,e\nf,g\n",
        r"rows\.csv:3:1: the row has 3 cells, the header 2",
    ),
    "short CSV row": ("rows.csv", "prompt,completion\na,b\nc\nf,g\n", r"rows\.csv:3:1: the row has 1 cell"),
    "unclosed quote": ("rows.csv", 'prompt,completion\na,b\nc,"d\ne,f\n', r"rows\.csv:3:1: a quote opened in this row"),
    "quote inside": ("rows.csv", 'prompt,completion\na,"b" c\n', r"rows\.csv:2:1: the quotes of this row"),
    "header twice": ("rows.csv", "prompt,prompt\na,b\n", r"names 'prompt' twice"),
    "header without name": ("rows.csv", "prompt,\na,b\n", r"column 2 of the header"),
    "header alone": ("rows.csv", "prompt,completion\n", r"header and no rows"),
    "two tables in one Parquet name": ("rows.parquet", "\n".join(GOOD), r"not a whole Parquet file"),
    "gzip cut off": ("rows.jsonl.gz", gzip.compress("\n".join(GOOD).encode())[:-20], r"not a whole gzip"),
    "not gzip": ("rows.jsonl.gz", "\n".join(GOOD), r"not a whole gzip"),
    "broken Parquet": ("rows.parquet", b"PAR1 nothing here PAR1", r"not a whole Parquet file"),
    "Excel": ("rows.xlsx", b"PK\x03\x04", r"an Excel workbook"),
    "zip cut off": ("rows.zip", b"PK\x03\x04", r"not a whole zip"),
    "zip by name only": ("rows.zip", "\n".join(GOOD), r"not a whole zip"),
    "pickle": ("rows.pkl", b"\x80\x04", r"a pickle"),
    "unknown kind": ("rows.dat", "one two three", r"says nothing about its content"),
}


@pytest.mark.parametrize(("name", "content", "expected"), BAD.values(), ids=BAD.keys())
def test_damaged_file_is_refused_with_place_cause_and_fix(tmp_path, name, content, expected):
    problem = problem_of(write(tmp_path, name, content))

    assert problem.severity == "error"
    assert problem.code.startswith("data.")
    assert name in problem.message
    assert re.search(expected, problem.message), problem.message
    assert len(problem.fix) > 10
    assert problem.path == "data.source"


LEGAL = {
    "plain": ("rows.jsonl", "\n".join(GOOD)),
    "byte order mark": ("rows.jsonl", b"\xef\xbb\xbf" + "\n".join(GOOD).encode()),
    "CRLF": ("rows.jsonl", "\r\n".join(GOOD) + "\r\n"),
    "blank lines": ("rows.jsonl", "\n\n".join(GOOD) + "\n\n\n"),
    "JSON array": ("rows.json", "[" + ",".join(GOOD) + "]"),
    "pretty-printed array": ("rows.json", json.dumps([json.loads(row) for row in GOOD], indent=2)),
    "array named jsonl": ("rows.jsonl", "[" + ",".join(GOOD) + "]"),
    "lines named json": ("rows.json", "\n".join(GOOD)),
    "gzip": ("rows.jsonl.gz", gzip.compress("\n".join(GOOD).encode())),
    "no ending": ("rows", "\n".join(GOOD)),
    "UTF-16 with mark": ("rows.jsonl", "\n".join(GOOD).encode("utf-16")),
    "UTF-16 without mark": ("rows.jsonl", "\n".join(GOOD).encode("utf-16-le")),
    "UTF-16 the other way round": ("rows.csv", ("prompt,completion\n" + "é,b\n" * 20).encode("utf-16-be")),
    "UTF-32": ("rows.jsonl", "\n".join(GOOD).encode("utf-32")),
    "UTF-32 without mark": ("rows.jsonl", "\n".join(GOOD).encode("utf-32-be")),
    "Zstandard": ("rows.jsonl.zst", zstd("\n".join(GOOD).encode())),
    "bzip2": ("rows.jsonl.bz2", bz2.compress("\n".join(GOOD).encode())),
    "xz": ("rows.jsonl.xz", lzma.compress("\n".join(GOOD).encode())),
    "gzip without its ending": ("rows.jsonl", gzip.compress("\n".join(GOOD).encode())),
    "old Mac line ends": ("rows.csv", "prompt,completion\r" + "a,b\r" * 20),
    "line separators in text": ("rows.jsonl", "\n".join(row.replace("Question", "Que\u2028stion") for row in GOOD)),
    "emoji and right-to-left": ("rows.jsonl", "\n".join(row.replace("Answer", "🙂 שלום 中文") for row in GOOD)),
    "escaped surrogate pair": ("rows.jsonl", "\n".join(row.replace("Answer", "\\ud83d\\ude42") for row in GOOD)),
    "semicolons": ("rows.csv", "prompt;completion\n" + "\n".join(f"q{n}, really;a{n}" for n in range(20))),
    "tabs": ("rows.tsv", "prompt\tcompletion\n" + "\n".join(f"q{n}, r\ta{n}" for n in range(20))),
    "tabs with plain quotes": ("rows.tsv", "prompt\tcompletion\n" + "\n".join(f'"q" {n}\ta "{n}' for n in range(20))),
    "extra keys": ("rows.jsonl", "\n".join(row[:-1] + ', "meta": {"a": [1]}}' for row in GOOD)),
}


@pytest.mark.parametrize(("name", "content"), LEGAL.values(), ids=LEGAL.keys())
def test_odd_but_legal_file_gives_all_its_rows(tmp_path, name, content):
    rows = rows_of(write(tmp_path, name, content))

    assert len(rows) == 20
    assert all({"prompt", "completion"} <= set(row.values) for row in rows)


def test_long_line_is_one_row(tmp_path):
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


def test_cells_stay_the_text_they_are(tmp_path):
    rows = rows_of(write(tmp_path, "t.csv", "prompt,completion\nq,NA\nq,None\nq,null\nq,NaN\nq,1.10\nq,007\nq,\n"))
    assert [row.values["completion"] for row in rows] == ["NA", "None", "null", "NaN", "1.10", "007", ""]


def test_delimiter_is_found_in_spite_of_commas_in_cells():
    assert find_delimiter("a;b\nx, y;z\nu, v;w\n") == ";"
    assert find_delimiter("a,b\nx;y,z\n") == ","
    assert find_delimiter("only one column\nof text\n") == ","


def test_gzip_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.data.compression.BOMB_FLOOR_BYTES", 1 << 20)
    problem = problem_of(write(tmp_path, "rows.jsonl.gz", gzip.compress(b" " * (8 << 20))))
    assert problem.code == "data.gzip_bomb"


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
