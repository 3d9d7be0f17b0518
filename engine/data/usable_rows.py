"""From files to rows that can be used: read, brought into form, looked at one by one and beside each other.

Each step is a pass over rows in a store (`engine.data.row_store`); what is kept of each row between the passes are
hashes and numbers, about a hundred bytes, never its text.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from engine.data.cleaning.clean import RowChecks, TextChecks
from engine.data.cleaning.facts import FactsOfRows, Keys
from engine.data.cleaning.outcome import Outcome
from engine.data.conversations import canonical_row
from engine.data.formats import Shape, find_shape
from engine.data.progress import WorkWatch
from engine.data.readers import ReadOptions, open_source
from engine.data.row_keys import Integers, RowKeys
from engine.data.row_store import RawRows, RowStore, RowWriter, row_text
from engine.data.rows import RawRow, Tally
from engine.data.sources import FileRef, SourceFile, read_file
from engine.data.split import different_rows
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe

FIRST_ROWS = 200
"""Rows of the first file that tell how the data is read, before all of it is."""


@dataclass(frozen=True, slots=True)
class UsableRows:
    """Rows that can be used, and what is known of each of them, in order.

    Attributes:
        rows: The rows.
        keys: Hashes of what they teach, to the letter.
        taught: Hashes of it with case and white space aside.
        groups: Numbers of their groups of rows that are nearly equal.
        raw_numbers: Their places among the raw rows.
        outcomes: What each check found.
    """

    rows: RowStore
    keys: RowKeys
    taught: Keys
    groups: Integers
    raw_numbers: Integers
    outcomes: list[Outcome] = field(default_factory=list)

    def only(self, places: Integers) -> "UsableRows":
        """Return the same with some of the rows, by their places."""
        if len(places) == len(self.rows):
            return self
        return UsableRows(
            self.rows.only(places),
            self.keys.only(places),
            self.taught[places],
            self.groups[places],
            self.raw_numbers[places],
            self.outcomes,
        )


def tell_first_rows(files: Sequence[FileRef], options: ReadOptions, recipe: Recipe, watch: WorkWatch) -> None:
    """Tell how the rows are read, by the first of them, so that nobody waits for all of a large file to see that.

    Says nothing where they do not tell for certain, or are broken: reading all of them says what is the matter.
    """
    if watch.tell is None:
        return
    stage = f"Reading {files[0].name}"
    try:
        with open_source(files[0].path, files[0].name, options=options, watch=watch.of_file(stage)) as source:
            rows = list(islice(source, FIRST_ROWS))
            shape = find_shape(rows, recipe.data, objective=recipe.objective)
            watch.at(stage, 0, source.total_bytes, "bytes", shape.evidence)
    except ProblemError:
        return


def read_raw(
    files: Sequence[FileRef], options: ReadOptions, path: Path, watch: WorkWatch
) -> tuple[RawRows, list[SourceFile]]:
    """Read files into one store of raw rows.

    Args:
        files: The files, in order.
        options: What the recipe says about reading.
        path: Where the rows are written.
        watch: Told how far the reading is.

    Raises:
        ProblemError: A file is broken.
        OSError: The disk is full.
    """
    columns: dict[str, None] = {}
    with RowWriter(path) as writer:

        def take(row: RawRow) -> None:
            columns.update(dict.fromkeys(row.values))
            writer.put(row.where, row_text(row.values).encode("ascii"))

        read = [read_file(file, options, watch.of_file(f"Reading {file.name}"), take) for file in files]
    return RawRows(RowStore(path), list(columns)), read


def for_files(recipe: Recipe, files: Sequence[SourceFile]) -> Recipe:
    """Return a recipe that reports no lengths where all rows are passages: how long those are is our own doing.

    Where somebody asked to drop such rows, they are looked for all the same.
    """
    cleaning = recipe.data.cleaning
    cut_here = recipe.data.text_unit == "passage" and all(file.kind == "text" for file in files)
    if not cut_here or cleaning.length_outliers != "report":
        return recipe
    cleaning = cleaning.model_copy(update={"length_outliers": "off"})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"cleaning": cleaning})})


def usable_rows(
    raw: RawRows,
    recipe: Recipe,
    path: Path,
    dropped: Tally,
    changed: Tally,
    watch: WorkWatch,
    *,
    like: Shape | None = None,
) -> tuple[UsableRows, Shape]:
    """Bring raw rows into form and check them.

    Args:
        raw: Rows as the files have them.
        recipe: A checked recipe.
        path: Where the rows in form are written.
        dropped: Rows left out are counted here.
        changed: Rows that are used, but not as they stand, are counted here.
        watch: Told how far the work is.
        like: Shape of other rows of the same data.

    Raises:
        ProblemError: Nothing says how the rows are to be read.
    """
    shape = find_shape(raw, recipe.data, objective=recipe.objective, like=like)
    data = recipe.data
    # Rows are checked as they are formed, and counted as if all had been formed before.
    dropped_texts = Tally()
    texts = TextChecks(data.cleaning, dropped_texts)
    keys, raw_numbers = RowKeys(), array("q")
    known = FactsOfRows(with_languages=data.cleaning.other_languages != "off")
    with RowWriter(path) as writer:
        for number, raw_row in enumerate(watch.each("Forming and checking the rows", raw)):
            row = canonical_row(raw_row, shape, dropped, changed, recipe.token_classification.tag_names)
            if row is not None and (row := texts.checked(row)) is not None:
                writer.add(row)
                keys.add(row)
                known.add(row)
                raw_numbers.append(number)
    dropped.absorb(dropped_texts)
    rows, numbers = RowStore(path), np.array(raw_numbers, np.int64)
    different = different_rows(rows, keys, dropped) if data.drop_duplicates else np.arange(len(rows))
    facts = known.all().only(different)
    checks = RowChecks(rows.only(different), facts, data.cleaning, recipe.training.seed, dropped, watch)
    cleaned = checks.run()
    kept = different[cleaned.numbers]
    outcomes = [*texts.outcomes(), *cleaned.outcomes]
    taught = facts.taught[cleaned.numbers]
    return UsableRows(rows.only(kept), keys.only(kept), taught, cleaned.groups, numbers[kept], outcomes), shape
