"""What the comparing screens say, as plain `Content`; no widget is touched here."""

from collections.abc import Sequence

from textual.content import Content

from engine.runs.held_out_prompts import HeldOutPrompt
from engine.text import clean
from tui.compare.partners import Answer
from tui.compare.word_diff import diff_parts, diffed
from tui.widgets.labels import muted, safe

PROMPT_LINES, PROMPT_CHARS = 4, 300
_EXPECTED_CHARS = 150
NOTHING = "(nothing)"
_STATES = {
    "waiting": "waits for its turn",
    "loading": "is loaded …",
    "writing": "writes …",
    "done": "",
    "failed": "✗ failed",
}


def prompt_content(prompt: HeldOutPrompt, head: str, *, expected: bool) -> Content:
    """Return a prompt in a few lines under its number; earlier turns of a conversation are counted."""
    asked = sum(1 for turn in prompt.messages if turn["role"] != "system") - 1
    before = f"(after {asked} earlier turns) " if asked > 0 else ""
    parts = [
        Content.assemble((f"{head}  ", "bold $accent"), (before, "$text-muted"), (shortened(prompt.shown), "")),
    ]
    if expected and clean(prompt.expected).strip():
        words = " ".join(clean(prompt.expected).split())
        parts.append(Content.assemble(("Expected  ", "$text-muted"), safe(words, max_chars=_EXPECTED_CHARS)))
    return Content("\n").join(parts)


def shortened(prompt: str) -> str:
    """Return a prompt in a few lines, so that the answers below it are seen."""
    lines = clean(prompt).split("\n")
    kept = "\n".join(lines[:PROMPT_LINES])
    return kept if len(lines) <= PROMPT_LINES and len(kept) <= PROMPT_CHARS else f"{kept[:PROMPT_CHARS].rstrip()} …"


def answer_contents(answers: Sequence[Answer], *, diff: bool) -> list[Content]:
    """Return the answers as they stand in their columns.

    Args:
        answers: Of the models that are seen, the first being what the others are held against.
        diff: Mark the words that answers do not share, once they are written.
    """
    texts = [clean(answer.text).strip() for answer in answers]
    bodies = [Content(text) for text in texts]
    if diff and len(answers) > 1 and all(answer.state == "done" for answer in answers):
        pairs = [diff_parts(texts[0], text) for text in texts[1:]]
        # What the first has and the second lacks; a third is held against the first in its own column only.
        bodies = [diffed(pairs[0][0]), *(diffed(added) for _, added in pairs)]
    return [_with_note(answer, body) for answer, body in zip(answers, bodies, strict=True)]


def _with_note(answer: Answer, body: Content) -> Content:
    if answer.state == "failed":
        return Content("\n").join([*([body] if body.plain else []), safe(answer.note, "$error")])
    if answer.state == "done" and not body.plain:
        body = muted(NOTHING)
    return Content("\n").join([body, muted(f"({answer.note})")]) if answer.note else body


def column_title(title: str, answer: Answer) -> Content:
    """Return what stands over a column: who, and how far."""
    told = _STATES[answer.state]
    return Content.assemble((f"{title}  {told}" if told else title, ""))


def all_same(answers: Sequence[Answer]) -> bool:
    """Return whether all have written, and wrote the same."""
    texts = {answer.text.strip() for answer in answers}
    return len(answers) > 1 and all(answer.state == "done" for answer in answers) and len(texts) == 1
