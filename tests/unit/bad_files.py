"""Files as people have them, made anew for each test: whole rows, and the ways in which files are spoilt."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOKEN = "ghp_" + "R4kQz81LwYx7Tn2VbM5cJd9Sf3GhA60uEoPi"
"""Looks like an access token; it stands in a row of most files and must never be in a message."""
NUM_ROWS = 60
_THINGS = ("kettle", "bicycle", "letter", "harbour", "orchard", "violin", "ladder", "meadow", "lantern", "bridge")
_DEEDS = ("repaired", "painted", "sold", "carried", "measured", "forgotten", "borrowed", "drawn", "counted", "moved")


def pair(number: int) -> dict[str, str]:
    """Return a question with its answer; no two are alike."""
    thing, deed = _THINGS[number % 10], _DEEDS[number // 10 % 10]
    return {"prompt": f"Why was the {thing} {deed} on day {number}?", "completion": f"Rule {number * 7} asks for it."}


def chat(number: int) -> dict[str, Any]:
    """Return the same as a conversation."""
    row = pair(number)
    return {
        "messages": [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        ]
    }


def pairs(count: int = NUM_ROWS) -> list[dict[str, Any]]:
    """Return rows of questions and answers; the second one quotes a token."""
    rows: list[dict[str, Any]] = [pair(number) for number in range(count)]
    rows[1]["prompt"] += f" My key is {TOKEN}."
    return rows


def chats(count: int = NUM_ROWS) -> list[dict[str, Any]]:
    """Return conversations."""
    return [chat(number) for number in range(count)]


def lines(rows: Iterable[Any]) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> str:
    """Return rows as a table, every cell in quotes."""

    def record(cells: Iterable[Any]) -> str:
        return delimiter.join('"' + str(cell).replace('"', '""') + '"' for cell in cells) + "\n"

    return record(rows[0]) + "".join(record(row.values()) for row in rows)


def with_line(number: int, line: str, rows: Sequence[dict[str, Any]] | None = None) -> str:
    """Return JSON Lines whose line of this number, from 1, is another one."""
    whole = lines(pairs() if rows is None else rows).splitlines()
    whole[number - 1] = line
    return "\n".join(whole) + "\n"


def with_row(number: int, row: object, rows: Sequence[dict[str, Any]] | None = None) -> str:
    """Return JSON Lines whose row of this number, from 1, is another one."""
    return with_line(number, json.dumps(row), rows)


def put(name: str, content: str | bytes) -> Callable[[Path], str]:
    """Return what writes one file and tells its path."""

    def write(folder: Path) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@dataclass(frozen=True, slots=True)
class Case:
    """One spoilt file.

    Attributes:
        defect: Its number and name in the catalogue of bad files, and which variant it is.
        make: Writes it into a folder and returns `data.source`.
        says: What the message must say: place, cause and, where there are any, counts (a regular expression).
        fix: What the next action must say.
        blocks: Whether the start is refused; otherwise it is a warning, and every row is used or counted.
        severity: Severity of the finding where the start is not refused.
        dropped: Rows that are left out, by reason.
        objective: What the rows are for.
        data: Other keys of the data section; a function gets the folder.
    """

    defect: str
    make: Callable[[Path], str]
    says: str
    fix: str = r"\w{3,}"
    blocks: bool = True
    severity: str = "warning"
    dropped: dict[str, int] | None = None
    objective: str = "chat"
    data: dict[str, Any] | Callable[[Path], dict[str, Any]] = field(default_factory=dict)


def warned(
    defect: str, make: Callable[[Path], str], says: str, dropped: dict[str, int] | None = None, **other: Any
) -> Case:
    """Return a case that does not refuse the start, but is told."""
    return Case(defect, make, says, blocks=False, dropped=dropped or {}, **{"fix": "", **other})
