"""Spoilt files D30 to D40 of the catalogue: tables, workbooks, archives, bombs, Parquet, paths."""

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.unit.bad_files import NUM_ROWS, Case, lines, pair, pairs, put, table, warned, with_line, with_row

WHOLE = lines(pairs())
OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
BOMB_BYTES = 64 << 20


def zipped(members: dict[str, str | bytes]) -> bytes:
    """Return a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


def locked_zip() -> bytes:
    """Return a zip archive that asks for a password."""
    raw = bytearray(zipped({"rows.jsonl": WHOLE}))
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


def workbook(**more: str) -> bytes:
    """Return the skeleton of an Excel workbook with a formula, merged cells, a date and two sheets."""
    sheet = '<worksheet><sheetData><row r="1"><c r="A1" t="str"><f>B1&amp;"?"</f></c></row></sheetData>'
    sheet += '<mergeCells count="1"><mergeCell ref="A1:B2"/></mergeCells></worksheet>'
    members: dict[str, str | bytes] = {"[Content_Types].xml": "<Types/>", "xl/workbook.xml": "<workbook/>"}
    members |= {f"xl/worksheets/sheet{number}.xml": sheet for number in (1, 2)}
    return zipped(members | dict(more))


def zstd(content: bytes) -> bytes:
    """Return a Zstandard frame."""
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


def parquet(rows: list[dict[str, object]]) -> bytes:
    """Return a Parquet file."""
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), content)
    return content.getvalue()


def long_text(row: str, number: int) -> Callable[[Path], str]:
    """Return what writes many rows and then one line."""

    def write(folder: Path) -> str:
        path = folder / "late.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps(pair(n)) + "\n" for n in range(number - 1))
            file.write(row + "\n")
        return str(path)

    return write


TABLE_CASES = [
    # D30 numbers, then text
    warned(
        "D30 row 11",
        put(
            "i.jsonl",
            lines(
                [{"prompt": f"{n} plus 3?", "completion": n + 3 if n < 10 else f"It is {n + 3}."} for n in range(60)]
            ),
        ),
        r"10 rows have a number as answer.*i\.jsonl:1, ",
    ),
    warned(
        "D30 once",
        put("i.jsonl", with_row(11, {"prompt": "How many?", "completion": 12})),
        r"1 row has a number as answer.*i\.jsonl:11",
    ),
    # D31 a column that comes late
    Case(
        "D31 needed column is gone",
        long_text('{"prompt": "Late?", "answr": "Yes."}', 3001),
        r"late\.jsonl:3001",
        blocks=False,
        fix="",
        dropped={"missing_column": 1},
    ),
    # D32 ragged tables
    Case(
        "D32 a cell more",
        put("r.csv", "prompt,completion\na,b\nc,d,e\nf,g\n"),
        r"r\.csv:3:1: the row has 3 cells, the header 2",
        r"\w+",
    ),
    Case(
        "D32 a cell less",
        put("r.tsv", "prompt\tcompletion\na\tb\nc\nf\tg\n"),
        r"r\.tsv:3:1: the row has 1 cell",
        r"\w+",
    ),
    Case(
        "D32 behind a long cell",
        put("r.csv", 'prompt,completion\n"a\nb\nc",d\n"x",y,z\n'),
        r"r\.csv:5:1: the row has 3 cells",
        r"\w+",
    ),
    Case(
        "D32 header shorter",
        put("r.csv", "prompt\n" + "a,b\n" * 9),
        r"r\.csv:2:1: the row has 2 cells, the header 1",
        r"\w+",
    ),
    Case("D32 names twice", put("r.csv", "prompt,answer,answer\na,b,c\n"), r"r\.csv.*'answer' twice", r"\w+"),
    Case(
        "D32 a column without name",
        put("r.csv", "prompt,,completion\na,b,c\n"),
        r"r\.csv.*column 2 of the header",
        r"\w+",
    ),
    # D34 unclosed quote
    Case(
        "D34 first rows",
        put("q.csv", 'prompt,completion\na,b\nc,"d\ne,f\n'),
        r"q\.csv:3:1: a quote opened in this row",
        r"\w+",
    ),
    Case(
        "D34 far behind",
        put("q.csv", table(pairs()) + '"open,x\nmore,y\n'),
        rf"q\.csv:{NUM_ROWS + 2}:1: a quote opened in this row",
        r"\w+",
    ),
    Case(
        "D34 a quote inside",
        put("q.csv", 'prompt,completion\na,"b" c\n'),
        r"q\.csv:2:1: the quotes of this row",
        r"\w+",
    ),
    # D36 workbooks
    *(
        Case(f"D36 {name}", put(name, content), rf"{name} is .*Excel", "CSV")
        for name, content in (
            ("x.xlsx", workbook()),
            ("x.xlsm", workbook(**{"xl/vbaProject.bin": "macro"})),
            ("x.csv", workbook()),
            ("x.xls", OLD_EXCEL),
        )
    ),
    Case("D36 old one named csv", put("x.csv", OLD_EXCEL), r"x\.csv:1:1 .*old Office document", "CSV"),
    Case("D36 LibreOffice", put("x.ods", b"PK\x03\x04"), r"x\.ods is a spreadsheet", "CSV"),
    # D37 archives that end too early, or ask for a password
    *(
        Case(
            f"D37 {suffix}",
            put(f"z.jsonl.{suffix}", packed[: len(packed) // 2]),
            rf"z\.jsonl\.{suffix} .*not a whole",
            "again",
        )
        for suffix, packed in (
            ("gz", gzip.compress(os.urandom(9000).hex().encode())),
            ("zst", zstd(os.urandom(9000).hex().encode())),
            ("bz2", bz2.compress(os.urandom(9000).hex().encode())),
            ("xz", lzma.compress(os.urandom(9000).hex().encode())),
            ("zip", zipped({"r.jsonl": os.urandom(9000).hex()})),
        )
    ),
    Case(
        "D37 lost its last bytes",
        put("z.jsonl.gz", gzip.compress(WHOLE.encode())[:-4]),
        r"z\.jsonl\.gz .*not a whole gzip",
        "again",
    ),
    Case(
        "D37 a flipped byte",
        put("z.jsonl.gz", gzip.compress(WHOLE.encode())[:-8] + bytes(8)),
        r"z\.jsonl\.gz .*gzip",
        r"\w+",
    ),
    Case("D37 password", put("z.zip", locked_zip()), r"z\.zip .*password", r"\w+"),
    Case("D37 named gz only", put("z.jsonl.gz", WHOLE), r"z\.jsonl\.gz .*not a whole gzip", r"\w+"),
    Case(
        "D37 several in one",
        put("z.zip", zipped({"a.jsonl": WHOLE, "b.jsonl": WHOLE})),
        r"z\.zip .*(2|several)",
        r"\w+",
    ),
    # D38 bombs
    *(
        Case(
            f"D38 {suffix}", put(f"bomb.jsonl.{suffix}", packed), rf"bomb\.jsonl\.{suffix} .*(grow|bomb|times)", r"\w+"
        )
        for suffix, packed in (
            ("gz", gzip.compress(bytes(BOMB_BYTES).replace(b"\0", b" "))),
            ("zst", zstd(bytes(BOMB_BYTES).replace(b"\0", b" "))),
            ("zip", zipped({"b.jsonl": bytes(BOMB_BYTES).replace(b"\0", b" ")})),
        )
    ),
    *(
        Case(f"D38 nested {name}", put(name, content), rf"{name}.*(archive|compressed)", r"\w+")
        for name, content in (
            ("n.jsonl.gz", gzip.compress(gzip.compress(WHOLE.encode()))),
            ("n.zip", zipped({"inner.zip": zipped({"r.jsonl": WHOLE})})),
            ("m.zip", zipped({"r.jsonl.gz": gzip.compress(WHOLE.encode())})),
        )
    ),
    # D39 Parquet
    Case("D39 named so", put("p.parquet", WHOLE), r"p\.parquet .*not a whole Parquet file", r"\w+"),
    Case("D39 cut", put("p.parquet", parquet(pairs())[:-30]), r"p\.parquet .*not a whole Parquet file", "again"),
    Case(
        "D39 signature alone",
        put("p.parquet", b"PAR1 and nothing more PAR1"),
        r"p\.parquet .*not a whole Parquet file",
        r"\w+",
    ),
]


def _late_binary(folder: Path) -> str:
    (folder / "mixed").mkdir()
    (folder / "mixed" / "a.jsonl").write_text(WHOLE)
    (folder / "mixed" / "b.csv").write_text(table(pairs()))
    (folder / "mixed" / "c.csv").write_text(table(pairs()))
    return str(folder / "mixed")


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "f.jsonl")
    return str(folder / "f.jsonl")


def _loop(folder: Path) -> str:
    (folder / "f.jsonl").symlink_to(folder / "g.jsonl")
    (folder / "g.jsonl").symlink_to(folder / "f.jsonl")
    return str(folder / "f.jsonl")


def _gone(folder: Path) -> str:
    (folder / "f.jsonl").symlink_to(folder / "nowhere.jsonl")
    return str(folder / "f.jsonl")


def _folder_without_data(folder: Path) -> str:
    (folder / "d").mkdir()
    (folder / "d" / "notes.docx").write_text("x")
    return str(folder / "d")


PATH_CASES = [
    Case("D39 Arrow cut", put("p.arrow", b"ARROW1\0\0 cut"), r"p\.arrow .*not a whole Arrow", r"\w+"),
    # D40 what is too long, and what is no file
    Case(
        "D40 a row of 33 MB",
        put("l.jsonl", with_line(4, '{"prompt": "' + "word " * 6_800_000 + '"}')),
        r"l\.jsonl:4",
        r"\w+",
    ),
    Case("D40 kinds mixed in a folder", _late_binary, r"2 CSV files, 1 JSON Lines file", r"\*\.csv"),
    Case("D40 pipe", _pipe, r"f\.jsonl is a named pipe", r"\w+"),
    Case("D40 device", lambda folder: "/dev/zero", r"/dev/zero is a device", r"\w+"),
    Case("D40 link to itself", _loop, r"f\.jsonl .*link", r"\w+"),
    Case("D40 link to nothing", _gone, r"f\.jsonl is a link to a file that is not there", r"\w+"),
    Case("D40 folder without data", _folder_without_data, r"without data files; it holds notes\.docx", r"\w+"),
    Case(
        "D40 missing",
        lambda folder: put("train.jsonl", WHOLE)(folder).replace("train", "trian"),
        r"trian\.jsonl does not exist",
        r"train\.jsonl",
    ),
]
