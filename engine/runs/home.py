"""Where runs, caches and drafts live."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.paths import typed_path

HOME_VARIABLE = "FTWIZARD_HOME"


@dataclass(frozen=True, slots=True)
class HomeFolders:
    """Folders of one user; none of them needs to exist yet (`disk.private_folder` makes one).

    Attributes:
        runs: One folder for each run.
        cache: What can be made again.
        drafts: Unfinished recipes of the wizard.
    """

    runs: Path
    cache: Path
    drafts: Path


def home_folders(environment: Mapping[str, str] | None = None) -> HomeFolders:
    """Return the folders of runs, caches and drafts; touches no disk.

    Args:
        environment: Variables to read; those of this process when None.
    """
    variables = os.environ if environment is None else environment
    chosen = variables.get(HOME_VARIABLE, "").strip()
    if chosen:
        home = typed_path(chosen).absolute()
        return HomeFolders(home / "runs", home / "cache", home / "drafts")
    user = Path(variables.get("HOME") or Path.home())
    state = _xdg_folder(variables, "XDG_STATE_HOME", user / ".local/state") / "ftwizard"
    cache = _xdg_folder(variables, "XDG_CACHE_HOME", user / ".cache") / "ftwizard"
    return HomeFolders(state / "runs", cache, state / "drafts")


def _xdg_folder(variables: Mapping[str, str], name: str, default: Path) -> Path:
    # The XDG specification: a relative path is invalid and ignored.
    value = Path(variables.get(name) or ".")
    return value if value.is_absolute() else default
