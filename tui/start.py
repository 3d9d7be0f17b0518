"""Where the screens start, and what the app leaves behind. No Textual here: the command line imports it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Home:
    """Start at runs and presets."""


@dataclass(frozen=True, slots=True)
class Wizard:
    """Start in the wizard.

    Attributes:
        preset: Name of a preset that is laid under the answers; empty for none.
        recipe: Nested recipe dictionary with answers already given.
        at_review: Open the review instead of the first step.
    """

    preset: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    at_review: bool = False


@dataclass(frozen=True, slots=True)
class Monitor:
    """Start in the monitor of one run.

    Attributes:
        run_path: Run directory.
        leave_when_done: End the app when the run has ended.
    """

    run_path: Path
    leave_when_done: bool = False


StartPoint = Home | Wizard | Monitor


@dataclass(frozen=True, slots=True)
class AppResult:
    """What the app says when it ends.

    Attributes:
        exit_code: For the shell; 128 + n after signal n.
        run_path: The run shown last, so that the command line can say how to attach; None when there was none.
    """

    exit_code: int = 0
    run_path: Path | None = None
