"""Files that look odd and are sound: every row is read as it is, and nothing is said but that there are few."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.data.pipeline import prepare
from engine.recipe.schema import Recipe
from tests.unit.bad_files import chat, pair

NUM_ROWS = 64
PAIRS: list[dict[str, Any]] = [pair(number) for number in range(NUM_ROWS)]
CHATS = [chat(number) for number in range(NUM_ROWS)]
SPELLED = [json.dumps(row, ensure_ascii=False) for row in PAIRS]
LINES = "".join(f"{line}\n" for line in SPELLED)
SCRIPTS = (
    "مرحبا، كيف حالك اليوم؟",
    "שלום, מה שלומך היום?",
    "今天天气怎么样？",
    "Как у тебя дела?",
    "👩‍👩‍👧‍👦 e\u0301 🇨🇭 ok?",
    "آیا می‌خواهید؟",
)


def changed(change: Callable[[dict[str, Any], int], dict[str, Any]], rows: list[dict[str, Any]] | None = None) -> str:
    """Return JSON Lines of rows that were changed by row and number."""
    return "".join(
        json.dumps(change(row, n), ensure_ascii=False) + "\n" for n, row in enumerate(PAIRS if rows is None else rows)
    )


def mixed_breaks() -> str:
    return "".join(line + ("\r\n", "\n", "\n\r\n")[n % 3] for n, line in enumerate(SPELLED))


def padded(row: dict[str, Any], number: int) -> dict[str, Any]:
    return row if number != 40 else {"prompt": "word " * 2_400_000 + "?", "completion": "Twelve megabytes."}


def schema(number: int) -> list[dict[str, Any]]:
    leg = {"type": "object", "properties": {"to": {"type": "string"}, "via": {"type": "array", "items": {"$ref": "#"}}}}
    return [
        {"type": "function", "function": {"name": f"route_{number}", "parameters": leg}},
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ]


def calling(number: int) -> dict[str, Any]:
    """Return a conversation with a call of a tool whose arguments are nested, and its result."""
    legs = {"legs": [{"to": "Ulm", "via": [{"to": f"Stop {number}", "via": []}]}], "note": None, "fast": True}
    call = {
        "id": f"c{number}",
        "type": "function",
        "function": {"name": f"route_{number}", "arguments": json.dumps(legs)},
    }
    return {
        "messages": [
            {"role": "user", "content": f"How do I get to stop {number}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": json.dumps({"minutes": 3 * number})},
            {"role": "assistant", "content": f"It takes {3 * number} minutes."},
        ],
        "tools": schema(number),
    }


def cells(delimiter: str, line_end: str = "\n") -> str:
    """Return a table with quoted cells that hold delimiters, quotes and line feeds."""
    rows = [("prompt", "completion")]
    for row in PAIRS:
        rows.append((f'{row["prompt"]}, or{delimiter} "not"?', f"{row['completion']}{line_end}Really{delimiter} yes."))
    return "".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in record) + line_end for record in rows)


FILES: dict[str, tuple[str, str | bytes]] = {
    "BOM": ("rows.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
    "CRLF": ("rows.jsonl", LINES.replace("\n", "\r\n")),
    "blank lines": ("rows.jsonl", "\n\n" + LINES.replace("\n", "\n\n  \n") + "\n\n"),
    "JSON array": ("rows.json", json.dumps(PAIRS)),
    "gz": ("rows.jsonl.gz", gzip.compress(LINES.encode())),
    "12 MB line": ("rows.jsonl", changed(padded)),
    "extra keys": ("rows.jsonl", changed(lambda row, n: {**row, "meta": {"a": [n, {"b": None}]}, f"only_{n}": n})),
    "scripts": (
        "rows.jsonl",
        changed(lambda row, n: {"prompt": f"{SCRIPTS[n % 6]} {n}", "completion": f"{SCRIPTS[n % 6]} ({n})"}),
    ),
    **{
        f"only {script[:12]}": (
            "rows.jsonl",
            "".join(
                json.dumps({"prompt": f"{script} {n}", "completion": f"{script} ({n})"}, ensure_ascii=False) + "\n"
                for n in range(NUM_ROWS)
            ),
        )
        for script in SCRIPTS
    },
    "mixed line ends": ("rows.jsonl", mixed_breaks()),
    "BOM, CRLF and gz": ("rows.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())),
    "no line end at the end": ("rows.jsonl", LINES.rstrip("\n")),
    "array on many lines": ("rows.json", json.dumps(PAIRS, indent="\t")),
    "array under the name of lines": ("rows.jsonl", json.dumps(PAIRS, indent=1)),
    "lines under the name of an array": ("rows.json", LINES),
    "escaped everything": ("rows.jsonl", "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in PAIRS)),
    "escaped emoji": ("rows.jsonl", LINES.replace("Rule", "\\ud83d\\ude42 Rule")),
    "slashes escaped": ("rows.jsonl", LINES.replace("Rule", "https:\\/\\/rule")),
    "line separators in text": ("rows.jsonl", LINES.replace("asks", "asks\u2028and\u0085asks")),
    "keys in another order": ("rows.jsonl", changed(lambda row, n: dict(reversed(row.items())) if n % 2 else row)),
    "very long field names": ("rows.jsonl", changed(lambda row, n: {**row, "x" * 5000: n, "名" * 700: "a"})),
    "ids that are numbers": ("rows.jsonl", changed(lambda row, n: {"id": n, **row, "created": 1.5e9 + n})),
    "ids that are numbers or text": ("rows.jsonl", changed(lambda row, n: {"id": n if n % 2 else f"r{n}", **row})),
    "spaces around": ("rows.jsonl", "".join(f"  {line}\t \n" for line in SPELLED)),
    "spaces at ends of answers": (
        "rows.jsonl",
        changed(lambda row, n: {**row, "completion": row["completion"] + "  \n"}),
    ),
    "big numbers beside": ("rows.jsonl", changed(lambda row, n: {**row, "n": 10**40 + n, "f": -0.0})),
    "null beside": ("rows.jsonl", changed(lambda row, n: {**row, "source_url": None, "tags": []})),
    "UTF-16 with mark": ("rows.jsonl", LINES.encode("utf-16")),
    "UTF-16 without mark": ("rows.jsonl", LINES.encode("utf-16-be")),
    "UTF-32": ("rows.jsonl", LINES.encode("utf-32")),
    "Zstandard under another name": ("rows.jsonl", pa.Codec("zstd").compress(LINES.encode(), asbytes=True)),
    "table": ("rows.csv", cells(",")),
    "table with CRLF": ("rows.csv", cells(",", "\r\n")),
    "table with semicolons": ("rows.csv", cells(";")),
    "table with tabs and a mark": ("rows.tsv", b"\xef\xbb\xbf" + cells("\t").encode()),
    "table with a last column of nothing": (
        "rows.csv",
        "prompt,completion,note\n" + "".join(f"{row['prompt']},{row['completion']},\n" for row in PAIRS),
    ),
    "conversations": ("rows.jsonl", "".join(json.dumps(row) + "\n" for row in CHATS)),
    "roles in capitals": ("rows.jsonl", "".join(json.dumps(row) + "\n" for row in CHATS).replace('"user"', '"User"')),
    "parts of text": (
        "rows.jsonl",
        "".join(
            json.dumps(
                {
                    "messages": [
                        {**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in row["messages"]
                    ]
                }
            )
            + "\n"
            for row in CHATS
        ),
    ),
    "conversations as JSON in cells": (
        "rows.csv",
        "id,messages\n"
        + "".join('{},"{}"\n'.format(n, json.dumps(row["messages"]).replace('"', '""')) for n, row in enumerate(CHATS)),
    ),
    "nested tools": ("rows.jsonl", "".join(json.dumps(calling(n)) + "\n" for n in range(NUM_ROWS))),
    "a system column in some rows": (
        "rows.jsonl",
        changed(lambda row, n: {**row, "system": "Be brief."} if n % 3 == 0 else row),
    ),
}


TOLD = {"12 MB line": "data.length_outliers", "scripts": "data.other_languages"}
"""What is true of a file and worth a note: one row that is far longer than the others; rows of four scripts."""


def prepared_of(path: Path) -> Any:
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": str(path)}, "training": {"seed": 3}}
    return prepare(Recipe.model_validate(tree))


@pytest.mark.parametrize("what", FILES)
def test_every_row_is_used_and_nothing_is_said(what, tmp_path):
    name, content = FILES[what]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    prepared = prepared_of(path)
    told = [(finding.severity, finding.code) for finding in prepared.profile.findings]
    assert told == ([("note", TOLD[what])] if what in TOLD else []), prepared.profile.findings
    assert prepared.profile.dropped == {}
    assert prepared.profile.num_rows == NUM_ROWS
    assert len(prepared.train_rows) + len(prepared.held_out_rows) == NUM_ROWS


def test_what_the_rows_say_is_not_changed(tmp_path):
    """White space at the ends, joiners, marks and line ends within cells are part of an answer."""
    answers = ["  two spaces before", "after  \n", "می‌خواهم", "e\u0301", "👩‍🔬", "a\tb", "x\r\ny", "\u00a0y"]
    rows = [{"prompt": f"Which is number {n}?", "completion": text} for n, text in enumerate(answers)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepared_of(path)
    said = {
        row["messages"][0]["content"]: row["messages"][1]["content"]
        for row in (*prepared.train_rows, *prepared.held_out_rows)
    }
    assert said == {row["prompt"]: row["completion"] for row in rows}
    assert [finding.code for finding in prepared.profile.findings] == ["data.few_rows"]
