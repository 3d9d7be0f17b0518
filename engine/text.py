"""The one sanitiser: every string that was not written by us passes here before it reaches a terminal or a page."""

import math
import unicodedata

# Categories that act on a terminal instead of being read: controls (escapes, C1), format characters (bidirectional
# overrides, zero-width joiners), surrogates, private use, line and paragraph separators.
_ACTING_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_VISIBLE_CONTROLS = {"\t": "    ", "\r": ""}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_COMBINING = 4
"""Combining marks kept after one base character; more than that is drawn over other lines by terminals."""


def clean(text: object, *, max_chars: int | None = None, newlines: bool = True) -> str:
    r"""Return text that a terminal shows as it is written and that cannot act on it.

    Args:
        text: Anything; it is passed through `str`.
        max_chars: Cut to this many characters, the last one an ellipsis.
        newlines: Keep line feeds; otherwise they become a visible `⏎`.
    """
    raw = str(text)
    # A line of a megabyte costs no more than what is shown of it.
    examined = raw if max_chars is None else raw[: 4 * max_chars + 64]
    kept = examined if examined.isascii() and examined.isprintable() else _kept(examined, newlines=newlines)
    if max_chars is not None and (len(kept) > max_chars or len(examined) < len(raw)):
        kept = kept[: max(0, max_chars - 1)] + "…"
    return kept


def _kept(raw: str, *, newlines: bool) -> str:
    pieces: list[str] = []
    combining = 0
    for character in raw:
        if character == "\n":
            pieces.append("\n" if newlines else "⏎")
            continue
        if character in _VISIBLE_CONTROLS:
            pieces.append(_VISIBLE_CONTROLS[character])
            continue
        category = unicodedata.category(character)
        if category in _ACTING_CATEGORIES:
            pieces.append(_REPLACEMENT)
            continue
        combining = combining + 1 if category in ("Mn", "Me") else 0
        if combining <= MAX_COMBINING:
            pieces.append(character)
    return "".join(pieces)


def clean_line(text: object, *, max_chars: int | None = None) -> str:
    """Return `clean` text on one line."""
    return clean(text, max_chars=max_chars, newlines=False)


def short_number(number: float) -> str:
    """Return a number as people write it in a recipe, such as `0.05`, `12` or `2e-5`."""
    if number and (abs(number) < 1e-3 or abs(number) >= 1e6):
        mantissa, _, exponent = f"{number:.6e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{number:g}"


def human_bytes(num_bytes: float | None) -> str:
    """Return a size such as `1.4 GiB`; `n/a` for None."""
    if num_bytes is None:
        return "n/a"
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(size) < 1023.5:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} EiB"


def human_duration(seconds: float | None) -> str:
    """Return a duration such as `12 days`, `2 h 05 min`, `3 min 20 s` or `45 s`; `n/a` for None."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "n/a"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 100 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    days = round(seconds / 86400)
    if days < 1000:
        return f"{days} days"
    years = days / 365.25
    return f"{human_count(years)} years" if years < 1e6 else "over 1 M years"


def human_count(number: float | None) -> str:
    """Return a count such as `1.2 B`, `656 k` or `812`; `n/a` for None."""
    if number is None:
        return "n/a"
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * limit:
            scaled = number / limit
            return f"{scaled:.0f} {unit}" if abs(scaled) >= 100 else f"{scaled:.1f} {unit}"
    return f"{number:.0f}"
