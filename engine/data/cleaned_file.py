"""Rows as files: the cleaned ones in canonical form, or the two or three sides of a split as the person had them.

Everything is written into a folder of the caller, who puts it in its place when all of it is there: whoever stops in
the middle leaves nothing half-made where somebody looks for rows.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from engine.data.cleaning.clean import merged
from engine.data.paths import data_problem
from engine.data.pipeline import PreparedData, prepare
from engine.data.prepared_profile import Found, dropped_sentences, profile_of
from engine.data.progress import NOBODY, WorkWatch
from engine.data.readers import open_source
from engine.data.row_store import RowStore
from engine.data.rows import RawRow, Row, Tally
from engine.data.source_facts import read_options, source_files
from engine.data.sources import check_read
from engine.data.usable_rows import for_files, read_raw, usable_rows
from engine.planning.data_words import account
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import DataSection, source_paths
from engine.text import clean_line

FileKind = Literal["jsonl", "parquet"]
SIDES = ("train", "held_out", "test")
_BATCH_ROWS = 2000


@dataclass(slots=True)
class LineFile:
    """A JSON Lines file that is being written, with the number and the hash of what is in it.

    Attributes:
        num_rows: Rows written.
        sha256: Hash of its bytes.
    """

    path: Path
    num_rows: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """Return the hash of what was written."""
        return str(self._digest.hexdigest())

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows after those that are there.

        Raises:
            OSError: As the system says.
        """
        with self.path.open("ab") as file:
            for row in rows:
                line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
                self._digest.update(line)
                file.write(line)
                self.num_rows += 1


def of_any_shape(recipe: Recipe) -> Recipe:
    """Return a recipe whose rows may have any shape that is known, also one that no objective learns from."""
    return recipe.model_copy(update={"objective": None})


def whole_data(recipe: Recipe) -> Recipe:
    """Return a recipe without weights and balance, which repeat rows or draw some of them: each row is there once."""
    balance = recipe.data.cleaning.class_balance
    cleaning = recipe.data.cleaning.model_copy(update={"class_balance": "report" if balance != "off" else "off"})
    whole = {"source": source_paths(recipe.data.source), "cleaning": cleaning}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=whole)})


def clean_rows(
    recipe: Recipe, out: Path, *, kind: FileKind, dropped_out: Path | None = None, watch: WorkWatch = NOBODY
) -> dict[str, Any]:
    """Write the rows that are left after reading, checking and cleaning, in canonical form and in the files' order.

    Args:
        recipe: Its data section says what is read and cleaned; weights, split and held-out rows play no part.
        out: File to write; it must not exist.
        kind: `jsonl`, or `parquet` with messages as lists of `{role, content}`, or as JSON where rows call tools.
        dropped_out: File for the rows left out, as `{"where", "reason", "detail", "row"}`; None for none.
        watch: Told how far the work is, and asked whether to go on.

    Returns:
        `profile` of the rows that stay, `num_rows` written, `sha256` of the file, and `num_dropped` rows written.

    Raises:
        ProblemError: The data cannot be used.
        ReadingStoppedError: The watch asked for a stop.
    """
    recipe = whole_data(recipe)
    reasons: dict[str, tuple[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="ftwizard-rows-", dir=out.parent) as folder:
        raw, files = read_raw(source_files(recipe.data), read_options(recipe.data), Path(folder) / "raw.arrow", watch)
        check_read(files, recipe.data.sources(), read_options(recipe.data))
        dropped = Tally(told=lambda reason, where, detail: reasons.update({where: (reason, detail)}))
        changed = Tally()
        usable, shape = usable_rows(raw, for_files(recipe, files), Path(folder) / "rows.arrow", dropped, changed, watch)
        if not usable.rows:
            raise _nothing_left(dropped)
        found = Found(files, shape, dropped, changed, merged(usable.outcomes), [], len(usable.rows), 0)
        profile = profile_of(found, usable.rows, (), (), watch, prompts=False)
        written: dict[str, Any] = _write_cleaned(out, usable.rows, kind, watch)
        if dropped_out is not None:
            lines = LineFile(dropped_out)
            lines.write(watch.counted("Writing dropped rows", dropped_rows(raw, reasons), len(reasons)))
            written["num_dropped"] = lines.num_rows
    return {"profile": profile.model_dump(mode="json"), **written}


def _write_cleaned(out: Path, rows: Sequence[Row], kind: FileKind, watch: WorkWatch) -> dict[str, Any]:
    if kind == "jsonl":
        lines = LineFile(out)
        lines.write(watch.each("Writing rows", rows))
        return {"num_rows": lines.num_rows, "sha256": lines.sha256}
    write_parquet(out, rows, watch)
    with out.open("rb") as file:
        return {"num_rows": len(rows), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _nothing_left(dropped: Tally) -> ProblemError:
    message = f"None of the {dropped.total():,} rows can be used: {dropped_sentences(dropped)}."
    fix = "Correct the rows, or say with data.mapping which columns hold question and answer."
    return ProblemError(Problem("data.no_usable_row", clean_line(message, max_chars=1200), fix, path="data.source"))


def dropped_rows(raw: Iterable[RawRow], reasons: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield the rows that are left out, as they stand, with the reason.

    Args:
        raw: All rows that were read.
        reasons: `{where: (reason, detail)}`.
    """
    for row in raw:
        if row.where in reasons:
            reason, detail = reasons[row.where]
            yield {"where": row.where, "reason": reason, "detail": detail, "row": row.values}


def write_parquet(out: Path, rows: Sequence[Row], watch: WorkWatch = NOBODY) -> None:
    """Write canonical rows as Parquet in batches.

    Lists of messages are columns of structs, as other tools read them; where a message has more than role and content,
    or rows bring tools, they are JSON texts, because a struct would give every message every key of every other one.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    as_json = {column for column in columns if any(_needs_json(row.get(column)) for row in rows)}
    fields = [pa.field(column, _arrow_type(column, rows, as_json)) for column in columns]
    schema = pa.schema(fields)
    with pq.ParquetWriter(out, schema) as writer:
        for start in range(0, len(rows), _BATCH_ROWS):
            watch.at("Writing rows", start, len(rows))
            batch = [
                {
                    key: json.dumps(row[key], ensure_ascii=False) if key in as_json and key in row else row.get(key)
                    for key in columns
                }
                for row in rows[start : start + _BATCH_ROWS]
            ]
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _needs_json(value: Any) -> bool:
    if isinstance(value, dict):
        return True
    if not isinstance(value, list):
        return False
    return any(
        not isinstance(item, str) and (not isinstance(item, dict) or set(item) != {"role", "content"}) for item in value
    )


def _arrow_type(column: str, rows: Sequence[Row], as_json: set[str]) -> Any:
    if column in as_json:
        return pa.string()
    value = next((row[column] for row in rows if row.get(column) not in (None, [])), "")
    if isinstance(value, list):
        return pa.list_(pa.string() if isinstance(value[0], str) else _message_type())
    return {bool: pa.bool_(), int: pa.float64(), float: pa.float64()}.get(type(value), pa.string())


def _message_type() -> Any:
    return pa.struct([("role", pa.string()), ("content", pa.string())])


def split_files(
    recipe: Recipe, folder: Path, *, cache: Path | None = None, watch: WorkWatch = NOBODY
) -> dict[str, Any]:
    """Write the rows of each side of a split as the files have them, and `split.json`, which says how it was made.

    Rows keep the columns and values that were read; nothing is added and text is not changed. Rows that the run would
    drop are on no side and are counted.

    Args:
        recipe: Its data section says what is read and how it is divided.
        folder: An empty folder.
        cache: Cache folder of prepared rows; None keeps nothing.
        watch: Told how far the work is, and asked whether to go on.

    Returns:
        The content of `split.json`, and `profile`.

    Raises:
        ProblemError: The data cannot be used or divided so.
    """
    recipe = whole_data(recipe)
    prepared = prepare(recipe, cache=cache, watch=watch)
    files = [LineFile(folder / f"{side}.jsonl") for side in SIDES]
    # Each side has its rows in the order of the files, so that the next id of each is all that need be known.
    ids = [rows.ids() for rows in _sides(prepared)]
    awaited = [next(side, None) for side in ids]
    pending: list[list[dict[str, Any]]] = [[] for _ in SIDES]
    for row in watch.counted("Writing rows", raw_rows(recipe.data), prepared.profile.num_rows):
        if row.where not in awaited:
            continue
        place = awaited.index(row.where)
        awaited[place] = next(ids[place], None)
        pending[place].append(row.values)
        if len(pending[place]) == _BATCH_ROWS:
            files[place].write(pending[place])
            pending[place].clear()
    if awaited[0] is not None:
        fix = "Wait until whatever writes it has finished, or name a copy."
        raise data_problem("file_changed", "The data was written to while it was divided.", fix)
    for file, rows in zip(files, pending, strict=True):
        file.write(rows)
    record = _split_record(recipe, prepared, files)
    (folder / "split.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if not prepared.test_rows:
        files[-1].path.unlink()
    return {**record, "profile": prepared.profile.model_dump(mode="json")}


def _sides(prepared: PreparedData) -> tuple[RowStore, ...]:
    return prepared.train_rows, prepared.held_out_rows, prepared.test_rows


def raw_rows(data: DataSection) -> Iterator[RawRow]:
    """Yield the rows of all files of the data as they stand, in order.

    Raises:
        ProblemError: A file is missing or broken.
    """
    for file in source_files(data):
        with open_source(file.path, file.name, options=read_options(data)) as source:
            yield from source


def _split_record(recipe: Recipe, prepared: PreparedData, files: Sequence[LineFile]) -> dict[str, Any]:
    data, profile = recipe.data, prepared.profile
    return {
        "sources": [Path(source).name or source for source in data.sources()],
        "source_sha256": profile.sha256,
        "method": data.split.method,
        "column": data.split.column,
        "held_out": data.held_out,
        "test": data.split.test,
        "seed": recipe.training.seed,
        "counts": {"read": profile.num_rows, **{f.path.stem: f.num_rows for f in files if f.num_rows}},
        "dropped": dict(account(profile).dropped),
        "sha256": {file.path.name: file.sha256 for file in files if file.num_rows},
        "ftwizard": metadata.version("ftwizard"),
    }
