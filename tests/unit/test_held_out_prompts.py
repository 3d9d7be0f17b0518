"""Prompts of a run, from rows of every kind; a damaged file gives fewer, never an error."""

import json
from pathlib import Path
from typing import Any

from engine.runs.directory import RunDirectory
from engine.runs.held_out_prompts import HeldOutPrompt, held_out_prompts, recipe_prompts


def prompts_of(tmp_path: Path, *rows: Any, limit: int = 10) -> list[HeldOutPrompt]:
    run = RunDirectory(tmp_path)
    run.data_folder.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps({"id": f"r:{at}", **row}) for at, row in enumerate(rows)]
    run.held_out_file.write_text("".join(line + "\n" for line in lines))
    return held_out_prompts(run, limit)


def say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_a_conversation_is_asked_for_its_last_answer(tmp_path: Path) -> None:
    turns = [say("system", "s"), say("user", "one"), say("assistant", "a"), say("user", "two"), say("assistant", "b")]
    (prompt,) = prompts_of(tmp_path, {"messages": turns})
    assert prompt.messages == tuple(turns[:-1])
    assert (prompt.shown, prompt.expected) == ("two", "b")


def test_every_kind_of_row_becomes_a_prompt(tmp_path: Path) -> None:
    asked, good, bad = [say("user", "q")], [say("assistant", "good")], [say("assistant", "bad")]
    found = prompts_of(
        tmp_path,
        {"prompt": asked, "chosen": good, "rejected": bad},
        {"prompt": asked, "completion": bad, "label": False},
        {"prompt": asked, "answer": "42"},
        {"text": "a b c d e f"},
        {"text": "which", "label": "card"},
        {"text": "which", "labels": ["a", "b"]},
    )
    assert [prompt.expected for prompt in found] == ["good", "", "42", "d e f", "card", "a, b"]
    assert [prompt.shown for prompt in found] == ["q", "q", "q", "a b c", "which", "which"]


def test_rows_that_cannot_be_asked_are_passed_over(tmp_path: Path) -> None:
    calls = {"role": "assistant", "content": "", "tool_calls": [{}]}
    found = prompts_of(
        tmp_path,
        "not json",
        "[1]",
        {"messages": [say("user", "q"), say("assistant", "a")], "tools": [{}]},
        {"messages": [say("user", "q"), calls, say("tool", "t"), say("assistant", "a")]},
        {"messages": [say("user", "q")]},
        {"messages": 3},
        {"messages": [3, "x"]},
        {"prompt": "text"},
        {"text": "word"},
        {"messages": [say("user", "q"), say("assistant", "a")]},
    )
    assert [prompt.id for prompt in found] == ["r:9"]


def test_only_as_many_as_wanted_and_none_without_a_file(tmp_path: Path) -> None:
    rows = [{"messages": [say("user", "q"), say("assistant", "a")]}] * 5
    assert len(prompts_of(tmp_path, *rows, limit=3)) == 3
    assert held_out_prompts(RunDirectory(tmp_path / "none"), 3) == []
    assert recipe_prompts(RunDirectory(tmp_path / "none")) == []
