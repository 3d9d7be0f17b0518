"""Rows whose words carry tags: lists of words with lists of tags, or a text with the places of its entities.

Both become words with tags. Places become tags of the scheme that the field calls BIO: `B-NAME` on the first word of an
entity, `I-NAME` on the others, `O` on words outside (Ramshaw & Marcus 1995, https://aclanthology.org/W95-0107).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.data.rows import RawRow, Row, RowDefectError, Tally
from engine.data.shapes_cells import cell, filled_text, is_blank, label_of
from engine.data.shapes_turns import as_list
from engine.data.words import word_spans

OUTSIDE = "O"
_STARTS, _ENDS = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
_NAMES = ("label", "type", "entity_group", "entity", "tag", "labels")


def tag_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    """Return `{"id", "tokens", "tags"}` of a row with a list of words and a list of as many tags.

    Raises:
        RowDefectError: No lists, lists of different lengths, or a word or a tag that cannot be read.
    """
    words = _items(row, mapping["tokens"])
    tags = _items(row, mapping["tags"])
    if not words:
        raise RowDefectError("empty_text", f"column {mapping['tokens']!r}")
    if len(words) != len(tags):
        raise RowDefectError("broken_tags", f"{len(words)} words and {len(tags)} tags")
    if odd := next((word for word in words if not isinstance(word, str) or is_blank(word)), None):
        raise RowDefectError("broken_tags", f"{odd!r} is no word")
    return {"id": row.where, "tokens": words, "tags": [label_of(tag, mapping["tags"]) for tag in tags]}


def span_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    """Return `{"id", "tokens", "tags"}` of a row with a text and the places of its entities in it.

    Raises:
        RowDefectError: Empty text, or places that overlap, lie outside or hold no word.
    """
    text = filled_text(row, mapping["text"], "empty_text")
    spans = sorted({_span(item, text) for item in _items(row, mapping["entities"], missing=True)})
    if any(start < end for (_, end, _), (start, _, _) in pairwise(spans)):
        raise RowDefectError("broken_tags", "two entities share a part of the text, which tags cannot say")
    words = word_spans(text, [border for start, end, _ in spans for border in (start, end)])
    if not words:
        raise RowDefectError("empty_text", f"column {mapping['text']!r}")
    tags = [OUTSIDE] * len(words)
    for start, end, name in spans:
        inside = [place for place, (first, after) in enumerate(words) if first >= start and after <= end]
        if not inside:
            raise RowDefectError("broken_tags", f"the entity from {start} to {end} holds no word")
        for place in inside:
            tags[place] = f"{'B' if place == inside[0] else 'I'}-{name}"
    return {"id": row.where, "tokens": [text[first:after] for first, after in words], "tags": tags}


def named_tags(row: Row, names: Sequence[str] | None) -> Row:
    """Return a row whose tags are written as numbers with the names that those stand for.

    Args:
        row: A canonical row.
        names: Names in the order of their numbers; None leaves the row as it is, as do tags that are names already.

    Raises:
        RowDefectError: A tag is a number beyond their count.
    """
    if names is None or "tags" not in row or not all(tag.isdecimal() for tag in row["tags"]):
        return row
    wrong = next((tag for tag in row["tags"] if int(tag) >= len(names)), None)
    if wrong is not None:
        raise RowDefectError("broken_tags", f"{wrong!r} is no number below {len(names)}, the count of the tags' names")
    return {**row, "tags": [names[int(tag)] for tag in row["tags"]]}


def _items(row: RawRow, column: str, *, missing: bool = False) -> list[Any]:
    """Return the items of a cell that holds a list; with `missing`, null is a list of nothing."""
    value = cell(row, column)
    if value is None and missing:
        return []
    if isinstance(value, Mapping) and isinstance(value.get("entities"), list):
        value = value["entities"]
    items = value if isinstance(value, list) else as_list(value) if isinstance(value, str) else None
    if items is None:
        raise RowDefectError("broken_tags", f"column {column!r} holds no list")
    return list(items)


def _span(item: Any, text: str) -> tuple[int, int, str]:
    if isinstance(item, list) and len(item) == 3:
        start, end, name = item
    elif isinstance(item, Mapping):
        start, end, name = (_first(item, keys) for keys in (_STARTS, _ENDS, _NAMES))
    else:
        raise RowDefectError("broken_tags", "an entity has no start, end and label")
    name = name[0] if isinstance(name, list) and len(name) == 1 else name
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
        raise RowDefectError("broken_tags", f"an entity from {start!r} to {end!r} lies outside the text")
    return start, end, label_of(name, "entities").replace(" ", "_")


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if key in item), None)
