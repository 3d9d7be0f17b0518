"""The ways to read rows, from the first of them: what a mapping screen offers before a large file was read."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from engine.data.conversations import canonical_rows
from engine.data.formats import Candidate, Format, Shape, candidates, columns_of, find_shape
from engine.data.prepared_profile import example
from engine.data.progress import NOBODY, WorkWatch
from engine.data.readers import ReadOptions, open_source
from engine.data.rows import RawRow, Row, Tally
from engine.data.sources import expand
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import WeightedSource
from engine.text import clean_line

FIRST_ROWS = 1000
"""Rows that are looked at: of any file they are read in less than a second."""
_SHOWN_CHARS = 600
_SHOWN_COLUMNS = 200


def shape_offers(recipe: Recipe, watch: WorkWatch = NOBODY) -> dict[str, Any]:
    """Return how the first rows can be read, as `tui.backend.ShapeLook` has it.

    Args:
        recipe: A checked recipe. Where it says how rows are read, that comes first, with the confidence 1.
        watch: Told how far the reading is.

    Raises:
        ProblemError: A file is missing or cannot be read, or one that ends within these rows has broken ones.
    """
    rows = first_rows(recipe, FIRST_ROWS, watch)
    found = candidates(rows, recipe.objective)
    chosen = _chosen(rows, recipe)
    if chosen is not None:
        found = [chosen, *(each for each in found if (each.format, each.mapping) != (chosen.format, chosen.mapping))]
    return {
        "offers": [_offer(each) for each in found],
        "columns": {name: _first_cell(rows, name) for name in columns_of(rows)[:_SHOWN_COLUMNS]},
        "num_rows": len(rows),
    }


def first_rows(recipe: Recipe, limit: int, watch: WorkWatch = NOBODY) -> list[RawRow]:
    """Return the first rows of a recipe's files, in order, at most `limit` of them."""
    return list(islice(_rows(recipe, watch), limit))


def _rows(recipe: Recipe, watch: WorkWatch) -> Iterator[RawRow]:
    data = recipe.data
    sources: Sequence[str | WeightedSource] = [data.source] if isinstance(data.source, str) else data.source
    options = ReadOptions(encoding=data.encoding, unwrap=data.unwrap, text_unit=data.text_unit)
    for file in expand(sources, watch.of_file("Looking for the files")):
        looking = watch.of_file(f"Looking at {clean_line(file.name, max_chars=40)}")
        with open_source(file.path, file.name, options=options, watch=looking) as source:
            yield from source


def _chosen(rows: Sequence[RawRow], recipe: Recipe) -> Candidate | None:
    """Return the reading that the recipe names; None where it names none, or one that the rows do not have."""
    if not recipe.data.mapping and not recipe.data.format:
        return None
    try:
        shape = find_shape(rows, recipe.data, objective=recipe.objective)
    except ProblemError:
        # The reading of all rows tells it with its reason; the other ways are offered beside.
        return None
    same = [each for each in candidates(rows) if each.format == shape.format and each.mapping == shape.mapping]
    first = same[0].example if same else _example(rows, shape.format, shape.mapping)
    return Candidate(shape.format, shape.mapping, shape.evidence, 1.0, first)


def _example(rows: Sequence[RawRow], shape: Format, mapping: dict[str, str]) -> Row:
    for row in rows[:20]:
        made = canonical_rows([row], Shape(shape, mapping, ""), Tally(), Tally())
        if made:
            return made[0]
    return {}


def _offer(found: Candidate) -> dict[str, Any]:
    as_read = example(found.example, found.format) if found.example else {}
    return {
        "format": found.format,
        "mapping": found.mapping,
        "evidence": found.evidence,
        "confidence": found.confidence,
        "example": {role: clean_line(text, max_chars=_SHOWN_CHARS) for role, text in as_read.items()},
    }


def _first_cell(rows: Sequence[RawRow], column: str) -> str:
    """Return the first cell of a column that holds something, as text on one line."""
    cells = (row.values.get(column) for row in rows)
    return next((clean_line(cell, max_chars=_SHOWN_CHARS) for cell in cells if cell not in (None, "", [], {})), "")
