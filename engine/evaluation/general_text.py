"""Short passages of everyday English, written for ftwizard: what a model should still be able to read afterwards.

Domain adaptation makes a model read its own field better and, trained too long or too fast, everything else worse. The
same passages measured before and after show it.
"""

from functools import cache
from pathlib import Path

import presets
from engine.data.rows import Row

_FILE = "general_text.txt"


@cache
def _passages() -> tuple[str, ...]:
    text = (Path(presets.__file__).parent / _FILE).read_text(encoding="utf-8")
    return tuple(passage for passage in text.strip().split("\n\n") if passage)


def general_rows() -> list[Row]:
    """Return the passages as canonical rows of plain text."""
    return [{"id": f"{_FILE}:{number}", "text": passage} for number, passage in enumerate(_passages(), 1)]
