"""Spoilt files D01 to D14 of the catalogue: bytes, encodings, JSON."""

import gzip
import json

from tests.unit.bad_files import NUM_ROWS, Case, chats, lines, pairs, put, table, with_line

WHOLE = lines(pairs())
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
HTML = "<!doctype html>\n<html><head><title>404</title></head><body>Not Found</body></html>\n"

JSON_CASES = [
    # D01 broken JSON
    Case(
        "D01 missing comma",
        put("q.jsonl", with_line(13, '{"prompt": "x" "completion": "y"}')),
        r"q\.jsonl:13:16: .*not valid JSON.*','",
        "line",
    ),
    Case(
        "D01 trailing comma",
        put("a b.jsonl", with_line(4, '{"prompt": "x",}')),
        r"a b\.jsonl:4:16: .*not valid JSON",
        "line",
    ),
    Case(
        "D01 single quotes",
        put("q.jsonl", with_line(31, "{'prompt': 'x', 'completion': 'y'}")),
        r"q\.jsonl:31:2: .*not valid JSON",
        "line",
    ),
    Case(
        "D01 Python None",
        put("q.ndjson", with_line(60, '{"prompt": None}')),
        r"q\.ndjson:60:12: .*not valid JSON",
        "line",
    ),
    Case(
        "D01 two objects on a line",
        put("q.jsonl", with_line(2, '{"prompt": "x"} {"prompt": "y"}')),
        r"q\.jsonl:2:17: .*",
        "line",
    ),
    Case(
        "D01 line feed in a string",
        put("q.jsonl", with_line(9, '{"prompt": "x\ny", "completion": "z"}')),
        r"q\.jsonl:9:\d+: .*not valid JSON",
        "line",
    ),
    Case("D01 comment", put("q.jsonl", with_line(1, "// made by hand")), r"q\.jsonl:1:1: .*", r"\w+"),
    # D02 torn last line
    Case(
        "D02 in a string",
        put("t.jsonl", WHOLE + '{"prompt": "How'),
        rf"t\.jsonl:{NUM_ROWS + 1}:\d+: .*cut off",
        "again",
    ),
    Case(
        "D02 behind a colon", put("t.jsonl", WHOLE + '{"prompt":'), rf"t\.jsonl:{NUM_ROWS + 1}:\d+: .*cut off", "again"
    ),
    Case(
        "D02 in an escape",
        put("t.jsonl", WHOLE + '{"prompt": "caf\\u00'),
        rf"t\.jsonl:{NUM_ROWS + 1}:\d+: .*(cut off|escape)",
        r"\w+",
    ),
    Case(
        "D02 in a character",
        put("t.jsonl", (WHOLE + '{"prompt": "é').encode()[:-1]),
        rf"t\.jsonl:{NUM_ROWS + 1}:\d+",
        r"\w+",
    ),
    # D03 NUL byte
    Case("D03 in a string", put("n.jsonl", with_line(3, '{"prompt": "a\0b"}')), r"n\.jsonl:3:14 .*NUL", r"\w+"),
    Case("D03 in a cell", put("n.csv", table(pairs()).replace("day 8?", "day\0 8?")), r"n\.csv:10:\d+ .*NUL", r"\w+"),
    Case(
        "D03 in a text",
        put("n.txt", "One line.\nTwo\0 lines.\n"),
        r"n\.txt:2:4 .*NUL",
        r"\w+",
        objective="domain-adaptation",
    ),
    Case("D03 a hole in the file", put("n.jsonl", WHOLE + "\0" * 4096), rf"n\.jsonl:{NUM_ROWS + 1}:1 .*NUL", r"\w+"),
    # D04 UTF-16, damaged (whole files are read: see the legal ones)
    Case("D04 cut in a character", put("u.jsonl", WHOLE.encode("utf-16-le")[:-1]), r"u\.jsonl:\d+:\d+ .*", r"\w+"),
    Case("D04 one half is UTF-8", put("u.jsonl", WHOLE.encode("utf-16") + WHOLE.encode()), r"u\.jsonl", r"\w+"),
    Case(
        "D04 a lost surrogate",
        put("u.csv", table(pairs()).encode("utf-16") + b"\x3d\xd8"),
        r"u\.csv:\d+:\d+ .*",
        r"\w+",
    ),
    # D05 bytes of another encoding
    Case(
        "D05 Latin-1",
        put("l.jsonl", with_line(6, '{"prompt": "café au lait"}').encode("latin-1")),
        r"l\.jsonl:6:16 .*0xe9.*windows-1252.*café",
        "windows-1252",
    ),
    Case(
        "D05 in a table",
        put("l.csv", table([*pairs(), {"prompt": "São Tomé?", "completion": "não"}]).encode("latin-1")),
        rf"l\.csv:{NUM_ROWS + 2}:\d+ .*not UTF-8",
        "data.encoding",
    ),
    Case(
        "D05 Cyrillic",
        put("l.txt", "Съешь же ещё этих мягких французских булок.\n".encode("cp1251")),
        r"l\.txt:1:1 .*windows-1251",
        "data.encoding",
        objective="domain-adaptation",
    ),
    Case(
        "D05 one byte far behind",
        put("l.jsonl", (lines(pairs(4000)) + '{"prompt": "Ångström"}\n').encode("latin-1")),
        r"l\.jsonl:4001:13 .*0xc5",
        "data.encoding",
    ),
    # D06 lone surrogate
    Case(
        "D06 first half",
        put("s.jsonl", with_line(5, '{"prompt": "\\ud83d", "completion": "x"}')),
        r"s\.jsonl:5:1: half of a character",
        r"\w+",
    ),
    Case(
        "D06 second half in a key",
        put("s.jsonl", with_line(2, '{"\\udc00": "x"}')),
        r"s\.jsonl:2:1: half of a character",
        r"\w+",
    ),
    Case(
        "D06 in a list",
        put("s.json", '[{"prompt": "a", "completion": "b"},\n{"prompt": "\\ud800 x", "completion": "b"}]'),
        r"s\.json:2:1: half of a character",
        r"\w+",
    ),
    Case(
        "D06 as bytes",
        put("s.jsonl", with_line(7, '{"prompt": "@"}').encode().replace(b"@", b"\xed\xa0\xbd")),
        r"s\.jsonl:7:13 .*not UTF-8",
        r"\w+",
    ),
    # D07 nothing in it
    *(
        Case(f"D07 {name}", put(name, ""), rf"{name} is empty", r"\w+")
        for name in ("e.jsonl", "e.csv", "e.json", "e.txt", "e.parquet", "e.jsonl.gz")
    ),
    Case("D07 packed nothing", put("e.jsonl.gz", gzip.compress(b"")), r"e\.jsonl\.gz is empty", r"\w+"),
    Case("D07 a list of nothing", put("e.json", "[ ]"), r"e\.json is an empty list", r"\w+"),
    Case("D07 a header alone", put("e.csv", "prompt,completion\r\n"), r"e\.csv has a header and no rows", r"\w+"),
    Case("D07 a mark alone", put("e.jsonl", b"\xef\xbb\xbf"), r"e\.jsonl (is empty|holds only blank)", r"\w+"),
    # D08 blank lines
    Case("D08 lines", put("b.jsonl", "\n \r\n\t\n\n"), r"b\.jsonl holds only blank lines", r"\w+"),
    Case("D08 table", put("b.csv", "\n\n\n"), r"b\.csv holds only blank lines", r"\w+"),
    Case("D08 text", put("b.md", "   \n\n"), r"b\.md holds only blank lines", r"\w+", objective="domain-adaptation"),
    Case("D08 packed", put("b.jsonl.gz", gzip.compress(b"\n" * 99)), r"b\.jsonl\.gz holds only blank lines", r"\w+"),
    # D09 a page instead of data
    *(
        Case(f"D09 {name}", put(name, HTML), rf"{name} .*HTML page", "ownload")
        for name in ("h.jsonl", "h.csv", "h.json", "h.parquet")
    ),
    Case(
        "D09 behind a mark and blanks",
        put("h.jsonl", b"\xef\xbb\xbf\n  " + HTML.upper().encode()),
        r"h\.jsonl .*HTML page",
        "ownload",
    ),
    Case(
        "D09 an answer of a storage",
        put("h.jsonl", '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'),
        r"h\.jsonl is an XML document",
        "ownload",
    ),
    # D10 Git-LFS pointer
    *(
        Case(f"D10 {name}", put(name, LFS_POINTER), rf"{name} .*Git-LFS pointer", "git lfs pull")
        for name in ("g.jsonl", "g.csv", "g.parquet", "g.jsonl.gz")
    ),
    # D11 list that ends too early
    Case(
        "D11 in a row",
        put("c.json", "[\n" + ",\n".join(map(json.dumps, pairs(9))) + ',\n{"prompt"'),
        r"c\.json:11:\d+: .*cut off",
        "again",
    ),
    Case(
        "D11 between rows",
        put("c.json", "[\n" + ",\n".join(map(json.dumps, pairs(9)))),
        r"c\.json:10:\d+: the list is not closed",
        "again",
    ),
    Case(
        "D11 behind a comma",
        put("c.json", "[\n" + ",\n".join(map(json.dumps, pairs(9))) + ","),
        r"c\.json:10:\d+: .*(cut off|not closed|no row)",
        r"\w+",
    ),
    Case("D11 on one line", put("c.json", json.dumps(pairs())[:-40]), r"c\.json:1:\d+: .*cut off", "again"),
    # D12 lines that are no objects
    *(
        Case(f"D12 {what}", put("o.jsonl", with_line(7, line)), rf"o\.jsonl:7:1: .*{says}", r"\w+")
        for what, line, says in (
            ("list", "[1, 2]", "a list"),
            ("number", "12", "a number"),
            ("NaN", "NaN", "NaN is not JSON"),
            ("null", "null", "null"),
            ("string", '"text"', "a string"),
            ("truth", "true", "true or false"),
            ("Infinity", '{"prompt": -Infinity}', "Infinity is not JSON"),
        )
    ),
    Case(
        "D12 in a list",
        put("o.json", '[{"prompt": "a", "completion": "b"},\n\n 7]'),
        r"o\.json:3:2: the row is a number",
        r"\w+",
    ),
    # D13 an object around the rows
    Case(
        "D13 data",
        put("w.json", json.dumps({"data": pairs()})),
        rf'w\.json .*"data" holds {NUM_ROWS} rows',
        "data.unwrap: data",
    ),
    Case(
        "D13 pretty",
        put("w.json", json.dumps({"version": 2, "examples": pairs()}, indent=2)),
        r'w\.json .*"examples"',
        "data.unwrap: examples",
    ),
    Case(
        "D13 on a line",
        put("w.jsonl", json.dumps({"rows": pairs(), "next": None}) + "\n"),
        r'w\.jsonl .*"rows"',
        "data.unwrap: rows",
    ),
    Case(
        "D13 another key",
        put("w.json", json.dumps({"data": pairs()})),
        r"data\.unwrap is 'rows', but w\.json.*'data'",
        r"\w+",
        data={"unwrap": "rows"},
    ),
    Case(
        "D13 columns as lists",
        put("w.json", json.dumps({"prompt": ["a", "b"], "completion": ["c", "d"]})),
        r"w\.json .*each column as a list of 2 cells",
        "orient",
    ),
    Case(
        "D13 columns as objects",
        put(
            "w.json",
            json.dumps(
                {key: {str(n): row[key] for n, row in enumerate(pairs())} for key in ("prompt", "completion")}, indent=1
            ),
        ),
        rf"w\.json .*each column as a list of {NUM_ROWS} cells",
        "orient",
    ),
    # D14 keys twice
    Case(
        "D14 in a row",
        put("k.jsonl", with_line(2, '{"prompt": "a", "completion": "b", "prompt": "c"}')),
        r"k\.jsonl:2:1: .*'prompt'.*twice",
        r"\w+",
    ),
    Case(
        "D14 in a turn",
        put("k.jsonl", with_line(40, '{"messages": [{"role": "user", "role": "assistant", "content": "x"}]}', chats())),
        r"k\.jsonl:40:1: .*'role'.*twice",
        r"\w+",
    ),
    Case(
        "D14 in a list",
        put("k.json", '[\n{"prompt": "a", "completion": "b"},\n{"completion": "b", "completion": "b"}]'),
        r"k\.json:3:1: .*'completion'.*twice",
        r"\w+",
    ),
]
