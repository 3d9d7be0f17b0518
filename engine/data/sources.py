"""What `data.source` names, as files: paths, lists, folders, patterns, built-in data, hub data sets, with weights."""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.data.bytes_in import UNWATCHED, Watch
from engine.data.compression import PACKING_SUFFIXES
from engine.data.paths import check_path, data_problem, unreadable
from engine.data.readers import (
    KIND_TITLES,
    PLAIN_OPTIONS,
    SUPPORTED,
    Kind,
    ReadOptions,
    open_source,
    refuse_unused,
    suffix_kind,
)
from engine.data.rows import RawRow
from engine.recipe.problems import Problem
from engine.recipe.schema_data import WeightedSource

HUB = "hub:"
_NO_DATA_STEMS = ("readme", "license", "licence", "notice", "citation", "changelog", "manifest", "dataset_info")
_EVALUATION_STEMS = frozenset({"test", "tests", "valid", "validation", "val", "dev", "eval", "evaluation", "heldout"})
_LISTED = 5
_WEIGHTS = (".safetensors", ".gguf", ".bin")
_MODEL_FILES = ("config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class FileRef:
    """One local file of the data.

    Attributes:
        path: Where it lies.
        name: What it is called in messages and row ids; different for each file.
        weight: How often its training rows are used, as a factor.
    """

    path: Path
    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the data that was read: where it lies, what it is called in messages, what is in it.

    Attributes:
        path: Where it lies.
        name: What it is called in messages and row ids.
        kind: Which reader it had.
        sha256: Hash of its unpacked content.
        num_bytes: Size of that.
        num_rows: Rows read.
        rows: The rows, where they were kept.
        weight: How often its training rows are used, as a factor.
        evidence: How it was read, where that was found out.
        remarks: What is odd in it.
        used: Options of the recipe that made a difference for it.
    """

    path: Path
    name: str
    kind: str
    sha256: str
    num_bytes: int
    num_rows: int
    rows: Sequence[RawRow] = ()
    weight: float = 1.0
    evidence: str = ""
    remarks: list[Problem] = field(default_factory=list)
    used: frozenset[str] = frozenset()


def read_sources(
    sources: Sequence[str | WeightedSource],
    options: ReadOptions = PLAIN_OPTIONS,
    watch: Watch = UNWATCHED,
    *,
    strict: bool = True,
) -> list[SourceFile]:
    """Read files in order, all rows at once; `open_source` reads one without holding its rows.

    Args:
        sources: Paths, folders, patterns, `builtin:` names or `hub:` references.
        options: What the recipe says about reading.
        watch: Told about the progress of each file, and asked whether to go on.
        strict: Refuse options that no file needed.

    Raises:
        ProblemError: Any file is missing or broken, with the place and the next action.
        ReadingStoppedError: The watch asked for a stop.
    """
    files = expand(sources, watch)
    read: list[SourceFile] = []
    for file in files:
        rows: list[RawRow] = []
        read.append(replace(read_file(file, options, watch, rows.append), rows=rows))
    check_read(read, sources, options, strict=strict)
    return read


def check_read(
    read: Sequence[SourceFile],
    sources: Sequence[str | WeightedSource],
    options: ReadOptions,
    *,
    strict: bool = True,
) -> None:
    """Refuse options that no file needed, and warn of files that a folder or pattern brought along.

    Args:
        read: The files that sources stand for, all of them read.
        sources: As in the recipe.
        options: What the recipe says about reading.
        strict: Refuse options that no file needed.

    Raises:
        ProblemError: An option had no effect.
    """
    if strict:
        refuse_unused(options, {key for file in read for key in file.used})
    if remarks := _names_of_evaluation([file.name for file in read], sources):
        read[0].remarks.extend(remarks)


def read_file(file: FileRef, options: ReadOptions, watch: Watch, take: Callable[[RawRow], None]) -> SourceFile:
    """Read one file, giving each row away.

    Args:
        file: The file.
        options: What the recipe says about reading.
        watch: Told about progress, and asked whether to go on.
        take: Called with each row in order.
    """
    with open_source(file.path, file.name, options=options, watch=watch) as source:
        for row in source:
            take(row)
        return SourceFile(
            path=file.path,
            name=file.name,
            kind=source.kind,
            sha256=source.sha256,
            num_bytes=source.num_bytes,
            num_rows=source.num_rows,
            weight=file.weight,
            evidence=source.evidence,
            remarks=source.remarks,
            used=frozenset(source.used),
        )


def hash_of(files: Sequence[SourceFile]) -> str:
    """Return the sha256 of one file, or of the list of the hashes of several."""
    if len(files) == 1:
        return files[0].sha256
    return hashlib.sha256("".join(f"{file.sha256}\n" for file in files).encode()).hexdigest()


def expand(sources: Sequence[str | WeightedSource], watch: Watch = UNWATCHED) -> list[FileRef]:
    """Return the files that sources stand for, in order, each checked to be a file that can be read.

    Args:
        sources: As in the recipe.
        watch: Told about downloads from the hub.

    Raises:
        ProblemError: A source names nothing, files of several kinds, or a file that another one names too.
    """
    found: list[tuple[Path, str, float]] = []
    for source in sources:
        reference, weight = (source, 1.0) if isinstance(source, str) else (source.path, source.weight)
        found += [(path, label, weight) for path, label in _files_of(reference, watch)]
    for path, _, _ in found:
        check_path(path)
    doubled = [path for path, count in Counter(path.resolve() for path, _, _ in found).items() if count > 1]
    if doubled:
        raise data_problem("file_twice", f"{doubled[0]} is listed twice.", "Name each file once.")
    labels = Counter(label for _, label, _ in found)
    return [FileRef(path, label if labels[label] == 1 else str(path), weight) for path, label, weight in found]


def _files_of(reference: str, watch: Watch) -> list[tuple[Path, str]]:
    """Return `(path, name)` of the files that one source stands for."""
    if reference.startswith("builtin:"):
        from engine.catalog.builtin import builtin_path

        path = builtin_path(reference)
        return [(path, path.name)]
    if reference.startswith(HUB):
        from engine.models.hub_datasets import resolve_dataset

        return [(path, path.name) for path in resolve_dataset(reference, watch.tell)]
    path = Path(reference)
    if is_pattern(reference):
        return _of_one_kind(_matches(reference), reference)
    if os.path.isdir(path):  # Path.is_dir raises where a name is too long to exist.
        return _of_one_kind(_folder_files(path), reference)
    return [(path, path.name)]


def is_pattern(reference: str) -> bool:
    """Return whether a path holds wildcards and is not itself the name of something that is there."""
    return glob.has_magic(reference) and not os.path.lexists(reference)


def _matches(pattern: str) -> list[tuple[Path, str]]:
    paths = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    files = [(path, path.name) for path in paths if not path.is_dir()]
    if not files:
        fix = "Check the pattern; * stands for any part of a name, ** for any folders."
        raise data_problem("no_match", f"No file matches {pattern}.", fix)
    return files


def _folder_files(folder: Path) -> list[tuple[Path, str]]:
    """Return the data files below a folder by their path in it; links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename or folder), error)

    _refuse_model(folder)
    files: list[tuple[Path, str]] = []
    others: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent) / name
            if not name.startswith(".") and suffix_kind(path) is not None and not _is_paper(path):
                files.append((path, str(path.relative_to(folder))))
            else:
                others.append(path.relative_to(folder))
    if files:
        return files
    listed = f"; it holds {_listed(others)}" if others else ""
    raise data_problem(
        "folder_empty", f"{folder} is a folder without data files{listed}.", f"Name files; read are {SUPPORTED}."
    )


def _refuse_model(folder: Path) -> None:
    """Refuse the folder of a model, whose JSON files are no rows."""
    weights = next((path.name for suffix in _WEIGHTS for path in sorted(folder.glob(f"*{suffix}"))), None)
    described = next((name for name in _MODEL_FILES if (folder / name).is_file()), None)
    if weights and described:
        fix = "Name the files to learn from; a model is named as the base model (--model, model.base)."
        raise data_problem("model_folder", f"{folder} holds a model ({described}, {weights}), not data.", fix)


def _listed(paths: Sequence[Path]) -> str:
    """Return a few files by name, many by the number of each ending."""
    if len(paths) <= _LISTED:
        return ", ".join(map(str, paths))
    endings = Counter(path.suffix.lower() or path.name for path in paths)
    shown = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(_LISTED))
    return f"{len(paths):,} other files ({shown}{' ...' if len(endings) > _LISTED else ''})"


def _is_paper(path: Path) -> bool:
    """Return whether a file beside the data only tells about it."""
    return path.name.lower().split(".")[0] in _NO_DATA_STEMS


def _of_one_kind(files: list[tuple[Path, str]], reference: str) -> list[tuple[Path, str]]:
    kinds: Counter[Kind | None] = Counter(suffix_kind(path) for path, _ in files)
    if len(kinds) == 1:
        return files
    counts = ", ".join(
        f"{count} {KIND_TITLES[kind] if kind else 'unknown'} {'file' if count == 1 else 'files'}"
        for kind, count in kinds.most_common()
    )
    most = [path for path, _ in files if suffix_kind(path) == kinds.most_common(1)[0][0]]
    folder = Path(reference) if Path(reference).is_dir() else Path(reference).parent
    raise data_problem(
        "mixed_kinds",
        f"{reference} holds files of several kinds: {counts}.",
        f"Name those of one kind, such as {_pattern_of(most, folder)}, or list the files.",
    )


def _pattern_of(paths: Sequence[Path], folder: Path) -> Path:
    """Return a pattern that matches files of one ending below a folder, that of the first of them."""
    *others, last = paths[0].suffixes
    ending = f"{others[-1]}{last}" if others and last.lower() in PACKING_SUFFIXES else last
    nested = any(path.parent != folder for path in paths)
    return folder / ("**" if nested else "") / f"*{ending}"


def _names_of_evaluation(files: Sequence[str], sources: Sequence[str | WeightedSource]) -> list[Problem]:
    """Return a warning when a folder or pattern brought files whose names say that they are for evaluation."""
    if len(files) <= len(sources):
        return []
    named = [name for name in files if Path(name).name.lower().split(".")[0].split("-")[0] in _EVALUATION_STEMS]
    if not named or len(named) == len(files):
        return []
    message = f"{', '.join(named[:_LISTED])} would be trained on, and its name says that it is for evaluation."
    fix = "Name the training files alone, and set data.held_out to that file."
    return [Problem("data.evaluation_file", message, fix, path="data.source", severity="warning")]
