"""What is found in the data, as text: how far the reading is, numbers, first rows."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from textual.content import Content

from engine.planning.data_words import learnt_word, reason_words
from engine.planning.profiles import DataProfile, LengthProfile
from engine.recipe.problems import Problem
from engine.text import clean, clean_line, human_bytes, human_duration
from tui.backend import ShapeLook, WorkProgress
from tui.widgets.labels import problem_label

MAX_VALUE_LINES = 6
ROLE_WIDTH = 11
MAX_VALUE_CHARS = 600
BAR_CELLS = 24
SUMMARY_LINES = 6
"""Of what was found, above the rows: the height that the style sheet gives it."""
SHORT_CHARS = 74
"""A line of 80 columns beside the mark of a finding; its whole text stands under Problems."""
CERTAIN = 0.8
"""Confidence from which on the engine takes a reading without asking."""


def work_words(work: WorkProgress | None, look: ShapeLook | None, elapsed_s: float) -> str:
    """Return how far the reading is, in words: stage, share or rows, time, and what is known so far."""
    parts = [clean_line(work.stage, max_chars=48) if work is not None else "Reading"]
    if work is not None and work.total:
        parts.append(f"{min(1.0, work.done / work.total):.0%}")
    elif work is not None and work.done:
        parts.append(f"{work.done:,} rows" if work.unit == "rows" else human_bytes(work.done))
    if elapsed_s >= 1:
        parts.append(human_duration(elapsed_s))
    found = finding_so_far(work, look)
    return "  ".join(parts) + (f"  {found}" if found else "")


def finding_so_far(work: WorkProgress | None, look: ShapeLook | None) -> str:
    """Return what is known already, of the work itself or of the first rows: `read as messages, 12,431 rows so far`."""
    if work is not None and work.found:
        return clean_line(work.found, max_chars=120)
    if look is None or not look.offers or look.offers[0].confidence < CERTAIN:
        return ""
    rows = work.done if work is not None and work.unit == "rows" else 0
    return f"read as {clean_line(look.offers[0].format)}" + (f", {rows:,} rows so far" if rows else "")


def work_content(source: str, work: WorkProgress | None, look: ShapeLook | None, elapsed_s: float) -> Content:
    """Return three lines about a reading under way: what is read, a bar with stage and time, early findings."""
    first = Content.assemble((f"◌ Reading {source}…", "bold $primary"), ("  esc cancels", "$text-muted"))
    share = min(1.0, work.done / work.total) if work is not None and work.total else 0.0
    filled = round(share * BAR_CELLS)
    bar = "█" * filled + "░" * (BAR_CELLS - filled)
    alone = None if work is None else replace(work, found="")  # What was found has a line of its own.
    second = Content.assemble((f"  {bar}  ", "$primary"), work_words(alone, None, elapsed_s))
    found = finding_so_far(work, look)
    return Content("\n").join([first, second, *([Content.styled(f"  {found}", "$text-muted")] if found else [])])


def summary_content(profile: DataProfile, problems: Sequence[Problem]) -> Content:
    """Return three lines of numbers, then the worst findings."""
    lines = [rows_line(profile), *_dropped_lines(profile), _lengths_line(profile)]
    shown = problems[:2]
    # The worst comes first and takes what is left.
    room = SUMMARY_LINES - len(lines) - (len(problems) > 2) - max(0, len(shown) - 1)
    lines += [_in_short(problem, 1 if number else max(1, room)) for number, problem in enumerate(shown)]
    if len(problems) > 2:
        lines.append(Content.styled(f"  and {len(problems) - 2} more, under Problems", "$text-muted"))
    return Content("\n").join(lines)


def _in_short(problem: Problem, num_lines: int) -> Content:
    """Return a finding in the lines that it has here."""
    text = clean_line(problem.sentence(), max_chars=num_lines * SHORT_CHARS)
    return problem_label(replace(problem, message=text, fix=""))


def rows_line(profile: DataProfile) -> Content:
    """Return the numbers of rows and how they are read."""
    return Content.assemble(
        ("✓ ", "bold $success"),
        (f"{profile.num_rows:,} rows", "bold"),
        (f"  {profile.num_train:,} to learn from · {profile.num_held_out:,} held out", ""),
        (f"  read as {profile.format}" if profile.format else "", "$text-muted"),
    )


def _dropped_lines(profile: DataProfile) -> list[Content]:
    if not profile.dropped:
        return []
    reasons = ", ".join(
        f"{count:,} {clean_line(reason_words(reason), max_chars=40)}" for reason, count in profile.dropped.items()
    )
    return [Content.styled(f"  dropped: {reasons}", "$warning")]


def _lengths_line(profile: DataProfile) -> Content:
    if profile.lengths is None:
        return Content.styled("  Lengths are not known.", "$text-muted")
    unit = "prompt + answer" if profile.compared else "tokens per row"
    return Content.assemble(
        (f"  {_lengths(unit, profile.lengths)}", "$text-muted"),
        (
            f"  {learnt_word(profile)}: median {profile.answer_lengths.p50:,}" if profile.answer_lengths else "",
            "$text-muted",
        ),
    )


def _lengths(unit: str, lengths: LengthProfile) -> str:
    about = "about " if lengths.estimated else ""
    return f"{unit}: median {about}{lengths.p50:,} · p99 {lengths.p99:,} · longest {lengths.longest:,}"


def rows_content(profile: DataProfile, width: int) -> Content:
    """Return the first rows as they will be used."""
    if not profile.examples:
        return Content.styled("There is no row to show.", "$text-muted")
    blocks: list[Content] = []
    for number, example in enumerate(profile.examples, 1):
        parts: list[Content | str | tuple[str, str]] = [(f"row {number}\n", "$text-muted")]
        for role, text in _turns(example):
            parts += [
                (f"{clean_line(role, max_chars=ROLE_WIDTH - 1):<{ROLE_WIDTH}}", "$accent"),
                Content(_shortened(text, width)),
                "\n",
            ]
        blocks.append(Content.assemble(*parts))
    return Content("\n").join(blocks)


def _turns(example: dict[str, Any]) -> list[tuple[str, str]]:
    messages = example.get("messages")
    if isinstance(messages, list):
        return [
            (str(turn.get("role", "")), str(turn.get("content", ""))) for turn in messages if isinstance(turn, dict)
        ]
    return [(role, str(text)) for role, text in example.items()]


def _shortened(text: str, width: int) -> str:
    paragraphs = clean(text, max_chars=MAX_VALUE_CHARS).split("\n")
    wrap = partial(textwrap.wrap, width=max(20, width - ROLE_WIDTH), break_on_hyphens=False)
    lines = [line for paragraph in paragraphs for line in wrap(paragraph) or [""]]
    shown = lines[:MAX_VALUE_LINES]
    if len(lines) > MAX_VALUE_LINES:
        shown.append(f"… {len(lines) - MAX_VALUE_LINES} more lines")
    return ("\n" + " " * ROLE_WIDTH).join(shown)
