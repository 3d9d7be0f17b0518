"""What objectives tell of each training step besides its loss, in plain words: names of `step.logged`'s `extra`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.text import clean_line


@dataclass(frozen=True, slots=True)
class StepNumber:
    """One number of a step.

    Attributes:
        name: As in the event.
        title: One or two words for a line of numbers and for the legend of a chart.
        form: How it is written.
    """

    name: str
    title: str
    form: str = "{:.3f}"

    def format(self, value: float) -> str:
        """Return a value as people read it."""
        return self.form.format(value)


STEP_NUMBERS: tuple[StepNumber, ...] = (
    StepNumber("reward_accuracy", "reward acc", "{:.0%}"),
    StepNumber("reward_margin", "margin"),
    StepNumber("reward", "reward"),
    StepNumber("reward_spread", "spread"),
    StepNumber("solved", "solved", "{:.0%}"),
    StepNumber("answer_tokens", "answer tokens", "{:.0f}"),
    StepNumber("cut_off", "cut off", "{:.0%}"),
    StepNumber("no_difference", "no difference", "{:.0%}"),
    StepNumber("kl", "KL"),
)


def step_number(name: str) -> StepNumber:
    """Return the words for a number; one that this version does not know is called what its event calls it."""
    known = next((number for number in STEP_NUMBERS if number.name == name), None)
    return known or StepNumber(name, clean_line(name, max_chars=24).replace("_", " "))


def step_words(extra: Any) -> list[tuple[str, str]]:
    """Return `(title, value)` of the numbers in an event's `extra`; what is no number is left out."""
    if not isinstance(extra, Mapping):
        return []
    return [
        (step_number(str(name)).title, step_number(str(name)).format(value))
        for name, value in extra.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
