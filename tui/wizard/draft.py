"""The draft: what the person has answered so far, as pure state, and its file.

The wizard's screen shows a draft and reduces every answer to a new one. A draft holds only what was typed and chosen;
defaults and derived values are computed from it, so that an old draft never pins an old default.
"""

import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engine.recipe.problems import Problem, ProblemError
from engine.recipe.sources import Layered, Source, flatten, lay, unflatten

StepName = Literal["objective", "model", "data", "xray", "method", "settings", "review"]
STEPS: tuple[StepName, ...] = ("objective", "model", "data", "xray", "method", "settings", "review")
STEP_TITLES: dict[StepName, str] = {
    "objective": "Objective",
    "model": "Model",
    "data": "Data",
    "xray": "X-ray",
    "method": "Method",
    "settings": "Settings",
    "review": "Review",
}

DRAFT_VERSION = 1
DRAFT_GLOB = "wizard-*.json"
KEPT_DRAFTS = 5

_OWN_STEP = {
    "objective": "objective",
    "model.base": "model",
    "data.source": "data",
    "data.format": "data",
    "data.mapping": "data",
    "data.allow_all_trained": "xray",
    "method.name": "method",
}
_ASKED: dict[str, StepName] = {"objective": "objective", "model.base": "model", "data.source": "data"}


def step_of(path: str) -> StepName:
    """Return the step on which a recipe path is answered; the review for findings about no field."""
    if not path:
        return "review"
    for prefix, step in _OWN_STEP.items():
        if path == prefix or path.startswith(prefix + "."):
            return step  # type: ignore[return-value]
    return "settings"


@dataclass(frozen=True, slots=True)
class Draft:
    """Answers given so far.

    Attributes:
        you: `{dotted recipe path: value}` set by the person, as typed or chosen.
        preset: Name of the preset laid under the answers; empty for none.
        preset_values: `{dotted recipe path: value}` of that preset.
        step: Step that was open last.
        visited: Steps that were opened.
        draft_id: Names the draft's file; one per wizard.
        saved_at: Unix seconds of the last save.
        taken: Paths whose answers came with the option of the plan that was taken last; another one takes them back.
        replaced: The person's own answers that this option replaced; they come back with the next one.
        follows: Name of the finished run that this one goes on from; empty for none.
    """

    you: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    preset_values: Mapping[str, Any] = field(default_factory=dict)
    step: StepName = "objective"
    visited: frozenset[StepName] = frozenset()
    draft_id: str = ""
    saved_at: float = 0.0
    taken: frozenset[str] = frozenset()
    replaced: Mapping[str, Any] = field(default_factory=dict)
    follows: str = ""

    def value(self, path: str, default: Any = None) -> Any:
        """Return the answer at `path`, the preset's value, or `default`."""
        if path in self.you:
            return self.you[path]
        return self.preset_values.get(path, default)

    def source(self, path: str) -> Source:
        """Return where the value at `path` comes from."""
        if path in self.you:
            return Source("you")
        if path in self.preset_values:
            return Source("preset", self.preset)
        return Source("default")

    def with_value(self, path: str, value: Any) -> "Draft":
        """Return the draft with one answer set by the person."""
        return self.with_values({path: value})

    def with_values(self, changes: Mapping[str, Any]) -> "Draft":
        """Return the draft with answers set by the person."""
        return replace(self._released(*changes), you={**self.you, **changes})

    def taking(self, changes: Mapping[str, Any]) -> "Draft":
        """Return the draft with the answers of an option, without those of the option taken before."""
        before = self.untaken()
        replaced = {path: before.you[path] for path in changes if path in before.you}
        return replace(before, you={**before.you, **changes}, taken=frozenset(changes), replaced=replaced)

    def untaken(self) -> "Draft":
        """Return the draft as it was before an option was taken, with what the person answered since."""
        kept = {path: value for path, value in self.you.items() if path not in self.taken}
        return replace(self, you={**kept, **self.replaced}, taken=frozenset(), replaced={})

    def without(self, *paths: str) -> "Draft":
        """Return the draft with the person's answers at `paths` taken back."""
        kept = {path: value for path, value in self.you.items() if path not in paths}
        return replace(self._released(*paths), you=kept)

    def unanswered(self, path: str) -> "Draft":
        """Return the draft as if neither the person nor the preset had answered `path`."""
        rest = {name: value for name, value in self.preset_values.items() if name != path}
        return replace(self.without(path), preset_values=rest)

    def _released(self, *paths: str) -> "Draft":
        """Return the draft in which the answers at `paths` belong to no option any more."""
        replaced = {path: value for path, value in self.replaced.items() if path not in paths}
        return replace(self, taken=self.taken - set(paths), replaced=replaced)

    def at_step(self, step: StepName) -> "Draft":
        """Return the draft with `step` open."""
        return replace(self, step=step, visited=self.visited | {step})

    @property
    def layered(self) -> Layered:
        """The recipe dictionary with the source of each value."""
        return lay(unflatten(self.you), preset=unflatten(self.preset_values), preset_name=self.preset)

    @property
    def first_open(self) -> StepName:
        """The first step that still asks for an answer; the review where all that must be said is said."""
        asked = (step for path, step in _ASKED.items() if not self.value(path))
        return next(asked, "review")

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost by forgetting this draft."""
        return not self.you


def new_draft(
    *,
    preset: str = "",
    preset_tree: Mapping[str, Any] | None = None,
    you: Mapping[str, Any] | None = None,
    follows: str = "",
) -> Draft:
    """Return a fresh draft, over a preset's tree and with answers already given.

    Args:
        preset: Name of the preset.
        preset_tree: Nested recipe dictionary of the preset.
        you: Nested recipe dictionary of answers.
        follows: Name of the finished run that this one goes on from.
    """
    draft_id = f"{time.time_ns():x}-{os.getpid():x}"
    return Draft(flatten(you or {}), preset, flatten(preset_tree or {}), draft_id=draft_id, follows=follows)


def draft_to_json(draft: Draft) -> dict[str, Any]:
    """Return the draft as a JSON-ready dictionary."""
    return {
        "version": DRAFT_VERSION,
        "you": dict(draft.you),
        "preset": draft.preset,
        "preset_values": dict(draft.preset_values),
        "step": draft.step,
        "visited": [step for step in STEPS if step in draft.visited],
        "draft_id": draft.draft_id,
        "saved_at": draft.saved_at,
        "taken": sorted(draft.taken),
        "replaced": dict(draft.replaced),
        "follows": draft.follows,
    }


def draft_from_json(document: Any) -> Draft:
    """Return the draft of a JSON document.

    Raises:
        ProblemError: The document is not a draft of this version.
    """
    match document:
        case {
            "version": 1,
            "you": dict() as you,
            "preset": str() as preset,
            "preset_values": dict() as preset_values,
            "step": str() as step,
            "visited": list() as visited,
            "draft_id": str() as draft_id,
            "saved_at": int() | float() as saved_at,
        } if step in STEPS and all(name in STEPS for name in visited) and "/" not in draft_id:
            taken = _known_paths(document.get("taken"), you)
            replaced = document.get("replaced")
            kept = {path: replaced[path] for path in taken if path in replaced} if isinstance(replaced, dict) else {}
            follows = str(document.get("follows") or "")
            return Draft(you, preset, preset_values, step, frozenset(visited), draft_id, saved_at, taken, kept, follows)
    raise ProblemError(Problem("draft.damaged", "The draft is damaged or from another version.", "Start a new run."))


def _known_paths(paths: Any, you: Mapping[str, Any]) -> frozenset[str]:
    """Return the taken paths of a draft's file; drafts of before there were any have none."""
    known = paths if isinstance(paths, list) else []
    return frozenset(path for path in known if isinstance(path, str) and path in you)


def save_draft(draft: Draft, folder: Path) -> Path:
    """Write the draft atomically and return its file.

    Args:
        draft: What to save; its `saved_at` is set to now in the file.
        folder: The drafts folder; made when missing.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = folder / f"wizard-{draft.draft_id}.json"
    text = json.dumps(draft_to_json(replace(draft, saved_at=time.time())), indent=1)
    handle, staging = tempfile.mkstemp(dir=folder, prefix=".wizard-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staging, target)
    except BaseException:
        Path(staging).unlink(missing_ok=True)
        raise
    _forget_old(folder)
    return target


def forget_draft(draft: Draft, folder: Path) -> None:
    """Delete the draft's file; a run was made of it or the person asked for it."""
    (folder / f"wizard-{draft.draft_id}.json").unlink(missing_ok=True)


def _forget_old(folder: Path) -> None:
    for path in _newest_first(folder)[KEPT_DRAFTS:]:
        path.unlink(missing_ok=True)


def _newest_first(folder: Path) -> list[Path]:
    ages: list[tuple[float, Path]] = []
    for path in folder.glob(DRAFT_GLOB):
        try:
            ages.append((path.stat().st_mtime, path))
        except OSError:  # Another wizard removed it between the listing and the look.
            continue
    return [path for _, path in sorted(ages, key=lambda item: item[0], reverse=True)]


@dataclass(frozen=True, slots=True)
class FoundDraft:
    """The newest draft of a folder, and how many newer files could not be read."""

    draft: Draft | None
    num_damaged: int = 0


def newest_draft(folder: Path) -> FoundDraft:
    """Return the newest readable draft of `folder`, if there is one."""
    num_damaged = 0
    for path in _newest_first(folder):
        try:
            draft = draft_from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError, ProblemError):
            num_damaged += 1
            continue
        if not draft.is_empty:
            return FoundDraft(draft, num_damaged)
    return FoundDraft(None, num_damaged)
