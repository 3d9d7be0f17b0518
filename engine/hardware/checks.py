"""One thing the doctor looked at."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "error"]
Group = Literal["Software", "GPUs", "Machine", "Folders", "Session"]
GROUPS: tuple[Group, ...] = ("Software", "GPUs", "Machine", "Folders", "Session")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        name: Stable short name.
        status: `error` stops every run, `warning` some of them or costs speed.
        value: What was found.
        fix: The next action; empty when there is none to take.
        group: What it belongs to.
        details: More facts, one line each.
    """

    name: str
    status: Status
    value: str
    fix: str = ""
    group: Group = "Machine"
    details: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the check as a JSON-ready dictionary."""
        return {**asdict(self), "details": list(self.details)}


def listed(words: Iterable[str]) -> str:
    """Return words as a list for people: `a, b and c`."""
    found = list(words)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}" if found else ""
