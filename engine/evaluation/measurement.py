"""One measurement of a model: numbers, samples and what was odd about it; a JSON file in `evaluation/`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.data.rows import Row
from engine.evaluation.kept_rows import RowGroup
from engine.recipe.problems import ProblemError
from engine.runs.disk import disk_problem, private_folder, write_atomically
from engine.runs.events import numbers_to_words, word_to_number

Phase = Literal["before", "few_shot", "during", "after", "test_before", "test", "apart"]
TEST_PHASES: tuple[Phase, ...] = ("test_before", "test")
UNTOUCHED_PHASES: tuple[Phase, ...] = ("before", "few_shot", "test_before")
"""Measurements of the test rows, before and after training: they decide nothing and are no point of a curve."""
COMPARED_PHASES: tuple[Phase, ...] = ("before", "after", "test_before", "test", "apart")
"""Measurements that are held against each other row by row."""
MEASUREMENT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt with the answer that the data expects (empty for prompts typed by a person) and the model's text.

    Attributes:
        reward: What the text earned, where answers are rewarded.
    """

    prompt: str
    expected: str
    text: str
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Which label was given where which was expected; only what occurs is kept, as there may be thousands of labels.

    Attributes:
        labels: Names, in the order that the numbers below count in.
        cells: One label a row: `[expected, given, rows]` for each pair of labels that occurs.
        per_label: Several labels a row: `[rightly not given, wrongly given, missed, rightly given]` for each label.
    """

    labels: list[str]
    cells: list[list[int]] = field(default_factory=list)
    per_label: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured at one moment of a run.

    Attributes:
        phase: Before, during or after training; `few_shot`, before training with examples in every prompt;
            `test_before` and `test`, the test rows before and after training; `apart` from any run, on rows of a file.
        step: Optimizer steps done.
        metrics: `{name: value}`, named as in `engine.catalog.metrics`; may be infinite or not a number.
        samples: Fixed prompts with the model's text.
        num_rows: Rows behind loss, perplexity and token accuracy.
        num_tokens: Trained tokens in those rows.
        num_generated: Rows behind exact match and ROUGE.
        elapsed_s: Wall time of the whole measurement.
        answers: Every generated answer that was scored, in data order: `{"id", "prompt", "expected", "text"}`, and
            `"reward"` where answers are rewarded.
        remarks: Plain sentences on rows left out and values that are no numbers.
        examples: Training rows that stood in front of every question, in order; only of `few_shot`.
        confusion: Which labels were mistaken for which; None where rows have no labels.
        rows: What each row adds to the metrics; only before and after training, where models are compared.
    """

    phase: Phase
    step: int
    metrics: dict[str, float]
    samples: list[Sample]
    num_rows: int
    num_tokens: int
    num_generated: int
    elapsed_s: float
    answers: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    examples: list[Row] = field(default_factory=list)
    confusion: Confusion | None = None
    rows: list[RowGroup] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as a JSON-ready dictionary."""
        # A broken model's numbers need not be finite, and JSON carries no others.
        content: dict[str, Any] = numbers_to_words(asdict(self))
        return {"version": MEASUREMENT_VERSION, **content}

    @property
    def file_name(self) -> str:
        """Name of the file in `evaluation/`."""
        return measurement_file(self.phase, self.step)


def measurement_file(phase: Phase, step: int) -> str:
    """Return the name of a measurement's file: `during-000120.json`, for the other phases `before.json` and so on."""
    return f"during-{step:06d}.json" if phase == "during" else f"{phase}.json"


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON so that readers see the old file or the whole new one, never a part."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all, into a folder that is made when missing.

    Raises:
        ProblemError: `disk.full`, `disk.not_writable` or `disk.failed`.
    """
    private_folder(path.parent)
    try:
        # Model output may hold half a surrogate pair, which UTF-8 cannot carry.
        write_atomically(path, text.encode("utf-8", errors="replace"))
    except OSError as error:
        raise ProblemError(disk_problem(error, path, "write the file")) from error


def save_measurement(measurement: Measurement, folder: Path) -> Path:
    """Write a measurement into the run's `evaluation/` folder and return its path."""
    path = folder / measurement.file_name
    write_json(path, measurement.to_json())
    return path


def load_measurement(path: Path) -> dict[str, Any] | None:
    """Return a measurement's content with its metrics as numbers, or None when the file is not there.

    Raises:
        ValueError: The file is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return {**content, "metrics": _numbers(content.get("metrics"))}


def held_out_losses(folder: Path, step: int) -> list[float]:
    """Return the held-out losses on the disk: before training, then the newest two during it.

    Args:
        folder: The run's `evaluation/` folder.
        step: Optimizer steps done; what an earlier attempt measured after it is left out.

    Returns:
        Nothing where a measurement has no loss, is missing or cannot be read: then they cannot be compared.
    """
    last = measurement_file("during", step)
    # A million steps and more have longer names.
    during = sorted((len(file.name), file.name) for file in folder.glob("during-*.json"))
    names = [name for length, name in during if (length, name) <= (len(last), last)][-2:]
    losses = []
    for name in (measurement_file("before", 0), *names):
        try:
            measurement = load_measurement(folder / name)
        except ValueError:
            return []
        if measurement is None or "loss" not in measurement["metrics"]:
            return []
        losses.append(measurement["metrics"]["loss"])
    return losses


def _numbers(metrics: Any) -> dict[str, float]:
    values = {str(name): word_to_number(value) for name, value in metrics.items()} if isinstance(metrics, dict) else {}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
