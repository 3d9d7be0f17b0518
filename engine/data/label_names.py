"""Names of the classes, or of the tags of words, that rows tell apart, in the order in which models number them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from engine.data.rows import Row
from engine.data.shapes_tags import OUTSIDE

_NUMBER = re.compile(r"-?[0-9]+")


def names_in(row: Row) -> Sequence[str]:
    """Return the class of a row, its classes, or the tags of its words; nothing for rows without any."""
    if "tags" in row:
        tags: Sequence[str] = row["tags"]
        return tags
    if "labels" in row:
        labels: Sequence[str] = row["labels"]
        return labels
    label = row.get("label")
    return (label,) if isinstance(label, str) else ()


def entity_words(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """Return the entities of a row as people read them, such as `New York (LOC)`."""
    found: list[tuple[list[str], str]] = []
    inside = ""
    for word, tag in zip(words, tags, strict=True):
        prefix, _, name = tag.partition("-")
        name = name or ("" if tag == OUTSIDE else tag)
        if name and name == inside and prefix not in ("B", "S"):
            found[-1][0].append(word)
        elif name:
            found.append(([word], name))
        inside = name
    return [f"{' '.join(parts)} ({name})" for parts, name in found]


def count_names(rows: Iterable[Row]) -> Counter[str]:
    """Return how many rows, or words, carry each name."""
    return Counter(chain.from_iterable(map(names_in, rows)))


def ordered(names: Iterable[str]) -> list[str]:
    """Return names in the order of their numbers: numbers by size, words by the alphabet.

    The order must not depend on that of the rows: a model trained twice on shuffled rows numbers its classes alike.
    """
    found = set(names)
    if all(_NUMBER.fullmatch(name) for name in found):
        return sorted(found, key=lambda name: (int(name), name))
    return sorted(found, key=lambda name: (name.casefold(), name))


def has_several(rows: Iterable[Row]) -> bool:
    """Return whether a row can have several classes: the data writes them as lists."""
    return any("labels" in row for row in rows)
