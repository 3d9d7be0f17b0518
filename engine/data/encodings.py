"""Which encoding a text file has: read directly where it is certain, offered for consent where it is a guess.

UTF-8, UTF-16 and UTF-32 tell themselves apart from everything else. Legacy encodings do not: the same bytes are text in
a dozen of them, and the wrong one trains the model on nonsense. So the likely one is named, with a line as it would
read, and `data.encoding` is the person's own yes.
"""

import codecs
import re
from dataclasses import dataclass

from engine.data.encoding_guess import likely_encoding
from engine.data.paths import data_problem
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

_MARKS = (
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF32_LE, "UTF-32LE"),
    (codecs.BOM_UTF32_BE, "UTF-32BE"),
    (codecs.BOM_UTF16_LE, "UTF-16LE"),
    (codecs.BOM_UTF16_BE, "UTF-16BE"),
)
_PATTERN_BYTES = 4096
MIN_EMPTY_BYTES = 8
BINARY_SHARE = 0.02
"""Bytes drawn at random hold 10 % of control characters, damaged text next to none."""
_TEXT_CONTROLS = b"\t\n\v\f\r\x1b"
_REFUSED_CODECS = frozenset({"idna", "punycode", "undefined", "raw_unicode_escape", "unicode_escape", "utf_7", "mbcs"})
SNIPPET_CHARS = 60


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of a file become text.

    Attributes:
        codec: Name that Python knows.
        label: Name for people.
        mark_bytes: Length of the byte order mark in front.
        chosen: The person named it (`data.encoding`), for a file that is not UTF-8.
    """

    codec: str
    label: str
    mark_bytes: int = 0
    chosen: bool = False


UTF_8 = Encoding("utf-8", "UTF-8")


def find_encoding(head: bytes, chosen: str | None) -> Encoding:
    """Return the encoding of a file from its first bytes.

    Args:
        head: The first bytes.
        chosen: `data.encoding` of the recipe, for files that are not Unicode.

    Raises:
        ProblemError: The chosen one is unknown.
    """
    marked = next((Encoding(label.lower(), label, len(mark)) for mark, label in _MARKS if head.startswith(mark)), None)
    found = marked or wide_without_mark(head)
    if chosen is None or found is not None:
        return found or UTF_8
    return Encoding(check_codec(chosen), chosen, chosen=True)


def check_codec(chosen: str) -> str:
    """Return Python's name of an encoding.

    Raises:
        ProblemError: There is no such encoding of text.
    """
    try:
        found = codecs.lookup(chosen.strip())
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding or found.name.replace("-", "_") in _REFUSED_CODECS:
        fix = "Write its usual name, such as windows-1252, gb18030, shift_jis or koi8-r."
        message = f"data.encoding: {clean_line(chosen, max_chars=60)!r} is no encoding of text."
        raise ProblemError(Problem("data.encoding_unknown", message, fix, path="data.encoding"))
    return found.name


def is_utf8(chunk: bytes) -> bool:
    """Return whether bytes are UTF-8; they may end within a character."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(chunk)
    except UnicodeDecodeError:
        return False
    return True


def wide_without_mark(head: bytes) -> Encoding | None:
    """Return UTF-16 or UTF-32 where zero bytes stand at the places that only these leave empty."""
    pattern = head[: _PATTERN_BYTES - _PATTERN_BYTES % 4]
    quarters = [pattern[start::4].count(0) / max(1, len(pattern) // 4) for start in range(4)]
    if len(pattern) < 8 or max(quarters) < 0.05:
        return None
    if min(quarters[2:]) > 0.9 and quarters[0] < 0.05:
        return Encoding("utf-32-le", "UTF-32LE")
    if min(quarters[:2]) > 0.9 and quarters[3] < 0.05:
        return Encoding("utf-32-be", "UTF-32BE")
    even, odd = (quarters[0] + quarters[2]) / 2, (quarters[1] + quarters[3]) / 2
    codec = "utf-16-le" if odd > even else "utf-16-be"
    # Letters of ASCII leave one byte of two empty; in text of other scripts spaces and line ends still do.
    if min(even, odd) > 0.02 * max(even, odd) or not _reads_as_text(pattern, codec):
        return None
    # A few NULs in a damaged file are no pattern.
    if pattern.count(0) < MIN_EMPTY_BYTES and max(even, odd) < 0.4:
        return None
    return Encoding(codec, codec.upper().replace("-LE", "LE").replace("-BE", "BE"))


def _reads_as_text(pattern: bytes, codec: str) -> bool:
    try:
        text = codecs.getincrementaldecoder(codec)().decode(pattern)
    except UnicodeDecodeError:
        return False
    return "\0" not in text and not CONTROLS.search(text)


def is_binary(content: bytes) -> bool:
    """Return whether bytes that are not UTF-8 are no text in any 8-bit encoding either."""
    head = content[: 1 << 16]
    controls = sum(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in head)
    return controls > BINARY_SHARE * len(head)


def wrong_encoding(content: bytes, at: int, place: str, name: str) -> ProblemError:
    """Return the refusal of bytes that are not UTF-8, with the likely encoding and the line as it would read.

    Args:
        content: The bytes around the place, from the start of a chunk.
        at: Index of the first bad byte.
        place: `file:line:column` of it.
        name: Name of the file.
    """
    byte = f"{place} is byte 0x{content[at]:02x}"
    if is_binary(content):
        return data_problem(
            "binary",
            f"{byte}, and the file is full of control characters: it is binary, not text.",
            "Name a file of rows: JSONL, JSON, CSV, TSV, Parquet, Arrow or plain text.",
        )
    likely = likely_encoding(content)
    if likely is None:
        return data_problem(
            "damaged_text",
            f"{byte}, which is not UTF-8, and the text around it fits no other encoding either.",
            "Correct that place, or write the file again from its source as UTF-8.",
        )
    start = max(content.rfind(b"\n", 0, at) + 1, at - 40)
    end = content.find(b"\n", at)
    snippet = content[start : end if end >= 0 else len(content)].decode(likely, "replace")
    return data_problem(
        "encoding",
        f"{byte}, which is not UTF-8. The file looks like {likely}; so read, the line has: "
        f"{clean_line(snippet.strip(), max_chars=SNIPPET_CHARS)}",
        f"If that is right, set data.encoding: {likely}. If not, save the file as UTF-8.",
    )


CONTROLS = re.compile("[\x01-\x08\x0e-\x1f\x7f]")
"""Control characters that no text needs; tab, line ends and form feed are left out."""
_DOUBLED = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]{1,3}"
)


_CONTROL_BYTES = bytes([*range(0x09), *range(0x0E, 0x20), 0x7F])
_DOUBLED_BYTES = re.compile(rb"\xc3[\x82-\xb4](?:\xc2[\x80-\xbf]|[\xc5\xc6\xcb\xe2])")


def may_be_odd(text: str) -> tuple[bool, bool]:
    """Return whether a text holds control characters, and whether it may hold text that was encoded twice.

    On bytes, because these are looked for in every gigabyte and a search in text takes ten times as long.
    """
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw.translate(None, _CONTROL_BYTES)) < len(raw), _DOUBLED_BYTES.search(raw) is not None


def doubly_encoded(text: str) -> tuple[int, str, str] | None:
    """Return the first place where UTF-8 was once read as windows-1252 and written again: `(position, as is, meant)`.

    `cafÃ©` was `café`, `donâ€™t` was `don’t`. Only sequences that are whole UTF-8 characters count, so that a capital
    with a tilde before a letter stays what it is.
    """
    for match in _DOUBLED.finditer(text):
        meant = _undone(match[0])
        if meant is not None:
            return match.start(), match[0], meant
    return None


_AFTER_WORDS = frozenset("«»‹›“”„‘’‚…–—·°ºª™€•¡¿\u00a0")
"""What may stand behind an accented capital in good text, such as `CAFÉ»`; no evidence for broken text by itself."""


def _undone(doubled: str) -> str | None:
    """Return the one character that a run was; None when its bytes are no UTF-8 character."""
    raw = bytearray()
    for character in doubled:
        try:
            raw += character.encode("cp1252")
        except UnicodeEncodeError:
            if character > "\xff":
                return None
            raw.append(ord(character))
    length = 2 if raw[0] < 0xE0 else 3 if raw[0] < 0xF0 else 4
    if not doubled.startswith("â€") and set(doubled[1:length]) <= _AFTER_WORDS:
        return None
    try:
        return bytes(raw[:length]).decode("utf-8")
    except UnicodeDecodeError:
        return None
