"""`ftwizard data clean` and `data split`: rows as files, put in place when they are whole and never over others."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line
from tui.verbs.data_recipe import DataWish, data_helper, recipe_of
from tui.verbs.data_text import accounting_lines, check_lines, title
from tui.verbs.output import print_json, print_problems

if TYPE_CHECKING:
    from engine.planning.profiles import DataProfile

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
SAFE_REPAIRS = {"hidden_characters": "remove", "double_encoding": "repair", "secrets": "mask"}
"""What `--fix` turns on: each takes out what nobody meant to teach and keeps the row. Dropping rows that are alike, or
masking personal data that may be what is taught, is for a person to choose."""
_OF_A_RUN = ("training.max_length", "training.packing", "model.", "data.system_prompt", "data.cleaning.class_balance")
_NOT_OF_CLEANING = (*_OF_A_RUN, "training.seed", "data.held_out", "data.split", "data.max_rows")
_SAID_BY_SPLIT = (*_OF_A_RUN, "training.seed", "data.held_out", "data.split")
"""Settings that these verbs do not read, or that options of theirs stand for."""


@dataclass(frozen=True, slots=True)
class CleanWish:
    """Where cleaned rows go.

    Attributes:
        out: File to write; its ending says how.
        dropped: File for the rows that are left out, each with its reason; None for none.
        fix: Turn on the safe repairs.
        force: Replace files that are there.
    """

    out: Path
    dropped: Path | None = None
    fix: bool = False
    force: bool = False


def clean(wish: DataWish, target: CleanWish, *, as_json: bool) -> int:
    """Write the cleaned rows in canonical form and print what happened to each row."""
    from engine.planning.profiles import DataProfile

    wish = replace(wish, unread=_NOT_OF_CLEANING)
    if target.fix:
        wish = replace(wish, defaults={"data": {"cleaning": SAFE_REPAIRS}})
    kind = _kind_of(target.out)
    places = [place.expanduser().absolute() for place in (target.out, target.dropped) if place is not None]
    with data_helper(show=not as_json) as helper, staged(places, force=target.force) as staging:
        tree = recipe_of(wish)
        _refuse_sources(places, helper.ask("source_files", data=tree["data"]))
        answer = helper.ask(
            "clean_data",
            recipe=tree,
            out=str(staging[0]),
            kind=kind,
            dropped=str(staging[1]) if len(staging) > 1 else None,
        )
        put_in_place(staging, places, force=target.force)
        also_read = helper.ask("source_files", data=tree["data"])
    profile = DataProfile.model_validate(answer.pop("profile"))
    answer |= {"out": str(places[0]), "dropped_file": str(places[1]) if len(places) > 1 else None}
    if as_json:
        print_json({**answer, "profile": profile.model_dump(mode="json")})
        return 0
    _print_cleaned(profile, answer, places)
    if any(os.path.samefile(place, file) for place in places for file in also_read):
        typer.echo(f"! {clean_line(places[0])} lies where the data is read: the next reading takes it too.", err=True)
    return 0


def _kind_of(out: Path) -> str:
    kind = KINDS.get(out.suffix.lower())
    if kind is None:
        fix = f"Give it one of the endings {', '.join(KINDS)}."
        raise ProblemError(Problem("data.out_kind", f"{out} has an ending that is not written.", fix))
    return kind


def _refuse_sources(places: Sequence[Path], sources: Sequence[str]) -> None:
    for place in places:
        if any(os.path.exists(place) and os.path.samefile(place, source) for source in sources):
            message = f"{place} is a file of the data itself."
            raise ProblemError(Problem("data.out_is_source", message, "Write to another file, and compare the two."))


@contextmanager
def staged(places: Sequence[Path], *, force: bool) -> Iterator[list[Path]]:
    """Give a path beside the first place for each of them; what lies there when the block ends is removed.

    Args:
        places: Files, or one folder, that will be put in place.
        force: Whether files may be replaced.

    Raises:
        ProblemError: A place is taken, or its folder cannot be written.
    """
    for place in places:
        _refuse_taken(place, force=force)
        _need_folder(place.parent)
    folder = places[0].parent
    staging = Path(tempfile.mkdtemp(prefix=".ftwizard-", dir=folder))
    try:
        yield [staging / f"{number}-{place.name}" for number, place in enumerate(places)]
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _need_folder(folder: Path) -> None:
    if not folder.is_dir():
        fix = f"Make it: mkdir -p {shlex.quote(str(folder))}"
        raise ProblemError(Problem("data.out_folder", f"The folder {folder} does not exist.", fix))


def _refuse_taken(place: Path, *, force: bool) -> None:
    if not os.path.lexists(place):
        return
    if place.is_dir():
        raise ProblemError(Problem("data.out_is_folder", f"{place} is a folder.", "Name a file in it."))
    if not force:
        fix = "Choose another name, or add --force to replace it."
        raise ProblemError(Problem("data.out_exists", f"{place} is there already.", fix))


def put_in_place(staging: Sequence[Path], places: Sequence[Path], *, force: bool) -> None:
    """Move files that are whole to their places, the last one first, so that the first one says that all are there.

    Raises:
        ProblemError: Somebody else has made one of them meanwhile.
    """
    for made, place in reversed(list(zip(staging, places, strict=True))):
        with made.open("rb") as file:
            os.fsync(file.fileno())
        _refuse_taken(place, force=force)
        _move(made, place)


def _move(made: Path, place: Path) -> None:
    try:
        os.rename(made, place)
    except OSError:
        # Another disk: copy beside the place, then rename, so that nobody sees a part.
        beside = place.with_name(f".{place.name}.ftwizard")
        try:
            shutil.copyfile(made, beside)
            os.replace(beside, place)
        finally:
            beside.unlink(missing_ok=True)


def _print_cleaned(profile: "DataProfile", answer: dict[str, Any], places: Sequence[Path]) -> None:
    typer.echo(title("Where each row went"))
    for line in accounting_lines(profile, kept=True):
        typer.echo(line)
    typer.echo("\n" + title("Checks of the rows"))
    for line in check_lines(profile.checks):
        typer.echo(line)
    findings = [finding for finding in profile.findings if finding.code not in _NOT_OF_A_FILE]
    if findings:
        typer.echo()
        print_problems(findings, err=False)
    typer.echo(f"\nWritten: {clean_line(places[0])} ({answer['num_rows']:,} rows)")
    if len(places) > 1:
        typer.echo(f"Dropped: {clean_line(places[1])} ({answer['num_dropped']:,} rows with their reasons)")


_NOT_OF_A_FILE = frozenset({"data.few_rows", "data.split"})
"""Findings about a run, which a file of rows is not."""


@dataclass(frozen=True, slots=True)
class SplitWish:
    """How rows are divided and where they go.

    Attributes:
        out: Folder to make.
        held_out: Share to hold out.
        test: Share to put aside; None for none.
        method: Way of dividing.
        column: Column that it goes by.
        seed: Seed of the draw.
    """

    out: Path
    held_out: float = 0.1
    test: float | None = None
    method: str = "random"
    column: str | None = None
    seed: int | None = None


def split(wish: DataWish, target: SplitWish, *, as_json: bool) -> int:
    """Divide rows into files of a new folder, with a record that lets anybody repeat it."""
    from engine.planning.profiles import DataProfile

    place = target.out.expanduser().absolute()
    wish = replace(wish, own_changes=_split_changes(target), unread=_SAID_BY_SPLIT)
    with data_helper(show=not as_json) as helper, staged_folder(place) as staging:
        tree = recipe_of(wish)
        record = helper.ask("split_data", recipe=tree, folder=str(staging))
        _put_folder(staging, place)
    profile = DataProfile.model_validate(record.pop("profile"))
    if as_json:
        print_json({**record, "out": str(place)})
        return 0
    for line in accounting_lines(profile):
        typer.echo(line)
    for name in sorted(record["sha256"], key=list(record["sha256"]).index):
        count = record["counts"][name.removesuffix(".jsonl")]
        typer.echo(f"Written: {clean_line(place / name)} ({count:,} rows)")
    typer.echo(f"Written: {clean_line(place / 'split.json')} (how it was divided, to repeat it)")
    print_problems((f for f in profile.findings if f.severity != "note" and f.code not in _NOT_OF_A_FILE), err=True)
    return 0


def _split_changes(target: SplitWish) -> list[str]:
    changes = [f"data.held_out={target.held_out}", f"data.split.method={target.method}"]
    changes += [f"data.split.test={target.test}"] if target.test is not None else []
    changes += [f"data.split.column={target.column}"] if target.column is not None else []
    return [*changes, *([f"training.seed={target.seed}"] if target.seed is not None else [])]


@contextmanager
def staged_folder(place: Path) -> Iterator[Path]:
    """Give a folder beside a place; what lies there when the block ends is removed.

    Raises:
        ProblemError: The place is taken by a file or by a folder with something in it.
    """
    if os.path.lexists(place) and (not place.is_dir() or any(place.iterdir())):
        fix = "Name a folder that is not there yet."
        raise ProblemError(Problem("data.out_exists", f"{place} is there already.", fix))
    place.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".ftwizard-", dir=place.parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put_folder(staging: Path, place: Path) -> None:
    staging.chmod(0o777 & ~_umask())
    # An empty folder gives way to a rename; one that somebody filled meanwhile does not.
    os.rename(staging, place)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
