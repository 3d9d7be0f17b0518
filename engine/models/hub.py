"""The one place that reaches the model hub: references to local folders, pinned, with errors in plain words."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download

# The HTTP library under the hub client has changed its name once, so its error is taken from there.
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

WANTED_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "*.tiktoken", "LICENSE*", "README.md"]
"""Never `*.bin`, `*.pt` or `*.py`: pickles run code when they are read, and so does a program."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on this machine.

    Attributes:
        folder: Where its files lie.
        revision: 40-digit commit of a hub model, None for a folder.
    """

    folder: Path
    revision: str | None = None


def resolve_model(
    base: str,
    revision: str | None = None,
    *,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> ResolvedModel:
    """Return the local folder of a model, downloading a hub model that is not here yet.

    Args:
        base: Folder, hub id, or `builtin:` name.
        revision: Branch, tag or commit of a hub model; the main branch when None.
        allow_code: Also fetch the Python files of the model (`model.trust_remote_code`).
        progress: Told about the download.

    Raises:
        ProblemError: No such folder or model, no access, no network, with the next action.
    """
    if base.startswith("builtin:"):
        from engine.catalog.builtin import builtin_path

        return ResolvedModel(builtin_path(base))
    folder = Path(base).expanduser()
    if folder.is_dir():
        return ResolvedModel(folder)
    if folder.is_file():
        raise _problem("not_a_folder", f"{base} is a file; a model is a folder.", "Name the folder that holds it.")
    if not _HUB_ID.fullmatch(base) or base.startswith((".", "/", "~")):
        raise _problem("folder_missing", f"The folder {base} does not exist.", "Check the path of the model.")
    return _from_hub(base, revision, allow_code=allow_code, progress=progress)


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(f"model.{code}", clean_line(message), clean_line(fix), path="model.base"))


def _from_hub(base: str, revision: str | None, *, allow_code: bool, progress: Progress | None) -> ResolvedModel:
    pinned = revision is not None and _COMMIT.fullmatch(revision) is not None
    cached = _cached(base, revision)
    if cached is not None and (pinned or offline()):
        return cached
    patterns = [*WANTED_FILES, "*.py"] if allow_code else WANTED_FILES
    try:
        commit = HfApi().model_info(base, revision=revision).sha
        folder = snapshot_download(
            base, revision=commit, allow_patterns=patterns, tqdm_class=_bar(progress) if progress else None
        )
    except (HTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        unreachable = isinstance(error, HTTPError) and not isinstance(error, HfHubHTTPError)
        if unreachable and cached is not None:
            # No network, but the files of the newest known commit are here; that commit is recorded.
            return cached
        raise _explained(base, revision, error) from error
    return ResolvedModel(Path(folder), commit)


def _cached(base: str, revision: str | None) -> ResolvedModel | None:
    """Return the snapshot in the cache, if it holds weights; an interrupted download is not taken for a model."""
    try:
        folder = Path(snapshot_download(base, revision=revision, local_files_only=True, allow_patterns=WANTED_FILES))
    except (LocalEntryNotFoundError, OSError, HFValidationError):
        return None
    if not any(folder.glob("*.safetensors")):
        return None
    return ResolvedModel(folder, folder.name if _COMMIT.fullmatch(folder.name) else None)


def offline() -> bool:
    """Return whether the person has switched the hub off."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _explained(base: str, revision: str | None, error: Exception) -> ProblemError:
    if isinstance(error, GatedRepoError):
        return _problem(
            "gated",
            f"{base} asks for consent to its licence before it can be downloaded.",
            f"Accept it at huggingface.co/{base}, then run: hf auth login.",
        )
    if isinstance(error, RevisionNotFoundError):
        return _problem("no_revision", f"{base} has no revision {revision!r}.", "Check model.revision.")
    if isinstance(error, RepositoryNotFoundError):
        fix = "Check the spelling; for a private model run: hf auth login. For a folder write its whole path."
        return _problem("not_found", f"There is no folder and no hub model called {base}.", fix)
    if isinstance(error, OfflineModeIsEnabled) or offline():
        fix = "Unset HF_HUB_OFFLINE, name a local folder, or take builtin:starter."
        return _problem("offline", f"{base} is not on this machine and the model hub is switched off.", fix)
    if isinstance(error, OSError) and error.errno == 28:
        return _problem("disk_full", f"The disk is full while downloading {base}.", "Free space, or set HF_HOME.")
    reason = clean_line(str(error).split("\n", 1)[0], max_chars=200)
    fix = "Check the connection and start again; the download continues where it stopped. Or name a local folder."
    return _problem("download_failed", f"{base} could not be downloaded: {reason}.", fix)


def _bar(progress: Progress) -> type[Any]:
    """Return a progress bar class that tells `progress` instead of a terminal."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Told(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": open(os.devnull, "w")})  # noqa: SIM115

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            if self.unit == "B":
                progress(int(self.n), int(self.total or 0))
            return shown

    return Told
