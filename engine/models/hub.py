"""The one place that reaches the model hub: references to local folders, pinned, with errors in plain words."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from engine.models.hub_errors import UNREACHABLE, hub_problem
from engine.models.hub_files import Progress, fetch, missing_files
from engine.models.hub_listing import RemoteModel, ask_hub
from engine.paths import typed_path
from engine.planning.hub_facts import HubFacts, apply_hub_facts
from engine.planning.model_profile import (
    find_snapshot,
    hub_cache,
    is_hub_id,
    profile_folder,
    read_config,
    read_model_profile,
    whole_snapshot,
)
from engine.planning.profiles import Finding, ModelProfile
from engine.planning.weights import INDEX_NAME, shard_names
from engine.recipe.problems import ProblemError
from engine.runs.references import is_run_reference, run_model

__all__ = ["Progress", "ResolvedModel", "offline", "profile_model", "resolve_model"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on this machine.

    Attributes:
        folder: Where its files lie.
        revision: 40-digit commit of a hub model, None for a folder.
    """

    folder: Path
    revision: str | None = None


def offline() -> bool:
    """Return whether the person has switched the hub off."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def resolve_model(
    base: str,
    revision: str | None = None,
    *,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> ResolvedModel:
    """Return the local folder of a model, downloading what is not here yet of a hub model.

    Args:
        base: Folder, hub id, `builtin:` name or `run:ID`.
        revision: Branch, tag or commit of a hub model; the main branch when None.
        allow_code: Also fetch the Python files of the model (`model.trust_remote_code`).
        progress: Told about the download.

    Raises:
        ProblemError: No such folder or model, no access, no network, nothing that can be trained, a damaged file; with
            the next action.
    """
    if base.startswith("builtin:"):
        from engine.catalog.builtin import builtin_path

        return ResolvedModel(builtin_path(base))
    if is_run_reference(base):
        return ResolvedModel(run_model(base).folder)
    folder = typed_path(base)
    if os.path.isdir(folder):
        return ResolvedModel(folder)
    if os.path.isfile(folder):
        raise hub_problem("not_a_folder", f"{base} is a file; a model is a folder.", "Name the folder that holds it.")
    if not is_hub_id(base):
        raise hub_problem("folder_missing", f"The folder {base} does not exist.", "Check the path of the model.")
    return _from_hub(base, revision, allow_code=allow_code, progress=progress)


def _from_hub(base: str, revision: str | None, *, allow_code: bool, progress: Progress | None) -> ResolvedModel:
    pinned = revision is not None and _COMMIT.fullmatch(revision) is not None
    here = _whole_here(base, revision, allow_code=allow_code)
    if here is not None and (pinned or offline()):
        return here
    try:
        remote = ask_hub(base, revision)
    except ProblemError as error:
        if here is not None and error.problems[0].code in UNREACHABLE:
            # No network, but the files of the newest known commit are here; that commit is recorded.
            return here
        raise
    if not remote.has_weights:
        raise ProblemError(remote.without_weights())
    small = [*remote.fact_files(), *remote.papers(), *(remote.code_files() if allow_code else [])]
    folder = fetch(remote, small)
    fetch(remote, remote.weight_files(_shards(folder)), progress)
    return ResolvedModel(folder, remote.commit)


def _whole_here(base: str, revision: str | None, *, allow_code: bool) -> ResolvedModel | None:
    """Return the snapshot in the cache if nothing is missing; an interrupted download is not taken for a model."""
    folder = whole_snapshot(base, revision)
    if folder is None or (allow_code and "auto_map" in read_config(folder) and not any(folder.glob("*.py"))):
        return None
    return ResolvedModel(folder, folder.name)


def _shards(folder: Path) -> set[str] | None:
    return shard_names(folder) if (folder / INDEX_NAME).is_file() else None


def profile_model(base: str, revision: str | None = None) -> ModelProfile:
    """Return the facts of a base model; of a hub model that is not here, only its small files are fetched for that.

    Args:
        base: Folder, hub id, or `builtin:` name.
        revision: Branch, tag or commit of a hub model; the main branch when None.

    Raises:
        ProblemError: It cannot be read, found or reached, and the catalogue does not know it either.
    """
    if not is_hub_id(base) or whole_snapshot(base, revision) is not None:
        return read_model_profile(base, revision)
    try:
        return _profile_remote(ask_hub(base, revision))
    except ProblemError as error:
        known = _known_without_hub(base, revision, unreachable=error.problems[0].code in UNREACHABLE)
        if known is None:
            raise
        return known.model_copy(update={"findings": [*known.findings, *_as_findings(base, error)]})


def _profile_remote(remote: RemoteModel) -> ModelProfile:
    if remote.file("config.json") is None:
        if not remote.has_weights:
            raise ProblemError(remote.without_weights())
        fix = "Choose a language model in the layout of transformers."
        raise hub_problem("no_config", f"There is no config.json in {remote.base} on the hub.", fix)
    folder = fetch(remote, remote.fact_files())
    profile = profile_folder(folder, base=remote.base, revision=remote.commit)
    facts = HubFacts(names=remote.names, num_params=remote.num_params, dtype=remote.dtype)
    if remote.has_weights:
        weights = remote.weight_files(_shards(folder))
        facts = HubFacts(
            names=remote.names,
            weights_bytes=sum(file.size for file in weights),
            download_bytes=sum(file.size for file in missing_files(remote, weights)),
            download_folder=hub_cache(),
            num_params=remote.num_params,
            dtype=remote.dtype,
        )
    return apply_hub_facts(profile, facts)


def _known_without_hub(base: str, revision: str | None, *, unreachable: bool) -> ModelProfile | None:
    """Return facts from the catalogue, or from small files of an earlier day when the hub did not answer at all."""
    from engine.catalog.base_models import find_base_model

    earlier = unreachable and find_snapshot(hub_cache(), base, revision) is not None
    return read_model_profile(base, revision) if earlier or find_base_model(base) else None


def _as_findings(base: str, error: ProblemError) -> list[Finding]:
    """Return why the hub did not answer; a model that it refuses cannot be trained, so that stops the run."""
    problem = error.problems[0]
    if problem.code not in UNREACHABLE:
        return [Finding(code=p.code, message=p.message, fix=p.fix, path=p.path) for p in error.problems]
    message = f"{problem.message} The plan rests on what is known of {base}; the run needs its weights."
    return [Finding(code=problem.code, message=message, fix=problem.fix, path=problem.path, severity="warning")]
