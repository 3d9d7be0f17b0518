"""The base of all sections of a recipe."""

from typing import Any

from pydantic import BaseModel, ConfigDict

ADVANCED: dict[str, Any] = {"level": "advanced"}


def why(reason: str, *, level: str = "basic", group: str = "") -> dict[str, Any]:
    """Return what a form shows of a default: its reason, whether it is folded away (`advanced`), and its group."""
    return {"why": reason, "level": level} | ({"group": group} if group else {})


class Section(BaseModel):
    """Base of all recipe sections: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
