"""Presets: recipes with holes, shipped with ftwizard or kept by the person. Imports no pydantic, to be quick."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import presets
from engine.paths import typed_path
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.sources import flatten
from engine.recipe.text_file import read_text
from engine.text import clean_line

HEADER = "preset"
HEADER_TEXTS = ("title", "summary", "needs")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ORDER = (
    "quickstart",
    "chat-lora",
    "qlora-8b-24gb",
    "full-small",
    "classify",
    "tag-words",
    "summarise-t5",
    "domain-adaptation",
    "domain-adaptation-encoder",
    "prefer",
    "reward-model",
)
"""Shipped presets in the order of their use; others follow by name."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe with holes.

    Attributes:
        name: What `ftwizard run NAME` takes.
        title: A few words for lists.
        summary: What it does, one sentence.
        needs: What machine and data it wants.
        holes: Paths that the person must fill.
        tree: Nested dictionary of the values that it sets.
        builtin: Shipped with ftwizard, not the person's own.
    """

    name: str
    title: str
    summary: str
    needs: str
    holes: tuple[str, ...]
    tree: dict[str, Any]
    builtin: bool


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    path: Path
    builtin: bool


def list_presets(folder: Path | None = None) -> list[Preset]:
    """Return the presets that can be read: the shipped ones first, then the person's own by name.

    Args:
        folder: Folder of the person's own presets; `user_presets_folder()` when None.
    """
    return [preset for preset in map(_readable, _sources(folder)) if isinstance(preset, Preset)]


def broken_presets(folder: Path | None = None) -> list[Problem]:
    """Return why files in the person's folder are no presets; empty when all are.

    Args:
        folder: Folder of the person's own presets; `user_presets_folder()` when None.
    """
    found = [
        problem for outcome in map(_readable, _sources(folder)) if isinstance(outcome, list) for problem in outcome
    ]
    return [*found, *_misnamed(folder)]


def find_preset(name: str, folder: Path | None = None) -> Preset:
    """Return the preset of this name.

    Args:
        name: Name of a preset.
        folder: Folder of the person's own presets; `user_presets_folder()` when None.

    Raises:
        ProblemError: No preset has this name, or its file is broken.
    """
    sources = {source.name: source for source in _sources(folder)}
    if name in sources:
        return _read(sources[name])
    from difflib import get_close_matches

    close = get_close_matches(name, sources, n=1, cutoff=0.5)
    raise ProblemError(
        Problem(
            "preset.unknown",
            f"There is no preset {clean_line(name, max_chars=80)}.",
            f"Did you mean {close[0]}?" if close else f"There are: {', '.join(sources)}.",
        )
    )


def user_presets_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the person's own presets; it need not exist.

    `$FTWIZARD_HOME/presets`, else `ftwizard/presets` in the configuration folder of the XDG specification.

    Args:
        environment: Variables to read; those of this process when None.
    """
    variables = os.environ if environment is None else environment
    home = variables.get("FTWIZARD_HOME", "").strip()
    if home:
        return typed_path(home).absolute() / "presets"
    configuration = Path(variables.get("XDG_CONFIG_HOME") or ".")
    if not configuration.is_absolute():
        configuration = Path(variables.get("HOME") or Path.home()) / ".config"
    return configuration / "ftwizard" / "presets"


def _sources(folder: Path | None) -> list[_Source]:
    shipped = {path.stem: path for path in _shipped_files()}
    names = [name for name in ORDER if name in shipped] + sorted(set(shipped) - set(ORDER))
    own = [path for path in _own_files(folder) if NAME_PATTERN.fullmatch(path.stem) and path.stem not in shipped]
    return [
        *(_Source(name, shipped[name], True) for name in names),
        *(_Source(path.stem, path, False) for path in own),
    ]


def _shipped_files() -> Iterator[Path]:
    # Not importlib.resources: it costs more to import than all presets to read, and wheels are installed as folders.
    return Path(presets.__file__).parent.glob("*.yaml")


def _own_files(folder: Path | None) -> list[Path]:
    place = user_presets_folder() if folder is None else folder
    return sorted(place.glob("*.yaml")) if place.is_dir() else []


def _misnamed(folder: Path | None) -> list[Problem]:
    shipped = {path.stem for path in _shipped_files()}
    problems = []
    for path in _own_files(folder):
        shown = clean_line(path)
        if path.stem in shipped:
            message = f"{shown} has the name of a shipped preset and is left out."
            problems.append(Problem("preset.name_taken", message, "Rename the file.", severity="warning"))
        elif not NAME_PATTERN.fullmatch(path.stem):
            message = f"{shown} is left out: its name is no preset name."
            fix = "Use small letters, digits and hyphens, at most 63, such as my-preset.yaml."
            problems.append(Problem("preset.name", message, fix, severity="warning"))
    return problems


def _readable(source: _Source) -> Preset | list[Problem]:
    try:
        return _read(source)
    except ProblemError as error:
        return list(error.problems)


def _read(source: _Source) -> Preset:
    # PyYAML costs 18 ms, which `ftwizard --help` need not pay.
    from engine.recipe.strict_yaml import parse_document

    name = str(source.path)
    tree = parse_document(read_text(source.path, what="preset"), name=name).value
    if not isinstance(tree, dict) or not isinstance(tree.get(HEADER), dict):
        raise _header_problem(name, "it has no section preset with title, summary and needs")
    header = tree.pop(HEADER)
    _check_header(name, header)
    holes = tuple(header.get("holes") or ())
    _check_holes(name, holes, tree)
    _refuse_remote_code(name, tree)
    title, summary, needs = (clean_line(header[key]) for key in HEADER_TEXTS)
    return Preset(source.name, title, summary, needs, holes, tree, source.builtin)


def _check_header(name: str, header: dict[str, Any]) -> None:
    unknown = [key for key in header if key not in (*HEADER_TEXTS, "holes")]
    if unknown:
        raise _header_problem(name, f"{clean_line(unknown[0], max_chars=60)} is no key of its section preset")
    for key in HEADER_TEXTS:
        if not isinstance(header.get(key), str) or not header[key].strip():
            raise _header_problem(name, f"its section preset has no text {key}")
    holes = header.get("holes")
    if holes is not None and not (isinstance(holes, list) and all(isinstance(hole, str) for hole in holes)):
        raise _header_problem(name, "preset.holes is no list of paths, such as [data.source]")


def _check_holes(name: str, holes: tuple[str, ...], tree: dict[str, Any]) -> None:
    filled = [hole for hole in holes if flatten(tree).get(hole) is not None]
    if filled:
        raise _header_problem(name, f"it sets {clean_line(filled[0], max_chars=60)}, which it also calls a hole")


def _refuse_remote_code(name: str, tree: dict[str, Any]) -> None:
    # Consent to run a model's code is the person's own, for one model; a file from somebody else cannot give it.
    if flatten(tree).get("model.trust_remote_code"):
        raise ProblemError(
            Problem(
                "preset.remote_code",
                f"{clean_line(name)}: a preset may not allow code from a model.",
                "Remove model.trust_remote_code from the preset and set it for the run.",
                "model.trust_remote_code",
            )
        )


def _header_problem(name: str, cause: str) -> ProblemError:
    fix = "Put a section preset with title, summary, needs and holes at the top of the file."
    return ProblemError(Problem("preset.header", f"{clean_line(name)} is no preset: {cause}.", fix))
