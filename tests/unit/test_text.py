"""The sanitiser: whatever a text holds, nothing of it acts on a terminal, and nothing is lost in silence."""

import math
import sys
import unicodedata

import pytest

from engine.text import MAX_COMBINING, clean, clean_line, human_bytes, human_count, human_duration

PAYLOADS = {
    "clear screen": "\x1b[2Jgone",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;b3duZWQ=\x1b\\",
    "device status": "\x1b[6n",
    "full reset": "\x1bc",
    "string commands": "\x1bP+q\x1b\\ \x1b_G\x1b\\ \x1b^p\x1b\\ \x1bXs\x1b\\",
    "unterminated": "\x1b]52;c;",
    "8-bit controls": "\x9b2J \x9d0;owned\x9c \x90q\x9c",
    "bell and backspace": "abc\a\b\b\bxyz",
    "overwriting": "rm -rf /\rls",
    "vertical": "a\vb\fc\x85d",
    "bidirectional": "\u202egnp.exe \u2066x\u2069 \u200f",
    "invisible": "a\u200bb\u2060c\ufeffd\u00ade\U000e0041",
    "separators": "a\u2028b\u2029c",
    "half a character": "\ud800 \udfff \udcff",
    "private use": "\ue0b0 \U000f0000",
}


def acts(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def test_no_character_that_acts_on_a_terminal_passes() -> None:
    acting = "".join(filter(acts, map(chr, range(sys.maxunicode + 1))))
    assert {character for character in clean(acting) if acts(character)} == {"\n"}
    assert not any(map(acts, clean_line(acting)))


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_hostile_text_stays_readable_and_harmless(payload: str) -> None:
    cleaned = clean_line(f"before {payload} after")
    assert not any(map(acts, cleaned))
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")
    assert cleaned.encode()
    assert clean(cleaned) == cleaned


def test_text_of_any_script_stays_as_it_is() -> None:
    for text in (
        "plain [b]not markup[/b] \\n",
        "naïve Ångström",
        "日本語のテキスト",
        "עברית العربية",
        "हिन्दी",
        "🙂 ❤\ufe0f",
    ):
        assert clean(text) == text


def test_tabs_take_room_and_carriage_returns_do_not() -> None:
    assert clean("a\tb\r\nc\rd") == "a    b\ncd"
    assert clean_line("a\r\nb\nc") == "a⏎b⏎c"


def test_marks_piled_on_one_character_are_kept_to_a_few() -> None:
    zalgo = "a" + "\u0301" * 500 + "b" + "\u0301"
    assert clean(zalgo) == "a" + "\u0301" * MAX_COMBINING + "b" + "\u0301"


def test_a_long_line_is_cut_with_an_ellipsis_and_a_short_one_is_not() -> None:
    assert clean("x" * 1_000_000, max_chars=20) == "x" * 19 + "…"
    assert clean("x" * 20, max_chars=20) == "x" * 20
    assert clean("\t" * 20, max_chars=10) == " " * 9 + "…"


@pytest.mark.parametrize("dropped", ["\r", "\u0301"])
def test_what_lies_behind_dropped_characters_is_not_lost_in_silence(dropped: str) -> None:
    cleaned = clean("a" + dropped * 10_000 + "end", max_chars=20)
    assert cleaned.endswith("…")
    assert len(cleaned) <= 20


def test_anything_can_be_shown() -> None:
    assert clean(None) == "None"
    assert clean(ValueError("\x1b[31mred")) == "\N{REPLACEMENT CHARACTER}[31mred"


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [(None, "n/a"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (150 * 1024, "150 KiB")]
    + [
        (1024**2 - 1, "1.0 MiB"),
        (1.4 * 1024**3, "1.4 GiB"),
        (1024**4 - 1, "1.0 TiB"),
        (5000 * 1024**4, "4.9 PiB"),
        (5000 * 1024**6, "5000.0 EiB"),
    ],
)
def test_sizes(num_bytes: float | None, shown: str) -> None:
    assert human_bytes(num_bytes) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, "n/a"), (0, "0"), (999, "999"), (1000, "1.0 k"), (656_128, "656 k"), (999_950, "1.0 M"), (1.24e9, "1.2 B")]
    + [(999_999_999_999, "1.0 T")],
)
def test_counts(number: float | None, shown: str) -> None:
    assert human_count(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "n/a"), (math.nan, "n/a"), (math.inf, "n/a"), (-1, "n/a"), (0.4, "0 s"), (59.6, "1 min 00 s")]
    + [(200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")]
    + [
        (359_999, "99 h 59 min"),
        (359_999.6, "4 days"),
        (86_400 * 999, "999 days"),
        (1e8, "3 years"),
        (1e30, "over 1 M years"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert human_duration(seconds) == shown
