"""Stage 1 from end to end: files to training and held-out rows, with a profile that says what happened to each row.

Rows never stand in memory together: they are read, brought into form, checked and divided in passes over files of rows
(`engine.data.row_store`), and what comes out is kept in the cache folder for as long as the same data is asked for.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.catalog.objectives import OBJECTIVES
from engine.data.balance import find_balance
from engine.data.cleaning.clean import merged
from engine.data.cleaning.personal import hide
from engine.data.formats import Shape
from engine.data.leaks import drop_leaked
from engine.data.prepared_profile import Found, dropped_sentences, profile_of
from engine.data.progress import NOBODY, WorkWatch
from engine.data.readers import ReadOptions
from engine.data.row_cache import RowCache, RowFiles
from engine.data.row_store import RawRows, RowStore, RowWriter
from engine.data.rows import Row, Tally
from engine.data.sources import FileRef, check_read, expand
from engine.data.split import SplitRows, check_share, limited, split_rows
from engine.data.split_values import division_of
from engine.data.usable_rows import UsableRows, for_files, read_raw, tell_first_rows, usable_rows
from engine.data.weights import weigh_rows, weight_notes
from engine.planning.profiles import DataProfile, Finding
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import WeightedSource
from engine.runs.disk import FULL_DISK_ERRORS, disk_problem
from engine.text import clean_line


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Rows ready for rendering, and the facts about them.

    Attributes:
        train_rows: Rows to learn from.
        held_out_rows: Rows to be judged on.
        profile: What happened to each row.
        test_rows: Rows put aside that the run never sees.
        train_sha256: Hash over the training rows as lines of JSON, which are the bytes of `data/train.jsonl` of a run.
    """

    train_rows: RowStore
    held_out_rows: RowStore
    profile: DataProfile
    test_rows: RowStore
    train_sha256: str


def prepare(recipe: Recipe, *, cache: Path | None = None, watch: WorkWatch = NOBODY) -> PreparedData:
    """Read, check, clean and split the data of a recipe.

    Lengths in the profile are estimated from characters; `engine.data.profile` measures them with a tokenizer.

    Args:
        recipe: A checked recipe.
        cache: The cache folder of this person: what was prepared once from the same files is taken from there. None
            works in a temporary folder, and keeps nothing.
        watch: Told how far the work is, and asked whether to go on.

    Raises:
        ProblemError: A file is missing or broken, no column is usable, no row is, a check of the recipe blocks, or the
            disk is full. What it quotes of the rows is hidden where it looks like a secret.
        ReadingStoppedError: The watch asked for a stop; nothing half-made stays behind.
    """
    try:
        return _prepare(_sources(recipe, watch), cache, watch)
    except ProblemError as error:
        hidden = [replace(problem, message=hide(problem.message), fix=hide(problem.fix)) for problem in error.problems]
    except OSError as error:
        if error.errno not in FULL_DISK_ERRORS:
            raise
        hidden = [disk_problem(error, cache or Path(tempfile.gettempdir()), "keep the rows while they are prepared")]
    raise ProblemError(*hidden)


@dataclass(frozen=True, slots=True)
class _Sources:
    """What the rows are made of: a recipe and the files that it names."""

    recipe: Recipe
    options: ReadOptions
    listed: Sequence[str | WeightedSource]
    files: list[FileRef]
    held_out_files: list[FileRef]
    share: float | None


def _sources(recipe: Recipe, watch: WorkWatch) -> _Sources:
    data = recipe.data
    listed = [data.source] if isinstance(data.source, str) else data.source
    options = ReadOptions(encoding=data.encoding, unwrap=data.unwrap, text_unit=data.text_unit)
    fetching = watch.of_file("Fetching the data")
    files = expand(listed, fetching)
    held_out_file, share = _held_out(data.held_out)
    return _Sources(recipe, options, listed, files, expand([held_out_file], fetching) if held_out_file else [], share)


def _prepare(sources: _Sources, cache: Path | None, watch: WorkWatch) -> PreparedData:
    if cache is None:
        # The rows stay readable after their files are removed, until nobody holds them any more.
        with tempfile.TemporaryDirectory(prefix="ftwizard-rows-") as folder:
            _make(sources, RowFiles(Path(folder)), watch)
            return _opened(RowFiles(Path(folder)))
    kept = RowCache(cache, sources.recipe, sources.files, sources.held_out_files, sources.share)
    found = kept.find_known()
    if found is None:
        tell_first_rows(sources.files, sources.options, sources.recipe, watch)
        found = kept.find(watch)
    if found is not None:
        return _opened(found)
    with kept.making() as files:
        _make(sources, files, watch)
        kept.check_unchanged()
        prepared = _opened(files)
    kept.remember_resolved(prepared.profile)
    return prepared


def _opened(files: RowFiles) -> PreparedData:
    profile, train_sha256 = files.read_profile()
    train, held_out, test = (RowStore(path) for path in (files.train, files.held_out, files.test))
    return PreparedData(train, held_out, profile, test, train_sha256)


def _make(sources: _Sources, files: RowFiles, watch: WorkWatch) -> None:
    """Prepare the rows of a recipe into files."""
    with tempfile.TemporaryDirectory(prefix="passes-", dir=files.folder) as folder:
        found, split, held, weighed = _divided(sources, Path(folder), watch)
        balance = find_balance(weighed, sources.recipe.data.cleaning.class_balance, sources.recipe.training.seed)
        train_rows: Iterable[Row] = weighed
        if balance is not None:
            train_rows = balance.applied(weighed, found.dropped, found.outcomes)
            found.notes.append(balance.finding())
        train_sha256 = write_rows(files.train, train_rows, watch, "Writing training rows")
        write_rows(files.held_out, held, watch, "Writing held-out rows")
        write_rows(files.test, split.test, watch, "Writing test rows")
    train, held_out, test = (RowStore(path) for path in (files.train, files.held_out, files.test))
    # Rows are divided for no objective, too.
    prompts = any(each.name == sources.recipe.objective and each.signal == "prompts" for each in OBJECTIVES)
    files.write_profile(profile_of(found, train, held_out, test, watch, prompts=prompts), train_sha256)


def _divided(sources: _Sources, folder: Path, watch: WorkWatch) -> tuple[Found, SplitRows, Sequence[Row], RowStore]:
    """Return what was found, the sides of the split, the held-out rows, and the training rows as weighed."""
    recipe, data, seed = sources.recipe, sources.recipe.data, sources.recipe.training.seed
    dropped, changed = Tally(), Tally()
    raw, files = read_raw(sources.files, sources.options, folder / "raw.arrow", watch)
    check_read(files, sources.listed, sources.options)
    recipe = for_files(recipe, files)
    usable, shape = _usable(raw, recipe, folder / "rows.arrow", dropped, changed, watch)
    outcomes = list(usable.outcomes)
    held: Sequence[Row] = ()
    if sources.held_out_files:
        held_raw, held_files = read_raw(sources.held_out_files, sources.options, folder / "held-raw.arrow", watch)
        path = folder / "held.arrow"
        held_usable, _ = _usable(held_raw, recipe, path, dropped, changed, watch, like=shape)
        held, outcomes, files = held_usable.rows, [*outcomes, *held_usable.outcomes], files + held_files
        usable, leaked = drop_leaked(usable, held_usable, data.cleaning, seed, dropped)
        if not usable.rows:
            raise _nothing_left(dropped, "data.source")
        outcomes.append(leaked)
    if data.max_rows is not None:
        usable = usable.only(limited(usable.rows, usable.keys, data.max_rows, seed, dropped))
    share = 0 if sources.held_out_files else sources.share
    division = division_of(data.split, usable.rows, usable.groups, raw.only(usable.raw_numbers), share)
    left_out = dropped_sentences(dropped)
    split = split_rows(usable.rows, division, seed, keys=usable.keys, left_out=left_out)
    notes = [*weight_notes(files[: len(sources.files)], split.train, seed), *_split_notes(split)]
    weighed = _weighed(sources.files, split.train, seed, dropped, folder / "weighed.arrow", watch)
    num_rows = len(usable.rows)
    found = Found(files, shape, dropped, changed, merged(outcomes), notes, num_rows, split.wanted)
    return found, split, held or split.held_out, weighed


def _weighed(
    files: Sequence[FileRef], rows: Sequence[Row], seed: int, dropped: Tally, path: Path, watch: WorkWatch
) -> RowStore:
    weighed = weigh_rows(rows, {file.name: file.weight for file in files}, seed, dropped)
    if isinstance(weighed, RowStore):
        return weighed
    write_rows(path, weighed, watch, "Weighing the rows")
    return RowStore(path)


def write_rows(path: Path, rows: Iterable[Row], watch: WorkWatch, stage: str) -> str:
    """Write rows into a store of their own and return the hash over them as lines of JSON.

    Args:
        path: The file.
        rows: The rows; those of another store are copied as they stand.
        watch: Told how far the writing is.
        stage: What is being done.
    """
    digest = hashlib.sha256()
    with RowWriter(path) as writer:
        if isinstance(rows, RowStore):
            for row_id, text in watch.counted(stage, zip(rows.ids(), rows.texts(), strict=True), len(rows)):
                writer.put(row_id, text)
                digest.update(text + b"\n")
        else:
            for row in watch.counted(stage, rows, 0):
                digest.update(writer.add(row) + b"\n")
    return digest.hexdigest()


def _held_out(held_out: str | float | None) -> tuple[str | None, float | None]:
    """Return the held-out file or the share."""
    try:
        share = None if held_out is None else float(held_out)
    except ValueError:
        return str(held_out), None
    check_share(share)
    return None, share


def _usable(
    raw: RawRows,
    recipe: Recipe,
    path: Path,
    dropped: Tally,
    changed: Tally,
    watch: WorkWatch,
    *,
    like: Shape | None = None,
) -> tuple[UsableRows, Shape]:
    before = dropped.total()
    usable, shape = usable_rows(raw, recipe, path, dropped, changed, watch, like=like)
    if not usable.rows:
        raise _nothing_left(dropped, "data.source", number=dropped.total() - before)
    return usable, shape


def _split_notes(split: SplitRows) -> list[Finding]:
    return [Finding(code="data.split", message=note, path="data.split", severity="note") for note in split.notes]


def _nothing_left(dropped: Tally, path: str, number: int | None = None) -> ProblemError:
    return ProblemError(
        Problem(
            "data.no_usable_row",
            clean_line(
                f"None of the {number or dropped.total()} rows can be used: {dropped_sentences(dropped)}.",
                max_chars=1200,
            ),
            "Correct the rows, or say with data.mapping which columns hold question and answer.",
            path=path,
        )
    )
