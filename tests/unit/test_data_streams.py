"""Streaming: rows come one at a time in bounded memory, whatever the size of file, line and chunk."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.bytes_in import ByteStream, ReadingStoppedError, Watch
from engine.data.encoding_guess import likely_encoding
from engine.data.encodings import doubly_encoded
from engine.data.json_window import JsonWindow
from engine.data.readers import ReadOptions, open_source
from engine.data.rows import RawRow
from engine.data.table_rows import find_dialect
from engine.data.text_in import TextStream
from engine.data.text_rows import read_text
from engine.recipe.problems import Problem, ProblemError

MIB = 2**20
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
rows = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), min_size=1, max_size=6)
cuts = st.integers(1, 40)
units = st.sampled_from(["passage", "paragraph"])


class Pieces(ByteStream):
    """The bytes of a test, in chunks of a few bytes; the first of them is the head."""

    def __init__(self, content: bytes, size: int) -> None:
        self.name = "rows"
        self._pieces = [content[at : at + size] for at in range(0, len(content), size)]
        self.head = self._pieces[0]

    def chunks(self) -> Iterator[bytes]:
        yield from self._pieces


def stream_of(text: str, size: int, encoding: str = "utf-8") -> TextStream:
    return TextStream(Pieces(text.encode(encoding), size))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, **options: str) -> list[RawRow]:
    with open_source(path, options=ReadOptions(**options)) as source:
        return list(source)


def problem_of(path: Path, **options: str) -> Problem:
    with pytest.raises(ProblemError) as caught:
        read(path, **options)
    return caught.value.problems[0]


class TestChunkBorders:
    @given(rows.filter(lambda made: len(made) > 1), cuts)
    def test_lines_are_read_alike_in_any_chunks(self, made, size):
        from engine.data.json_rows import _lines

        text = "\n".join(json.dumps(row) for row in made)
        found = list(_lines(stream_of(text, size).chunks(), "rows", []))
        assert [row.values for row in found] == made
        assert [row.where for row in found] == [f"rows:{number}" for number in range(1, len(made) + 1)]

    @given(rows, cuts, st.sampled_from([None, 1]))
    def test_an_array_is_read_alike_in_any_chunks(self, made, size, indent):
        from engine.data.json_rows import _array

        text = json.dumps(made, indent=indent)
        stream = stream_of(text, size)
        found = list(_array(JsonWindow(stream.chunks(), "rows"), "rows"))
        assert [row.values for row in found] == made
        lines = [text.count("\n", 0, at) + 1 for at in _row_starts(text)]
        assert [row.where for row in found] == [f"rows:{line}" for line in lines]

    @given(st.lists(st.lists(st.text(alphabet='ab,;"\n é', max_size=6), min_size=2, max_size=2), min_size=1), cuts)
    def test_a_table_is_read_alike_in_any_chunks(self, cells, size):
        from engine.data.table_rows import read_csv

        made = io.StringIO(newline="")
        writer = csv.writer(made, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerows([["left", "right"], *cells])
        dialect = find_dialect("left,right\n")
        found = list(read_csv(stream_of(made.getvalue(), size), dialect, []))
        assert [list(row.values.values()) for row in found] == cells

    @given(
        st.text(alphabet="ab \n\r", max_size=200), cuts, st.integers(4, 30), st.sampled_from(["passage", "paragraph"])
    )
    def test_a_text_is_read_alike_in_any_chunks(self, text, size, limit, unit):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert list(read_text(pieces, "t", unit=unit, passage_chars=limit)) == list(
            read_text([text], "t", unit=unit, passage_chars=limit)
        )

    @given(st.text(min_size=1, max_size=60).filter(lambda text: "\0" not in text), st.integers(1, 5))
    def test_no_character_is_lost_between_chunks(self, text, size):
        try:
            raw = text.encode("utf-8")
        except UnicodeEncodeError:
            return
        try:
            stream = TextStream(Pieces(b"x" + raw, size))
        except ProblemError:
            return  # what looks like a picture or a page is refused
        assert "".join(stream.chunks()) == "x" + text

    @settings(max_examples=40)
    @given(st.binary(min_size=1, max_size=30).filter(lambda tail: 0 not in tail), cuts)
    def test_broken_bytes_have_the_same_place_in_any_chunks(self, tail, size):
        content = "naïve\nStraße ".encode() + tail + b"\xff"
        whole, cut = _refusal(content, len(content)), _refusal(content, size)
        assert whole == cut


def _row_starts(text: str) -> Iterator[int]:
    decoder, at = json.JSONDecoder(), 1
    while (at := at + len(text[at:]) - len(text[at:].lstrip(" \n,"))) < len(text) and text[at] != "]":
        yield at
        at = decoder.raw_decode(text, at)[1]


def _refusal(content: bytes, size: int) -> str:
    with pytest.raises(ProblemError) as caught:
        for _ in TextStream(Pieces(content, size)).chunks():
            pass
    return caught.value.problems[0].message.split(" ", 1)[0]


class TestFollowing:
    def test_progress_ends_at_the_size_and_the_hash_is_that_of_the_content(self, tmp_path):
        import hashlib

        content = b"".join(json.dumps({"text": "word " * 200, "n": n}).encode() + b"\n" for n in range(3000))
        told: list[tuple[int, int]] = []
        watch = Watch(progress=lambda done, total: told.append((done, total)))
        with open_source(write(tmp_path, "rows.jsonl.gz", gzip.compress(content)), watch=watch) as source:
            assert source.sha256 == ""
            assert sum(1 for _ in source) == source.num_rows == 3000
        size = (tmp_path / "rows.jsonl.gz").stat().st_size
        assert source.sha256 == hashlib.sha256(content).hexdigest()
        assert source.num_bytes == len(content)
        assert told[-1] == (size, size)
        assert [done for done, _ in told] == sorted(done for done, _ in told)

    @pytest.mark.parametrize("kind", ["jsonl", "parquet"])
    def test_a_reading_can_be_stopped(self, tmp_path, kind):
        path = tmp_path / f"rows.{kind}"
        if kind == "jsonl":
            path.write_text("".join(json.dumps({"text": "x" * 1000}) + "\n" for _ in range(5000)))
        else:
            pa.parquet.write_table(pa.table({"text": ["x"] * 5000}), path)
        stop: list[bool] = []
        with open_source(path, watch=Watch(should_stop=lambda: bool(stop))) as source:
            rows = iter(source)
            next(rows)
            stop.append(True)
            with pytest.raises(ReadingStoppedError):
                list(rows)
        assert source.num_rows < 5000

    def test_broken_rows_are_known_before_the_end(self, tmp_path):
        lines = ['{"a": 1}', '{"a": ', *['{"a": 2}'] * 50_000]
        with open_source(write(tmp_path, "rows.jsonl", "\n".join(lines))) as source:
            rows = iter(source)
            next(rows)
            next(rows)
            assert source.problems[0].message.startswith("rows.jsonl:2:")
            with pytest.raises(ProblemError):
                list(rows)

    @pytest.mark.parametrize("change", ["grows", "shrinks", "is rewritten"])
    def test_a_file_that_changes_while_it_is_read_is_refused(self, tmp_path, change):
        path = write(tmp_path, "rows.jsonl", ('{"a": 1, "pad": "' + "x" * 1000 + '"}\n') * 2000)
        with open_source(path) as source:
            rows = iter(source)
            next(rows)
            _change(path, change)
            with pytest.raises(ProblemError) as caught:
                list(rows)
        problem = caught.value.problems[0]
        assert problem.code == "data.file_changed"
        assert "copy" in problem.fix

    def test_a_file_that_vanishes_before_it_is_opened(self, tmp_path):
        path = write(tmp_path, "rows.jsonl", "{}")
        path.unlink()
        assert problem_of(path).code == "data.file_missing"


def _change(path: Path, how: str) -> None:
    if how == "is rewritten":
        os.utime(path, ns=(1, 1))
        return
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        if how == "grows":
            file.write(b'{"a": 2}\n')
        else:
            file.truncate(size - 9)


MEASURE = """
import sys
from pathlib import Path
from engine.data.readers import open_source
from engine.recipe.problems import ProblemError
try:
    with open_source(Path(sys.argv[1])) as source:
        for _ in source:
            pass
    print("rows", source.num_rows, end=" ")
except ProblemError as error:
    print(error.problems[0].code, end=" ")
status = Path("/proc/self/status").read_text()
print(next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")))
"""


def measured(path: Path) -> tuple[str, int]:
    """Return what a process of its own said of a file, and its peak in MiB."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    *said, peak = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    return " ".join(said), int(peak)


class TestBounds:
    def test_a_large_file_takes_no_more_memory_than_a_small_one(self, tmp_path):
        line = json.dumps({"prompt": "word " * 100, "completion": "naïve " * 100}, ensure_ascii=False).encode() + b"\n"
        path = write(tmp_path, "rows.jsonl", line * 60_000)
        said, peak_mib = measured(path)
        assert path.stat().st_size > 60 * MIB
        assert (said, peak_mib < 60) == ("rows 60000", True)

    def test_a_line_of_a_hundred_megabytes_is_refused_within_the_bound(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        with path.open("wb") as file:
            file.write(b'{"text": "')
            for _ in range(100):
                file.write(b"words " * 174_763)
            file.write(b'"}\n')
        said, peak_mib = measured(path)
        assert (said, peak_mib < 200) == ("data.row_too_long", True)

    def test_a_text_line_of_any_length_is_cut_into_passages(self, tmp_path):
        path = write(tmp_path, "book.txt", b"words " * (7 * MIB))
        said, peak_mib = measured(path)
        assert int(said.split()[1]) > 25_000
        assert peak_mib < 100

    @pytest.mark.parametrize("packing", ["gz", "zst", "zip", "csv.gz"])
    def test_a_bomb_is_stopped(self, tmp_path, packing):
        bomb = b" " * (256 * MIB)
        path = tmp_path / f"rows.jsonl.{packing}"
        if packing.endswith("gz"):
            path = write(tmp_path, f"rows.{packing}", gzip.compress(b"a,b\n" + bomb, 9))
        elif packing == "zst":
            path.write_bytes(pa.Codec("zstd").compress(bomb, asbytes=True))
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("rows.jsonl", bomb)
        del bomb
        if packing == "gz":
            path = path.rename(path.with_name("rows.jsonl.gz"))
        said, peak_mib = measured(path)
        assert said.endswith("_bomb"), said
        assert peak_mib < 200

    def test_small_files_of_equal_rows_are_no_bombs(self, tmp_path):
        path = write(tmp_path, "rows.jsonl.gz", gzip.compress(b'{"a": "the same row again"}\n' * 200_000))
        assert path.stat().st_size * 200 < 200_000 * 28
        assert len(read(path)) == 200_000


class TestArchives:
    def zipped(self, folder: Path, members: dict[str, bytes]) -> Path:
        path = folder / "rows.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    def test_a_zip_with_one_file_is_read(self, tmp_path):
        path = self.zipped(tmp_path, {"data/rows.json": b'[{"a": 1}]', "__MACOSX/data/._rows.json": b"x"})
        assert [row.values for row in read(path)] == [{"a": 1}]

    @pytest.mark.parametrize(
        ("members", "code"),
        [
            ({"a.jsonl": b"{}", "b.jsonl": b"{}"}, "zip_several"),
            ({}, "zip_empty"),
            ({"inner.zip": b"PK\x03\x04 and so on"}, "nested_archive"),
            ({"rows.jsonl.gz": gzip.compress(b"{}")}, "nested_archive"),
            ({"[Content_Types].xml": b"", "xl/workbook.xml": b""}, "excel"),
            ({"[Content_Types].xml": b"", "xl/workbook.xml": b"", "xl/vbaProject.bin": b""}, "excel"),
            ({"[Content_Types].xml": b"", "word/document.xml": b""}, "unsupported"),
        ],
    )
    def test_other_archives_are_refused(self, tmp_path, members, code):
        assert problem_of(self.zipped(tmp_path, members)).code == f"data.{code}"

    def test_a_zip_with_a_password_is_refused(self, tmp_path):
        path = self.zipped(tmp_path, {"rows.jsonl": b'{"a": 1}'})
        raw = bytearray(path.read_bytes())
        raw[6] |= 1
        raw[raw.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(raw)
        assert problem_of(path).code == "data.zip_password"

    def test_a_workbook_named_csv_is_refused_as_one(self, tmp_path):
        path = self.zipped(tmp_path, {"[Content_Types].xml": b"", "xl/workbook.xml": b""})
        problem = problem_of(path.rename(tmp_path / "rows.csv"))
        assert problem.code == "data.excel"
        assert "CSV" in problem.fix

    @pytest.mark.parametrize("suffix", ["gz", "zst", "zip", "bz2", "xz"])
    def test_a_cut_archive_is_refused_by_name(self, tmp_path, suffix):
        import bz2
        import lzma

        content = "".join(json.dumps({"n": n, "text": os.urandom(20).hex()}) + "\n" for n in range(5000)).encode()
        packed = {
            "gz": lambda: gzip.compress(content),
            "zst": lambda: pa.Codec("zstd").compress(content, asbytes=True),
            "bz2": lambda: bz2.compress(content),
            "xz": lambda: lzma.compress(content),
            "zip": lambda: self.zipped(tmp_path, {"rows.jsonl": content}).read_bytes(),
        }[suffix]()
        problem = problem_of(write(tmp_path, f"cut.jsonl.{suffix}", packed[: len(packed) // 2]))
        assert problem.code.endswith("_damaged")
        assert "cut.jsonl" in problem.message
        assert "again" in problem.fix


class TestTables:
    def test_parquet_with_nested_and_dictionary_columns(self, tmp_path):
        import datetime
        from decimal import Decimal

        table = pa.table(
            {
                "text": pa.array(["a", "b", "a"]).dictionary_encode(),
                "turns": [[{"role": "user", "content": "x"}], [], None],
                "day": [datetime.date(2026, 1, 2)] * 3,
                "price": [Decimal("1.10")] * 3,
            }
        )
        pa.parquet.write_table(table, tmp_path / "rows.parquet")
        first, _, last = read(tmp_path / "rows.parquet")
        assert first.values == {
            "text": "a",
            "turns": [{"role": "user", "content": "x"}],
            "day": "2026-01-02",
            "price": "1.10",
        }
        assert last.values["turns"] is None
        assert last.where == "rows.parquet:3"

    @pytest.mark.parametrize("form", ["file", "stream", "feather"])
    def test_arrow_files_and_streams(self, tmp_path, form):
        from pyarrow import feather

        table = pa.table({"text": [f"row {n}" for n in range(1200)]})
        path = tmp_path / "rows.arrow"
        if form == "feather":
            feather.write_feather(table, path)
        else:
            opened = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
            with opened(path, table.schema) as writer:
                writer.write_table(table)
        found = read(path)
        assert [row.values["text"] for row in found] == table["text"].to_pylist()
        assert found[-1].where == "rows.arrow:1200"

    @pytest.mark.parametrize("suffix", ["parquet", "arrow"])
    def test_a_cut_table_is_refused_by_name(self, tmp_path, suffix):
        table = pa.table({"text": [os.urandom(50).hex() for n in range(5000)]})
        path = tmp_path / f"rows.{suffix}"
        if suffix == "parquet":
            pa.parquet.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        path.write_bytes(path.read_bytes()[:-3000])
        problem = problem_of(path)
        assert problem.code == f"data.{suffix}_damaged"
        assert f"rows.{suffix}" in problem.message

    def test_damage_inside_a_table_tells_how_far_it_went(self, tmp_path):
        path = tmp_path / "rows.parquet"
        table = pa.table({"text": [os.urandom(50).hex() for n in range(20_000)]})
        pa.parquet.write_table(table, path, row_group_size=5000, write_page_checksum=False, compression="snappy")
        raw = bytearray(path.read_bytes())
        middle = len(raw) * 7 // 10
        raw[middle : middle + 2000] = bytes(2000)
        path.write_bytes(raw)
        problem = problem_of(path)
        assert problem.code == "data.parquet_damaged"
        assert "behind row" in problem.message

    def test_evidence_names_the_delimiter(self, tmp_path):
        with open_source(write(tmp_path, "rows.csv", "a;b\n" + "1;2\n" * 9)) as source:
            list(source)
        assert source.evidence.startswith(
            "Cells are cut at each semicolon: 10 of the first 10 records have the 2 cells"
        )

    def test_an_unclosed_quote_in_a_large_table_is_named_where_it_opens(self, tmp_path, monkeypatch):
        monkeypatch.setattr("engine.data.table_rows.MAX_ROW_CHARS", 100_000)
        lines = ["a,b", *["1,2"] * 10, '3,"open', *["4,5"] * 100_000]
        problem = problem_of(write(tmp_path, "rows.csv", "\n".join(lines)))
        assert problem.code == "data.unclosed_quote"
        assert problem.message.startswith("rows.csv:12:1:")


LEGACY = {
    "windows-1252": "Ça va très bien, garçon ? Il était déjà là, l’été dernier.",
    "windows-1250": "Příliš žluťoučký kůň úpěl ďábelské ódy, řekla mu včera.",
    "windows-1251": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "koi8-r": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "windows-1253": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία και τα λόγια της νύχτας.",
    "windows-1254": "Pijamalı hasta yağız şoföre çabucak güvendi, ışığı söndürdü.",
    "windows-1255": "דג סקרן שט בים מאוכזב ולפתע מצא לו חברה, והיה זה יום יפה.",
    "gb18030": "今天天气很好，我们去公园散步吧。晚上一起吃饭，好不好？",
    "big5": "今天天氣很好，我們去公園散步吧。晚上一起吃飯，好不好？",
    "shift_jis": "今日は天気がいいから、公園を散歩しましょう。",
    "euc-jp": "今日は天気がいいから、公園を散歩しましょう。",
    "euc-kr": "오늘은 날씨가 좋으니 공원에서 산책합시다.",
}


class TestEncodings:
    @pytest.mark.parametrize(("encoding", "text"), LEGACY.items(), ids=LEGACY.keys())
    def test_a_legacy_encoding_is_named_and_read_after_a_yes(self, tmp_path, encoding, text):
        made = "".join(json.dumps({"text": text, "n": n}, ensure_ascii=False) + "\n" for n in range(5))
        path = write(tmp_path, "rows.jsonl", made.encode(encoding))

        problem = problem_of(path)
        assert problem.code == "data.encoding"
        assert f"looks like {encoding}" in problem.message
        assert f"set data.encoding: {encoding}" in problem.fix
        assert text[:10] in problem.message
        assert [row.values["text"] for row in read(path, encoding=encoding)] == [text] * 5

    def test_damaged_utf8_is_no_legacy_encoding(self, tmp_path):
        content = "naïve Straße, déjà vu\n".encode() * 50
        assert likely_encoding(content + "é".encode()[:1] + b" and on\n") is None
        problem = problem_of(write(tmp_path, "t.txt", content + "é".encode()[:1] + b" and on\n"))
        assert problem.message.startswith("t.txt:51:1 is byte 0xc3")
        assert problem.code == "data.damaged_text"

    def test_utf8_is_read_as_utf8_whatever_is_chosen_for_other_files(self, tmp_path):
        path = write(tmp_path, "rows.csv", "a,b\n" + "plain,text\n" * 200_000 + "déjà,vu\n")
        with open_source(path, options=ReadOptions(encoding="windows-1252")) as source:
            assert list(source)[-1].values == {"a": "déjà", "b": "vu"}
        assert (source.encoding, source.used) == ("UTF-8", set())

    @pytest.mark.parametrize("name", ["klingon", "base64", "utf-7", "", "idna"])
    def test_an_unknown_encoding_is_refused(self, tmp_path, name):
        problem = problem_of(write(tmp_path, "rows.csv", "a,b\n1,2\n"), encoding=name)
        assert problem.code == "data.encoding_unknown"

    def test_bytes_that_the_chosen_encoding_lacks_have_a_place(self, tmp_path):
        path = write(tmp_path, "rows.csv", "a,b\nß,2\nx,".encode("cp1252") + b"\x81\n")
        assert problem_of(path, encoding="windows-1252").message.startswith("rows.csv:3:3 is byte 0x81")

    def test_utf16_cut_in_a_character_has_a_place(self, tmp_path):
        content = "a,b\n1,2\n".encode("utf-16")
        assert "rows.csv:3:1" in problem_of(write(tmp_path, "rows.csv", content + b"x")).message

    @pytest.mark.parametrize("text", ["今天天气很好", "Съешь ещё", "ひらがな"])
    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
    def test_wide_text_of_other_scripts_needs_no_mark(self, tmp_path, text, encoding):
        made = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for _ in range(20))
        assert [row.values["text"] for row in read(write(tmp_path, "rows.jsonl", made.encode(encoding)))] == [text] * 20

    @pytest.mark.parametrize(
        ("broken", "meant"),
        [("cafÃ©", "é"), ("donâ€™t", "’"), ("StraÃŸe", "ß"), ("ÐŸÑ€Ð¸", "П"), ("å†™", "写"), ("Â£5", "£")],
    )
    def test_text_encoded_twice_is_warned_of_with_its_lines(self, tmp_path, broken, meant):
        lines = ["good text here"] * 4
        lines[2] = f"It says {broken} there."
        with open_source(write(tmp_path, "t.txt", "\n".join(lines))) as source:
            list(source)
        (remark,) = source.remarks
        assert (remark.code, remark.severity) == ("data.double_encoded", "warning")
        assert "t.txt:3" in remark.message
        assert f"for {meant}" in remark.message

    @pytest.mark.parametrize(
        "text",
        [
            "NÃO É UM «CAFÉ»",
            "l’été à Paris…",
            "“CAFÉ” – “MAMÃ”",
            "Ärger, Öl, Übel",
            "ÎLE D’YEU",
            "São Paulo é ótimo",
            "£5 €",
        ],
    )
    def test_good_text_is_not_warned_of(self, tmp_path, text):
        assert doubly_encoded(text) is None
        with open_source(write(tmp_path, "t.txt", f"{text}\n{text}")) as source:
            list(source)
        assert source.remarks == []

    def test_control_characters_are_warned_of_with_their_lines(self, tmp_path):
        with open_source(write(tmp_path, "rows.csv", "a,b\nfine,x\nbad\x08,x\n")) as source:
            list(source)
        assert source.remarks[0].message == "1 line has control characters, such as U+0008: rows.csv:3."


class TestWrappers:
    def test_a_wrapper_is_refused_with_the_setting_that_consents(self, tmp_path):
        problem = problem_of(write(tmp_path, "rows.json", json.dumps({"v": 1, "data": [{"a": 1}] * 3}, indent=1)))
        assert problem.code == "data.wrapper"
        assert "data.unwrap: data" in problem.fix

    @pytest.mark.parametrize("indent", [None, 2])
    def test_the_setting_reads_the_rows_inside(self, tmp_path, indent):
        made = {"version": [1, {"x": "]"}], "rows": [{"a": n} for n in range(5)], "more": {"b": [2]}}
        path = write(tmp_path, "rows.json", json.dumps(made, indent=indent))
        assert [row.values for row in read(path, unwrap="rows")] == made["rows"]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ('{"rows": [{"a": 1}]', r"rows\.json:1:20: the file ends"),
            ('{"rows": [{"a": 1}', r"rows\.json:1:19: the list is not closed"),
            ('{"rows": [{"a": 1},]}', r"rows\.json:1:20: a comma is followed"),
            ('{"rows": [{"a": 1}]} more', r"more text follows the object"),
            ('{"row": [{"a": 1}]}', r"keys 'row'"),
            ('{"rows": {"a": 1}}', r"holds no list"),
            ('{"rows": []}', r"empty list"),
        ],
    )
    def test_what_is_wrong_inside_has_a_place(self, tmp_path, content, says):
        import re

        problem = problem_of(write(tmp_path, "rows.json", content), unwrap="rows")
        assert re.search(says, problem.message), problem.message

    def test_a_wrapper_larger_than_a_row_may_be(self, tmp_path, monkeypatch):
        monkeypatch.setattr("engine.data.text_in.MAX_ROW_CHARS", 2 * MIB)
        path = write(tmp_path, "rows.json", json.dumps({"data": [{"a": "x" * 100}] * 30_000}))
        assert problem_of(path).code == "data.wrapper"
        assert len(read(path, unwrap="data")) == 30_000

    def test_a_long_row_with_lists_of_objects_is_no_wrapper(self, tmp_path):
        row = {"passages": [{"title": "t", "text": "x" * 1000}] * 1500, "question": "q"}
        path = write(tmp_path, "rows.jsonl", "\n".join([json.dumps(row)] * 2))
        assert len(read(path)) == 2


def test_a_row_that_goes_beyond_every_head_is_whole(tmp_path):
    row = {"text": "naïve " * 400_000, "n": 1}
    for name, content in (
        ("rows.json", json.dumps([row, row], ensure_ascii=False)),
        ("rows.jsonl", "\n".join([json.dumps(row)] * 2)),
        ("rows.csv", "text,n\n" + f'"{row["text"]}",1\n' * 2),
    ):
        found = read(write(tmp_path, name, content))
        assert [found[0].values["text"], found[1].values["text"]] == [row["text"]] * 2


def test_columns_that_appear_late_are_there(tmp_path):
    lines = ['{"a": "x"}'] * 200_000 + ['{"a": "y", "b": "new"}']
    assert read(write(tmp_path, "rows.jsonl", "\n".join(lines)))[-1].values == {"a": "y", "b": "new"}


def test_numbers_and_texts_in_one_column_stay_what_they_are(tmp_path):
    lines = ['{"a": 1}'] * 10 + ['{"a": "eleven"}']
    assert [type(row.values["a"]) for row in read(write(tmp_path, "rows.jsonl", "\n".join(lines)))] == [int] * 10 + [
        str
    ]
