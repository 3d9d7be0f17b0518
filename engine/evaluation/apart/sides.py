"""What is held against each other: runs and models, each with what is known of it."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.evaluation.apart.subject import find_subject, run_meant, vocabulary_hash
from engine.evaluation.measurement import load_measurement
from engine.evaluation.report_data import memory_facts, model_facts, training_facts
from engine.planning.plan import Plan
from engine.recipe.problems import ProblemError
from engine.recipe.sources import flatten
from engine.runs.directory import RunDirectory, find_run
from engine.runs.home import home_folders
from engine.runs.liveness import is_alive, status
from engine.runs.picture import open_picture
from engine.runs.references import PREFIX, is_run_reference, reference_to

LETTERS = "ABCDEF"
_DEEPEST = 20
_LEFT_OUT = ("name",)
"""Settings that decide nothing."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One measurement on some rows.

    Attributes:
        measurement: As `load_measurement` gives it.
        sha256: Hash over the rows that it was taken on.
    """

    measurement: dict[str, Any]
    sha256: str


@dataclass(slots=True)
class Side:
    """A run or a model.

    Attributes:
        letter: What tables call it.
        reference: What was typed.
        name: What it is called.
        run: The run; None for a model.
        plan: Its plan.
        facts: What came of the run; empty for a model.
        parents: References of the runs that it started from, the nearest first.
        vocabulary: Hash over what cuts text into tokens; empty where nobody knows.
        rows: `{kind of rows: measurement}`.
        remarks: What was said of its measurement on a file.
    """

    letter: str
    reference: str
    name: str
    run: RunDirectory | None = None
    plan: Plan | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    parents: list[str] = field(default_factory=list)
    vocabulary: str = ""
    rows: dict[str, Rows] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """Every value of the plan's recipe."""
        if self.plan is None:
            return {}
        flat = flatten(self.plan.recipe.model_dump(mode="json")) | {"model.base": self.plan.model.base}
        return {path: value for path, value in flat.items() if path not in _LEFT_OUT}

    def to_json(self) -> dict[str, Any]:
        """Return what a document says of it."""
        return {
            "letter": self.letter,
            "reference": self.reference,
            "name": self.name,
            "kind": "model" if self.run is None else "run",
            "started_from": self.parents,
            "remarks": self.remarks,
            **self.facts,
        }


def find_sides(references: Sequence[str]) -> list[Side]:
    """Return the sides that a person names.

    Raises:
        ProblemError: There is no such run or model, or the plan of a run cannot be read.
    """
    return [_side(letter, reference) for letter, reference in zip(LETTERS, references, strict=False)]


def _side(letter: str, reference: str) -> Side:
    run = run_meant(reference)
    if run is None:
        subject = find_subject(reference)
        if subject.run is None:
            vocabulary = vocabulary_hash(filter(None, (subject.adapter, subject.folder)))
            return Side(letter, subject.reference, subject.name, vocabulary=vocabulary)
        run = subject.run
    plan = run.read_plan()
    side = Side(letter, reference_to(run), run.folder_name, run, plan, _facts(run, plan), list(_parents(plan)))
    base = [Path(plan.model.folder)] if plan.model.folder else []
    side.vocabulary = vocabulary_hash([run.adapter_folder, run.merged_folder, *base])
    for kind, phase, file in (("held-out", "after", run.held_out_file), ("test", "test", run.test_file)):
        if (found := _measured(run, phase)) is not None and file.is_file():
            side.rows[kind] = Rows(found, _hash_of(file))
    return side


def _measured(run: RunDirectory, phase: str) -> dict[str, Any] | None:
    try:
        return load_measurement(run.evaluation_folder / f"{phase}.json")
    except ValueError:
        return None


def _hash_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _facts(run: RunDirectory, plan: Plan) -> dict[str, Any]:
    picture, _ = open_picture(run)
    return {
        "run_id": run.run_id,
        "state": picture.state if is_alive(run) else status(run).state,
        "objective": plan.recipe.objective,
        "method": plan.recipe.method.name,
        "base": plan.model.base,
        "data": {"source": plan.recipe.data.sources(), "sha256": plan.data.sha256, "num_train": plan.data.num_train},
        "training": training_facts(plan, picture),
        "memory": memory_facts(plan, picture),
        "model": model_facts(run, plan, picture),
    }


def _parents(plan: Plan) -> Iterator[str]:
    """Yield the runs that a run started from, the nearest first; one that is gone is the last."""
    for _ in range(_DEEPEST):
        # The recipe of a plan names the folder of that run's model.
        base = plan.model.base
        if not is_run_reference(base):
            return
        try:
            run = find_run(home_folders(), base.removeprefix(PREFIX))
            yield reference_to(run)
            plan = run.read_plan()
        except ProblemError:
            yield f"{PREFIX}{Path(base.removeprefix(PREFIX)).name}"
            return
