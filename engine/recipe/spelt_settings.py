"""Settings as a fix spells them in its sentence, so that a key or an option of a command can carry the fix out. Light.

A fix names a setting as a recipe has it: `Set data.encoding: windows-1252`, `Set data.unwrap: "the rows"`.
"""

import json
import re

_PLAIN = re.compile(r"[\w-]+(?:[./-][\w-]+)*", re.ASCII)
_SPELT = re.compile(r'\b((?:data|training)\.[a-z_]+(?:\.[a-z_]+)*): ("(?:[^"\\]|\\.)*"|[^\s,;:()"]+)')
_ENDS = ".,;:"
_NOTHING = ("null", "none")


def spelt(text: str) -> str:
    """Return a value as a fix has to write it: as it is where that is one plain word, else in quotes."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _NOTHING
    return text if plain else json.dumps(text, ensure_ascii=False)


def spelt_settings(fix: str) -> list[tuple[str, str]]:
    """Return `(recipe path, value as a recipe file has it)` for each setting that a fix spells, in order.

    Nothing is checked: `at data.mapping: the column` reads like a setting too, so ask the schema whether it takes it.
    """
    found = _SPELT.findall(fix)
    return [(path, value if value.startswith('"') else value.rstrip(_ENDS)) for path, value in found]
