"""What somebody wants measured, and the recipe that carries it out with the examiners of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.catalog.objectives import Objective
from engine.data.formats import columns_of
from engine.data.source_facts import first_rows
from engine.evaluation.apart.subject import Subject
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import CleaningSection, DataSection

DEFAULT_ROWS = 500
GENERATE_ROWS = 100
"""Rows that are answered where nobody says how many: writing takes far longer than reading."""
MAX_LENGTH = 2048
"""Longest sequence: the same for every model whose context has the room, so that their rows are cut alike."""
BATCH_TOKENS = 8192
SEED = 17


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for.

    Attributes:
        model: As `engine.evaluation.apart.subject.find_subject` reads it.
        data: Data section of a recipe: the file, and what was said about reading it.
        objective: Name; None to find it.
        metrics: Names; empty for all that fit.
        max_rows: Most rows; None for `DEFAULT_ROWS` to be read, of which `GENERATE_ROWS` are answered.
        again: Measure also what was measured before.
    """

    model: str
    data: Mapping[str, Any]
    objective: str | None = None
    metrics: tuple[str, ...] = ()
    max_rows: int | None = None
    again: bool = False

    @property
    def read_rows(self) -> int:
        """Most rows that are read."""
        return self.max_rows or DEFAULT_ROWS

    @property
    def answered_rows(self) -> int:
        """Most rows that are answered."""
        return self.max_rows or GENERATE_ROWS


def data_section(wish: Wish, subject: Subject) -> DataSection:
    """Return how the file is read: whole, nothing cleaned, equal rows kept; as the model's run read its own if it can.

    Raises:
        ProblemError: The file is missing or broken.
    """
    untouched = {name: "off" for name in CleaningSection.model_fields if name != "leaked_rows"}
    tree = {**wish.data, "drop_duplicates": False, "cleaning": untouched}
    section = DataSection.model_validate(tree)
    own = subject.data
    if own is None or not own.mapping or section.mapping or section.format is not None:
        return section
    if not set(own.mapping.values()) <= set(columns_of(first_rows(section))):
        return section
    return section.model_copy(update={"mapping": own.mapping, "format": own.format})


def recipe_of(wish: Wish, subject: Subject, objective: Objective, data: DataSection, metrics: list[str]) -> Recipe:
    """Return the recipe of a measurement, its length and its batches filled in."""
    length = min(subject.context_length, MAX_LENGTH)
    own = subject.data.system_prompt if subject.data is not None else None
    if data.system_prompt is None and own is not None and objective.converses:
        data = data.model_copy(update={"system_prompt": own})
    tree: dict[str, Any] = {
        "objective": objective.name,
        "model": {"base": str(subject.folder), "trust_remote_code": subject.trust},
        "data": data,
        "training": {"max_length": length, "micro_batch": max(1, BATCH_TOKENS // length), "seed": SEED},
        "evaluation": {"metrics": metrics, "max_rows": wish.read_rows, "generate_rows": wish.answered_rows},
        "text_to_text": {"prefix": subject.prefix or None},
        # Rewards without a reference: the mean log-probability of an answer's tokens.
        "preference": {"loss": "simpo"},
    }
    return Recipe.model_validate(tree)
