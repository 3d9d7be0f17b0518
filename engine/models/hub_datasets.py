"""Data sets of the hub: `hub:OWNER/NAME@REVISION#CONFIG/SPLIT` to local files, checked, offline from the cache.

Only files of rows are fetched. Loading scripts are programs of strangers and are never run.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from engine.models.hub_errors import DATASET, hub_problem
from engine.models.hub_files import fetch, repo_folder
from engine.models.hub_listing import ask_hub_for_dataset
from engine.recipe.problems import ProblemError

PREFIX = "hub:"
_REFERENCE = re.compile(
    r"(?P<base>[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?)"
    r"(?:@(?P<revision>[\w./-]{1,200}))?(?:#(?:(?P<config>[^/#]{1,200})/)?(?P<split>[^/#]{1,200}))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CARD = "README.md"
_UNREACHABLE = frozenset({"data.hub_offline", "data.hub_download_failed"})
_ROW_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".arrow", ".ndjson", ".md")
_PACKED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz", ".zip")
_NO_ROWS = frozenset({"README.md", "dataset_infos.json", "dataset_info.json", "LICENSE.txt", "state.json"})
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<rest>\..+)$")
_LISTED = 8
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Reference:
    """What a recipe says of a hub data set.

    Attributes:
        base: Hub id.
        revision: Branch, tag or commit; None for the main branch.
        config: One of its configurations; None takes the default one.
        split: One of its splits; None takes `train`, or the only one.
    """

    base: str
    revision: str | None
    config: str | None
    split: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """The files of one split of one configuration."""

    config: str
    split: str
    files: tuple[str, ...]
    default: bool = False


def read_reference(text: str) -> Reference:
    """Return the parts of `hub:OWNER/NAME@REVISION#CONFIG/SPLIT`; all but the name may be left out.

    Raises:
        ProblemError: It has another form.
    """
    match = _REFERENCE.fullmatch(text.removeprefix(PREFIX))
    if match is None or ".." in (match["revision"] or "").split("/"):
        fix = "Write hub:OWNER/NAME, then perhaps @REVISION, then perhaps #SPLIT or #CONFIG/SPLIT."
        raise hub_problem("bad_id", f"{text} does not name a data set of the hub.", fix, DATASET)
    return Reference(match["base"], match["revision"], match["config"], match["split"])


def resolve_dataset(text: str, progress: Progress | None = None) -> list[Path]:
    """Return the local files of a hub data set, downloading what is not here yet.

    Args:
        text: Reference as in the recipe.
        progress: Told about the bytes of the download.

    Raises:
        ProblemError: No such data set, revision, configuration or split; no access, no connection; a damaged file.
    """
    reference = read_reference(text)
    pinned = reference.revision is not None and _COMMIT.fullmatch(reference.revision) is not None
    here = _from_cache(reference) if pinned else None
    if here is not None:
        return here
    try:
        remote = ask_hub_for_dataset(reference.base, reference.revision)
    except ProblemError as error:
        cached = _from_cache(reference) if error.problems[0].code in _UNREACHABLE else None
        if cached is None:
            raise
        return cached
    by_name = {file.name: file for file in remote.files}
    card = ""
    if _CARD in by_name:
        card = (fetch(remote, [by_name[_CARD]]) / _CARD).read_text(encoding="utf-8", errors="replace")
    names = choose_files(reference, list(by_name), card)
    folder = fetch(remote, [by_name[name] for name in names], progress)
    return [folder / name for name in names]


def commits_of(references: Iterable[str]) -> dict[str, str]:
    """Return `{reference: the same with its commit}` of the data sets of the hub that have just been resolved.

    Args:
        references: What `data.source` and `data.held_out` name; other names than `hub:` ones are passed over.

    Raises:
        ProblemError: One has another form.
    """
    return {text: _pinned(text) for text in references if text.startswith(PREFIX)}


def _pinned(text: str) -> str:
    reference = read_reference(text)
    commit = _noted_commit(reference)
    if commit is None:
        return text
    rest = text.partition("#")
    return f"{PREFIX}{reference.base}@{commit}{rest[1]}{rest[2]}"


def _noted_commit(reference: Reference) -> str | None:
    """Return the commit that a reference led to when its files were last fetched; None where they never were."""
    revision = reference.revision or "main"
    if _COMMIT.fullmatch(revision):
        return revision
    note = repo_folder(reference.base, DATASET) / "refs" / revision
    return note.read_text(encoding="utf-8").strip() if note.is_file() else None


def _from_cache(reference: Reference) -> list[Path] | None:
    """Return the files of an earlier download when all of them are there."""
    commit = _noted_commit(reference)
    if commit is None:
        return None
    snapshot = repo_folder(reference.base, DATASET) / "snapshots" / commit
    names = sorted(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file())
    card = (snapshot / _CARD).read_text(encoding="utf-8", errors="replace") if _CARD in names else ""
    try:
        chosen = choose_files(reference, names, card)
    except ProblemError:
        # What is asked for now was not part of what was fetched then.
        return None
    return [snapshot / name for name in chosen] if _all_shards(chosen) else None


def _all_shards(names: Iterable[str]) -> bool:
    matches = [match for name in names if (match := _SHARD.match(name))]
    numbers = {(match["stem"], match["rest"], match["count"]): 0 for match in matches}
    for match in matches:
        numbers[match["stem"], match["rest"], match["count"]] += 1
    return all(found == int(count) for (_, _, count), found in numbers.items())


def choose_files(reference: Reference, names: Sequence[str], card: str) -> list[str]:
    """Return the files of the configuration and split that a reference means.

    Args:
        reference: What the recipe says.
        names: All files of the repository.
        card: Text of its README.md, whose front matter may say which files belong to which split.

    Raises:
        ProblemError: There are no files of rows, or the configuration or split has to be named.
    """
    rows = sorted(name for name in names if _holds_rows(name))
    if not rows:
        raise _no_rows(reference, names)
    parts = _parts_of_card(reference.base, card, rows) or _parts_by_name(rows)
    configs = list(dict.fromkeys(part.config for part in parts))
    config = reference.config or next((part.config for part in parts if part.default), None)
    if config is None and len(configs) == 1:
        config = configs[0]
    config = config or ("default" if "default" in configs else None)
    if config not in configs:
        asked = f"no configuration {config!r}" if config else f"{len(configs)} configurations"
        fix = f"Write {PREFIX}{reference.base}#CONFIG/{reference.split or 'train'}; there are {_listed(configs)}."
        raise hub_problem("config", f"{reference.base} has {asked}.", fix, DATASET)
    splits = {part.split: part.files for part in parts if part.config == config}
    split = reference.split or ("train" if "train" in splits else next(iter(splits)) if len(splits) == 1 else None)
    if split not in splits:
        asked = f"no split {split!r}" if split else f"{len(splits)} splits and none called train"
        fix = f"Write #SPLIT behind the name; there are {_listed(list(splits))}."
        raise hub_problem("split", f"{reference.base} has {asked}.", fix, DATASET)
    return list(splits[split])


def _holds_rows(name: str) -> bool:
    path = PurePosixPath(name)
    if path.name in _NO_ROWS or path.name.startswith(".") or any(part.startswith(".") for part in path.parts):
        return False
    stem = path.with_suffix("") if path.suffix.lower() in _PACKED_SUFFIXES else path
    return stem.suffix.lower() in _ROW_SUFFIXES


def _no_rows(reference: Reference, names: Sequence[str]) -> ProblemError:
    script = f"{reference.base.rpartition('/')[2]}.py"
    if script in names:
        message = f"{reference.base} is a program that makes the data ({script}), and programs are not run."
        fix = f"Name the converted files, if the hub has them: {PREFIX}{reference.base}@refs/convert/parquet"
        return hub_problem("script", message, fix, DATASET)
    message = f"{reference.base} has no files of rows; it holds {_listed(list(names)) or 'nothing'}."
    return hub_problem("no_rows", message, "Choose another data set, or download it and name its files.", DATASET)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _parts_of_card(base: str, card: str, rows: Sequence[str]) -> list[Part]:
    """Return the parts that the front matter of a README names; none where it names none."""
    match = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", card, re.DOTALL)
    if match is None:
        return []
    try:
        facts = yaml.safe_load(match[1])
    except (yaml.YAMLError, RecursionError) as error:
        message = f"The README.md of {base} does not say which files belong to which split: its YAML is broken."
        raise hub_problem("card", message, "Download the data set and name its files.", DATASET) from error
    configs = facts.get("configs") if isinstance(facts, dict) else None
    parts: list[Part] = []
    for config in configs if isinstance(configs, list) else []:
        if isinstance(config, dict) and "data_files" in config:
            name, default = str(config.get("config_name", "default")), config.get("default") is True
            for split, patterns in _patterns(config["data_files"]):
                files = tuple(row for row in rows if any(fnmatch.fnmatchcase(row, pattern) for pattern in patterns))
                if files:
                    parts.append(Part(name, split, files, default))
    return parts


def _patterns(data_files: Any) -> list[tuple[str, list[str]]]:
    """Return `(split, patterns)` of the three ways in which a card names files."""
    if isinstance(data_files, str):
        return [("train", [data_files])]
    if isinstance(data_files, dict):
        return [(str(split), _texts(paths)) for split, paths in data_files.items()]
    entries = data_files if isinstance(data_files, list) else []
    plain = [entry for entry in entries if isinstance(entry, str)]
    named = [
        (str(entry["split"]), _texts(entry["path"]))
        for entry in entries
        if isinstance(entry, dict) and "split" in entry and "path" in entry
    ]
    return [("train", plain), *named] if plain else named


def _texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _parts_by_name(rows: Sequence[str]) -> list[Part]:
    """Return parts by the words in the paths; `CONFIG/SPLIT/file` is how the hub lays out converted data sets."""
    in_folders = all(len(PurePosixPath(row).parts) == 3 and _folder_split(row) for row in rows)
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        config = PurePosixPath(row).parts[0] if in_folders else "default"
        found.setdefault((config, _split_of(row)), []).append(row)
    return [Part(config, split, tuple(files)) for (config, split), files in found.items()]


def _folder_split(name: str) -> str | None:
    return _SPLIT_WORDS.get(PurePosixPath(name).parts[-2].lower().removeprefix("partial-"))


def _split_of(name: str) -> str:
    words = re.split(r"[/_.\-\s]+", name.lower())
    return next((_SPLIT_WORDS[word] for word in reversed(words) if word in _SPLIT_WORDS), "train")
