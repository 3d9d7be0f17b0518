"""Facts of a base model from its files: a folder, a snapshot in the hub cache, what is built in, or the catalogue."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from engine.catalog.base_models import find_base_model
from engine.catalog.builtin import builtin_path
from engine.paths import typed_path
from engine.planning.known_classes import causal_families
from engine.planning.model_folder import (
    already_quantized,
    profile_folder,
    read_config,
)
from engine.planning.profiles import Finding, ModelProfile
from engine.planning.tokenizer_facts import read_tokenizer_facts
from engine.planning.weights import read_weights
from engine.recipe.problems import Problem, ProblemError
from engine.runs.references import RunModel, is_run_reference, run_model
from engine.text import clean_line

__all__ = [
    "already_quantized",
    "causal_families",
    "find_snapshot",
    "hub_cache",
    "is_hub_id",
    "profile_folder",
    "read_config",
    "read_model_profile",
    "whole_snapshot",
]

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")


def read_model_profile(base: str, revision: str | None = None) -> ModelProfile:
    """Return the facts of a base model without loading or downloading anything.

    Args:
        base: Folder, hub id, `builtin:starter` or `run:ID`, as in a recipe.
        revision: Branch, tag or commit of a hub model.

    Raises:
        ProblemError: There is no such folder, its `config.json` is missing or unusable, or a hub model is neither on
            this machine nor in the catalogue.
    """
    if base.startswith("builtin:"):
        return profile_folder(builtin_path(base), base=base)
    if is_run_reference(base):
        return _of_run(run_model(base))
    folder = typed_path(base)
    if os.path.isdir(folder):
        return profile_folder(folder, base=base)
    if not _HUB_ID.match(base):
        raise ProblemError(_no_folder(base, folder))
    if snapshot := find_snapshot(hub_cache(), base, revision):
        return profile_folder(snapshot, base=base, revision=snapshot.name)
    return _from_catalogue(base, revision)


def _of_run(found: RunModel) -> ModelProfile:
    """Return the facts of the model that a run has left, and where it comes from."""
    plan = found.run.read_plan()
    message = (
        f"It starts from the run {clean_line(found.run.folder_name, max_chars=120)} ({plan.recipe.objective}, from "
        f"{clean_line(plan.model.base, max_chars=120)})."
    )
    note = Finding(code="model.from_run", message=message, path="model.base", severity="note")
    profile = profile_folder(found.folder, base=found.reference)
    return profile.model_copy(update={"from_run": found.run.run_id, "findings": [*profile.findings, note]})


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(code, message, fix, "model.base"))


def _no_folder(base: str, folder: Path) -> Problem:
    name = clean_line(base, max_chars=160)
    if os.path.exists(folder):
        return Problem(
            "model.not_a_folder",
            f"{name} is a file; a base model is a folder.",
            "Give the folder that holds config.json and the safetensors files.",
            "model.base",
        )
    return Problem(
        "model.folder_missing",
        f"There is no folder {name}.",
        "Check the path, or give a hub id such as Qwen/Qwen3-0.6B, or builtin:starter.",
        "model.base",
    )


def _from_catalogue(base: str, revision: str | None) -> ModelProfile:
    card = find_base_model(base)
    if card is not None:
        return card.profile.model_copy(update={"revision": revision if _COMMIT.match(revision or "") else None})
    raise _problem(
        "model.unknown",
        f"{clean_line(base, max_chars=160)} is not on this machine, and the catalogue does not know it.",
        "Check the spelling; with a connection its configuration can be downloaded, "
        "or give the folder of a model that is already here.",
    )


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder where huggingface_hub keeps models, by its own rules."""
    if chosen := environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE"):
        return typed_path(chosen)
    cache_home = environment.get("XDG_CACHE_HOME") or "~/.cache"
    home = environment.get("HF_HOME") or f"{cache_home}/huggingface"
    return typed_path(home) / "hub"


def find_snapshot(cache_folder: Path, base: str, revision: str | None) -> Path | None:
    """Return the folder of a downloaded hub model, or None.

    Args:
        cache_folder: A folder as huggingface_hub lays it out: `models--OWNER--NAME/{refs,snapshots}`.
        base: Hub id.
        revision: Branch, tag or commit; `main` when None.
    """
    folder = cache_folder / ("models--" + base.replace("/", "--"))
    wanted = revision or "main"
    if ".." in wanted or wanted.startswith("/"):
        return None
    try:
        commit = wanted if _COMMIT.match(wanted) else (folder / "refs" / wanted).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        # No such branch, or a name that cannot be one: a null byte, half a character.
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if _COMMIT.match(commit) and (snapshot / "config.json").is_file() else None


def is_hub_id(base: str) -> bool:
    """Return whether a base model can only be a hub model: it has the form of an id, and no folder or file is there."""
    return bool(_HUB_ID.match(base)) and not os.path.exists(typed_path(base))


def whole_snapshot(base: str, revision: str | None = None) -> Path | None:
    """Return the snapshot of a hub model in the cache when weights and tokenizer are all there, else None."""
    snapshot = find_snapshot(hub_cache(), base, revision)
    if snapshot is None or not read_weights(snapshot).whole:
        return None
    return snapshot if read_tokenizer_facts(snapshot, {}).present else None
