"""What a model is asked to give out in a run: its head, and the names of what it tells apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.catalog.objectives import Head, ModelKind, Signal, find_objective


@dataclass(frozen=True, slots=True)
class Task:
    """The task of one run, decided by objective, kind of model and data.

    Attributes:
        signal: What the loss is taken from.
        head: What the model gives out.
        labels: Names of classes or tags, in the order of their numbers; empty for other tasks.
        multi_label: A text can have several classes, or none.
        prefix: Words in front of each text that is turned into another.
    """

    signal: Signal = "answers"
    head: Head = "causal-lm"
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    prefix: str = ""

    @property
    def num_outputs(self) -> int:
        """Numbers that the head gives out for a text or a word: one for a reward, else one for each label."""
        return 1 if self.signal == "rewards" else len(self.labels)

    @property
    def writes(self) -> bool:
        """Whether the model writes text."""
        return self.head in ("causal-lm", "seq2seq-lm")

    @property
    def numbers(self) -> dict[str, int]:
        """Return `{label: its number}`."""
        return {label: number for number, label in enumerate(self.labels)}


def task_of(
    objective: str, kind: ModelKind, labels: Sequence[str] = (), *, multi_label: bool = False, prefix: str = ""
) -> Task:
    """Return the task of an objective with a kind of model.

    Args:
        objective: A name of the catalogue.
        kind: Kind of the base model.
        labels: Names of classes or tags in the data, in the order of their numbers.
        multi_label: A text can have several classes.
        prefix: Words in front of each text; only objectives that turn one text into another read it.

    Raises:
        KeyError: No objective has this name.
    """
    entry = find_objective(objective)
    reads_prefix = "text_to_text.prefix" in entry.settings
    return Task(entry.signal, entry.head_of(kind), tuple(labels), multi_label, prefix if reads_prefix else "")
