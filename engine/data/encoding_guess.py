"""Which legacy encoding bytes are likely to have: a guess for a person to confirm, from the letters that it gives.

A wrong encoding rarely fails; it gives other letters. So each one is tried, and the one whose letters outside ASCII
are those of the languages that are written in it wins: French read as Central European has ŕ for à.
"""

import re
from collections.abc import Callable

_LOOKED_AT_BYTES = 1 << 18
MIN_SHARE = 0.6
"""Share of the letters outside ASCII that must be usual ones; bytes at random reach less."""
_MARKS = frozenset("“”„‘’‚–—…€«»‹›°·¿¡§©®™•\u00a0\u00ad")


def _letters(lower: str) -> frozenset[str]:
    return frozenset(lower + lower.upper()) | _MARKS


_WESTERN = _letters("àâäáãåæçéèêëíìîïñóòôöõøœúùûüÿ") | frozenset("ß")
_CENTRAL = _letters("ąćęłńóśźżáčďéěíňřšťúůýžôľĺäöüőűăâîşţđ") | frozenset("ß")
_BALTIC = _letters("āčēģīķļņšūžąęėįųõäöüó")
_TURKISH = _letters("çğıöşüâîû") | frozenset("İ")
_CYRILLIC = _letters("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґўђјљњћџ") | frozenset("№")
_GREEK = _letters("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ")
_HEBREW = frozenset(map(chr, range(0x5B0, 0x5F5))) | _MARKS
_ARABIC = frozenset(map(chr, range(0x600, 0x6F0))) | _MARKS
_THAI = frozenset(map(chr, range(0xE00, 0xE5C))) | _MARKS
_CHINESE_MARKS = "，。、；：？！“”‘’（）《》〈〉【】「」『』—…·　"  # noqa: RUF001

_SINGLE_BYTE: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("cp1252", "windows-1252", _WESTERN),
    ("cp1250", "windows-1250", _CENTRAL),
    ("cp1251", "windows-1251", _CYRILLIC),
    ("koi8_r", "koi8-r", _CYRILLIC),
    ("koi8_u", "koi8-u", _CYRILLIC),
    ("cp1254", "windows-1254", _TURKISH),
    ("cp1253", "windows-1253", _GREEK),
    ("cp1255", "windows-1255", _HEBREW),
    ("cp1256", "windows-1256", _ARABIC),
    ("cp1257", "windows-1257", _BALTIC),
    ("cp874", "cp874", _THAI),
    ("iso8859_2", "iso-8859-2", _CENTRAL),
    ("cp866", "cp866", _CYRILLIC),
    ("mac_roman", "macintosh", _WESTERN),
    ("cp850", "cp850", _WESTERN),
)


def likely_encoding(content: bytes) -> str | None:
    """Return the legacy encoding that fits bytes which are not UTF-8 best, as people write it.

    Args:
        content: Bytes of the file; its lines with bytes outside ASCII are looked at.

    Returns:
        A name for `data.encoding`; None where the bytes are UTF-8 with damage, or no text in any of them.
    """
    telling = b"\n".join(line for line in content.split(b"\n") if not line.isascii())[:_LOOKED_AT_BYTES]
    if _is_damaged_utf8(telling):
        return None
    scores = {label: _single_byte_share(telling, codec, usual) for codec, label, usual in _SINGLE_BYTE}
    if _mostly_paired(telling):
        scores |= {label: _decoded_share(telling, codec, share) for codec, label, share in _EAST_ASIAN}
    best = max(scores, key=lambda label: scores[label])
    return best if scores[best] >= MIN_SHARE else None


def _is_damaged_utf8(content: bytes) -> bool:
    """Return whether most characters outside ASCII are whole UTF-8: legacy text gives such sequences by chance only."""
    text = content.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return sum(character > "\x7f" for character in text) - broken > broken


def _single_byte_share(content: bytes, codec: str, usual: frozenset[str]) -> float:
    unlikely = _IN_LATIN if usual in _LATIN else _IN_OTHERS

    def share(text: str) -> float:
        high = [character for character in text if character > "\x7f"]
        strange = sum(len(match[0]) for match in unlikely.finditer(text))
        found = (sum(character in usual for character in high) - strange) / max(1, len(high))
        return found * _likeness(high, _COMMON.get(usual, ""))

    return _decoded_share(content, codec, share)


_COMMON = {
    _CYRILLIC: "оеаинтсрвл",
    _GREEK: "αοιετσνηυρ",
    _HEBREW: "יוהלאתרבמש",
    _ARABIC: "اليمنوهرتب",
    _THAI: "านรอกเง่มย",
}
"""The ten most frequent letters of a script, about two thirds of its text; tells alphabets apart that fill a byte."""


def _likeness(letters: list[str], common: str) -> float:
    """Return how much letters look like a language of the script, from 0.5 to 1; 1 where that is not known."""
    share = sum(letter in common for letter in letters) / max(1, len(letters))
    return 0.5 + min(0.5, share) if common else 1.0


_LATIN = (_WESTERN, _CENTRAL, _BALTIC, _TURKISH)
_HIGH = "[^\x00-\x7f\\W\\d_]"
_IN_LATIN = re.compile(f"{_HIGH}{{3,}}|(?<=[a-zà-ÿ])[À-ÖØ-Þ]")
"""Three accented letters in a row, or a capital behind a small letter."""
_IN_OTHERS = re.compile(f"(?<=[A-Za-z]){_HIGH}|{_HIGH}(?=[A-Za-z])|(?<=[а-яёα-ω])[А-ЯЁΑ-Ω]")
"""A letter beside one of ASCII; or a capital behind a small letter, of which Cyrillic in the wrong encoding is full."""


def _decoded_share(content: bytes, codec: str, share: Callable[[str], float]) -> float:
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        # What is looked at may end within a character.
        if error.start < len(content) - 4 or len(content) < _LOOKED_AT_BYTES // 2:
            return 0.0
        text = content[: error.start].decode(codec)
    return 0.0 if any("\x80" <= character < "\xa0" for character in text) else share(text)


def _mostly_paired(content: bytes) -> bool:
    """Return whether high bytes come in runs, as those of East Asian encodings do, and not one by one."""
    runs = [len(run) for run in re.findall(rb"[\x80-\xff][\x40-\xff]*", content[: 1 << 16])]
    return bool(runs) and sum(length == 1 for length in runs) < 0.4 * len(runs)


def _wide(text: str) -> list[str]:
    return [character for character in text if character > "\x7f"]


def _between(character: str, first: str, last: str) -> bool:
    return first <= character <= last


def _kana_share(text: str) -> float:
    """Return the share of Japanese: ordinary signs where kana make up a seventh at least."""
    wide = _wide(text)
    kana = sum(_between(character, "\u3041", "\u30ff") for character in wide)
    ordinary = sum(_between(c, "\u3000", "\u30ff") or _between(c, "\u4e00", "\u9fff") or c in _FULL for c in wide)
    return ordinary / max(1, len(wide)) if kana > len(wide) / 7 else 0.0


def _hangul_share(text: str) -> float:
    wide = _wide(text)
    hangul = sum(_between(character, "\uac00", "\ud7a3") for character in wide)
    # Chinese text read as Korean is two thirds Hangul, because the commoner half of both tables overlaps.
    return 1.01 * (hangul + sum(c in _CHINESE_MARKS for c in wide)) / max(1, len(wide)) if hangul else 0.0


_FULL = frozenset(map(chr, range(0xFF01, 0xFF66)))


def _common_han_share(codec: str, first: int, last: int) -> Callable[[str], float]:
    """Return a measure of Chinese: characters of the first level of a table, which holds the common ones."""

    def share(text: str) -> float:
        wide = _wide(text)
        common = 0
        for character in wide:
            raw = character.encode(codec, "ignore")
            common += (len(raw) == 2 and first <= raw[0] <= last) or character in _CHINESE_MARKS or character in _FULL
        return common / max(1, len(wide))

    return share


_EAST_ASIAN: tuple[tuple[str, str, Callable[[str], float]], ...] = (
    ("gb18030", "gb18030", _common_han_share("gb18030", 0xB0, 0xD7)),
    ("big5", "big5", _common_han_share("big5", 0xA4, 0xC6)),
    ("euc_kr", "euc-kr", _hangul_share),
    ("euc_jp", "euc-jp", _kana_share),
    ("shift_jis", "shift_jis", _kana_share),
)
