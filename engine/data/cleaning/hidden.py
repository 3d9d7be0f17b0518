"""Characters that nobody sees: controls, zero-width characters, changes of direction; and text encoded twice."""

import re

from engine.data.encodings import doubly_encoded

_CONTROL = "\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f"
_ZERO_WIDTH = "\u200b\u2060\ufeff\u00ad\u180e"
_DIRECTION = "\u202a-\u202e\u2066-\u2069"
_ANY = re.compile(f"[{_CONTROL}{_ZERO_WIDTH}{_DIRECTION}]")
_CONTROL_BYTES = bytes({*range(0x20), 0x7F} - set(b"\t\n\f\r"))
_WHITE_SPACE = "\t\n\r\f\xa0"
_KINDS = (
    ("control characters", re.compile(f"[{_CONTROL}]")),
    ("zero-width characters", re.compile(f"[{_ZERO_WIDTH}]")),
    ("direction changes", re.compile(f"[{_DIRECTION}]")),
)


def find_hidden(text: str) -> tuple[str, ...]:
    """Return the kinds of hidden characters in a text.

    Joiners (U+200C, U+200D) are letters' business in Persian, Hindi and emoji, and the marks U+200E and U+200F belong
    to text that mixes directions: they are left alone, and so are tab, line ends and form feed.
    """
    # Whole texts are printable, most of them; a search takes ten times as long.
    if text.isascii():
        raw = text.encode()
        return _KINDS[0][:1] if len(raw.translate(None, _CONTROL_BYTES)) < len(raw) else ()
    bare = text
    for character in _WHITE_SPACE:
        bare = bare.replace(character, "")
    if bare.isprintable() or not _ANY.search(text):
        return ()
    return tuple(name for name, pattern in _KINDS if pattern.search(text))


def without_hidden(text: str) -> str:
    """Return the text without its hidden characters."""
    return _ANY.sub("", text)


def find_doubled(text: str) -> tuple[str, ...]:
    """Return an example of text that was encoded twice, such as `Ã© for é`; nothing when there is none."""
    if text.isascii():
        return ()
    found = doubly_encoded(text)
    return (f"{found[1]} for {found[2]}",) if found else ()


def repaired(text: str) -> str:
    """Return the text with everything that was encoded twice written as it was meant."""
    pieces: list[str] = []
    rest = text
    while found := doubly_encoded(rest):
        at, _, meant = found
        pieces += [rest[:at], meant]
        # One character was written for each byte of what was meant; the run may go on behind it.
        rest = rest[at + len(meant.encode()) :]
    return "".join([*pieces, rest])
