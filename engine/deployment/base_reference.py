"""How an exported adapter and its card name the base model, without telling where it lay on this machine."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.catalog.builtin import is_builtin
from engine.planning.profiles import ModelProfile

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class BaseReference:
    """The base model as others may call it.

    Attributes:
        kind: `hub` loads anywhere by name, `builtin` where ftwizard is installed, `folder` needs the person's copy.
        name: Hub id, `builtin:...` name or name of the folder.
        revision: Commit of a hub model.
    """

    kind: Literal["hub", "builtin", "folder"]
    name: str
    revision: str | None = None


def base_reference(profile: ModelProfile) -> BaseReference:
    """Return how to name the base model of a plan."""
    base = profile.base
    if is_builtin(base):
        return BaseReference("builtin", base)
    if profile.revision or (_HUB_ID.fullmatch(base) and not Path(base).exists()):
        return BaseReference("hub", base, profile.revision)
    return BaseReference("folder", Path(base.rstrip("/")).name or "base-model")
