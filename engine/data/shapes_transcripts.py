r"""Conversations written down as one text: `\n\nHuman: ...\n\nAssistant: ...` (hh-rlhf), `### Human: ...` (Guanaco)."""

import re
from typing import Any

from engine.data.rows import RowDefectError, Tally

_STYLES = (
    re.compile(r"(?:\A\s*|\n\n)(Human|Assistant|System):"),
    re.compile(r"\s*###\s*(Human|Assistant|System|User):", re.IGNORECASE),
)
_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}


def is_transcript(text: str) -> bool:
    """Return whether a text is a conversation from its first word on, with both speakers."""
    return _style_of(text) is not None


def _style_of(text: str) -> re.Pattern[str] | None:
    for style in _STYLES:
        first = style.match(text)
        if first and _ROLES[first[1].lower()] != "assistant":
            speakers = {_ROLES[name.lower()] for name in style.findall(text)}
            if {"user", "assistant"} <= speakers:
                return style
    return None


def transcript_messages(text: str, where: str, changed: Tally) -> list[dict[str, Any]]:
    """Return the messages of a transcript, white space around each left out.

    Turns of one speaker in a row are one turn with blank lines between, as the marks stand for paragraphs there.

    Raises:
        RowDefectError: The text is no transcript.
    """
    style = _style_of(text)
    if style is None:
        raise RowDefectError("no_messages", "no transcript of Human: and Assistant:")
    pieces = style.split(text)[1:]
    messages: list[dict[str, Any]] = []
    merged = False
    for name, said in zip(pieces[::2], pieces[1::2], strict=True):
        role = _ROLES[name.lower()]
        if messages and messages[-1]["role"] == role:
            merged = True
            messages[-1]["content"] = f"{messages[-1]['content']}\n\n{said.strip()}".strip()
        else:
            messages.append({"role": role, "content": said.strip()})
    if merged:
        changed.add("merged_turns", where)
    return messages
