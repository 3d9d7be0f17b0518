"""What was found in the data, as text: numbers, first rows, and a row as the model will see it."""

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any

from textual.content import Content

from engine.planning.profiles import DataProfile, LengthProfile
from engine.recipe.problems import Problem
from engine.text import clean, clean_line
from tui.backend import PreviewRow, TokenRole
from tui.widgets.labels import problem_label

MAX_VALUE_LINES = 6
ROLE_WIDTH = 11
MAX_VALUE_CHARS = 600
_TOKEN_STYLES: dict[TokenRole, str] = {
    "trained": "underline $success on $trained-background",
    "context": "",
    "padding": "$text-disabled",
    "special": "$secondary",
}


def summary_content(profile: DataProfile, problems: Sequence[Problem]) -> Content:
    """Return three lines of numbers, then the worst findings."""
    lines = [_rows_line(profile), *_dropped_lines(profile), _lengths_line(profile)]
    lines += [problem_label(problem) for problem in problems[:2]]
    if len(problems) > 2:
        lines.append(Content.styled(f"  and {len(problems) - 2} more, on the review", "$text-muted"))
    return Content("\n").join(lines)


def _rows_line(profile: DataProfile) -> Content:
    return Content.assemble(
        ("✓ ", "bold $success"),
        (f"{profile.num_rows:,} rows", "bold"),
        (f"  {profile.num_train:,} to learn from · {profile.num_held_out:,} held out", ""),
        (f"  read as {profile.format}" if profile.format else "", "$text-muted"),
    )


def _dropped_lines(profile: DataProfile) -> list[Content]:
    if not profile.dropped:
        return []
    reasons = ", ".join(f"{count:,} {clean_line(reason, max_chars=40)}" for reason, count in profile.dropped.items())
    return [Content.styled(f"  dropped: {reasons}", "$warning")]


def _lengths_line(profile: DataProfile) -> Content:
    if profile.lengths is None:
        return Content.styled("  Lengths are not known.", "$text-muted")
    return Content.assemble(
        (f"  {_lengths('tokens', profile.lengths)}", "$text-muted"),
        (f"  answers: median {profile.answer_lengths.p50:,}" if profile.answer_lengths else "", "$text-muted"),
    )


def _lengths(unit: str, lengths: LengthProfile) -> str:
    about = "about " if lengths.estimated else ""
    return f"{unit} per row: median {about}{lengths.p50:,} · p99 {lengths.p99:,} · longest {lengths.longest:,}"


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


def preview_content(rows: Sequence[PreviewRow] | None, problem: str, width: int) -> Content:
    """Return rows token by token: trained tokens are underlined and coloured, special ones coloured."""
    if problem:
        return Content.styled("! " + clean(problem, max_chars=400), "$warning")
    if rows is None:
        return Content.styled("◌ Counting tokens…", "$primary")
    if not rows:
        return Content.styled("There is no row to show.", "$text-muted")
    legend = Content.assemble(
        ("underlined", _TOKEN_STYLES["trained"]),
        (" is what the model learns to write; the rest it only reads.", "$text-muted"),
    )
    blocks = [legend]
    for number, row in enumerate(rows, 1):
        share = f"row {number}: {row.num_trained:,} of {row.num_tokens:,} tokens trained"
        if row.cut:
            share += f", {row.cut:,} cut off"
        nothing = row.num_trained == 0
        heading = (f"\n{'✗ ' if nothing else ''}{share}\n", "$error" if nothing else "$text-muted")
        tokens = [(_token_text(token.text), _TOKEN_STYLES[token.role]) for token in row.tokens]
        blocks.append(Content.assemble(heading, *tokens))
    return Content("\n").join(blocks)


def _token_text(text: str) -> str:
    # A line feed is a token too: shown and done.
    return clean(text).replace("\n", "⏎\n")
