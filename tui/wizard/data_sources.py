"""Where data can come from: what a person typed, files near by, data of recent runs, what comes along."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textual.content import Content

from engine.catalog.objectives import OBJECTIVES
from engine.paths import typed_path
from engine.recipe.schema_data import source_paths
from engine.text import clean_line
from tui.backend import Choice
from tui.widgets.labels import muted, tail
from tui.widgets.path_input import looks_like_path
from tui.widgets.pick_list import PickRow

DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".md", ".jsonl.gz", ".jsonl.zst")
MAX_LISTED_FILES = 12
TYPED = "typed"
HELP = "A file, a folder, a pattern (data/*.jsonl) or hub:OWNER/NAME@REVISION#SPLIT; several are split by commas."


def picker_rows(typed: str, builtin: Sequence[Choice], recent: Sequence[str], files: Sequence[Path]) -> list[PickRow]:
    """Return the rows of the picker that fit what was typed."""
    rows: list[PickRow] = []
    take = PickRow(TYPED, Content.assemble((" → Read ", "bold $success"), (clean_line(typed), "bold")))
    if typed and (looks_like_path(typed) or os.path.exists(typed_path(typed)) or "," in typed):
        rows.append(take)
    for index, choice in enumerate(builtin):
        if typed.lower() in f"{choice.name} {choice.title}".lower():
            text = Content.assemble((f" ◆ {choice.title:<28}", "bold"), muted(choice.name))
            rows.append(PickRow(f"builtin-{index}", text))
    rows += _section("recent", "Used lately", "", [(f"recent-{i}", tail(s, 64)) for i, s in _fitting(typed, recent)])
    names = [(f"file-{i}", clean_line(name, max_chars=60)) for i, name in _fitting(typed, [f.name for f in files])]
    rows += _section("here", "In this folder", tail(Path.cwd(), 56), names)
    return rows or [take]


def builtin_for(builtin: Sequence[Choice], objective: str) -> list[Choice]:
    """Return the data sets that ship with ftwizard and that an objective can learn from: they are conversations."""
    goal = next((goal for goal in OBJECTIVES if goal.name == objective), None)
    return list(builtin) if goal is None or "messages" in goal.formats else []


def _fitting(typed: str, names: Sequence[str]) -> list[tuple[int, str]]:
    return [(index, name) for index, name in enumerate(names) if typed.lower() in name.lower()]


def _section(row_id: str, title: str, note: str, rows: Sequence[tuple[str, str]]) -> list[PickRow]:
    if not rows:
        return []
    heading = Content.assemble((f"\n {title}  ", "bold $accent"), muted(note))
    return [PickRow(row_id, heading, False), *(PickRow(name, Content(f"   {text}")) for name, text in rows)]


def typed_source(text: str) -> str | list[str]:
    """Return what a person typed as one path or several; existing files become absolute.

    A draft may be continued from another folder, so a path that means something here must not depend on it.
    """
    if "," in text and not os.path.exists(typed_path(text)):
        return [_absolute(part.strip()) for part in text.split(",") if part.strip()]
    return _absolute(text)


def _absolute(text: str) -> str:
    path = typed_path(text)
    return str(path.resolve()) if os.path.exists(path) else text


def source_text(source: Any) -> str:
    """Return what `data.source` names on one line."""
    return ", ".join(source_paths(source))


def files_here() -> list[Path]:
    """Return the data files of the folder that ftwizard was started in."""
    try:
        found = sorted(path for path in Path.cwd().iterdir() if path.name.lower().endswith(DATA_SUFFIXES))
    except OSError:
        return []
    return [path for path in found if not path.name.startswith((".", "README", "CHANGELOG"))][:MAX_LISTED_FILES]
