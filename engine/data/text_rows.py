"""Plain text files: paragraphs packed into passages, so that a corpus has rows to split and to train on."""

from collections.abc import Iterator

from engine.data.rows import RawRow

PASSAGE_CHARS = 1500
"""Aim of a passage, about 400 tokens: whole paragraphs, several passages to a packed sequence."""


def read_text(text: str, name: str, *, passage_chars: int = PASSAGE_CHARS) -> list[RawRow]:
    """Return passages of at most `passage_chars` characters, cut at blank lines where possible.

    Joined in order with the blank lines between them, the passages hold every word of the file.

    Args:
        text: The whole file.
        name: Name of the file for row ids.
        passage_chars: Longest passage in characters.
    """
    rows: list[RawRow] = []
    passage, start = "", 0
    for line, piece, glue in _pieces(text, passage_chars):
        if passage and len(passage) + len(glue) + len(piece) > passage_chars:
            rows.append(RawRow(f"{name}:{start}", {"text": passage}))
            passage = ""
        if not passage:
            passage, start = piece, line
        else:
            passage += glue + piece
    if passage:
        rows.append(RawRow(f"{name}:{start}", {"text": passage}))
    return rows


def _pieces(text: str, limit: int) -> Iterator[tuple[int, str, str]]:
    """Yield `(line, piece, what stands between it and the piece before)`."""
    for line, paragraph in _paragraphs(text):
        glue = "\n\n"
        for offset, piece, joint in _cut(paragraph, limit):
            yield line + offset, piece, glue
            glue = joint


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    lines: list[str] = []
    start = 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if line.strip():
            start = start if lines else number
            lines.append(line)
        elif lines:
            yield start, "\n".join(lines)
            lines = []
    if lines:
        yield start, "\n".join(lines)


def _cut(paragraph: str, limit: int) -> Iterator[tuple[int, str, str]]:
    """Yield `(line offset, piece, joint to the next)`: cut at a line end, else a space, else in the middle."""
    offset = 0
    while len(paragraph) > limit:
        head = paragraph[: limit + 1]
        at = next((found for mark in ("\n", " ") if (found := head.rfind(mark)) > limit // 2), -1)
        joint = paragraph[at] if at >= 0 else ""
        piece = paragraph[: at if at >= 0 else limit]
        yield offset, piece, joint
        offset += piece.count("\n") + (joint == "\n")
        paragraph = paragraph[len(piece) + len(joint) :]
    if paragraph:
        yield offset, paragraph, "\n\n"
