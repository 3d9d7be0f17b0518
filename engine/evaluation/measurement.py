"""One measurement of a model: numbers, samples and what was odd about it; a JSON file in `evaluation/`."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.evaluation.measures import numbers_to_words, words_to_numbers

Phase = Literal["before", "during", "after"]
MEASUREMENT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt with the answer that the data expects (empty for prompts typed by a person) and the model's text."""

    prompt: str
    expected: str
    text: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured at one moment of a run.

    Attributes:
        phase: Before, during or after training.
        step: Optimizer steps done.
        metrics: `{name: value}`, named as in `engine.catalog.metrics`; may be infinite or not a number.
        samples: Fixed prompts with the model's text.
        num_rows: Rows behind loss, perplexity and token accuracy.
        num_tokens: Trained tokens in those rows.
        num_generated: Rows behind exact match and ROUGE.
        elapsed_s: Wall time of the whole measurement.
        answers: Every generated answer that was scored, in data order: `{"id", "prompt", "expected", "text"}`.
        remarks: Plain sentences on rows left out and values that are no numbers.
    """

    phase: Phase
    step: int
    metrics: dict[str, float]
    samples: list[Sample]
    num_rows: int
    num_tokens: int
    num_generated: int
    elapsed_s: float
    answers: list[dict[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as a JSON-ready dictionary."""
        return {"version": MEASUREMENT_VERSION, **asdict(self), "metrics": numbers_to_words(self.metrics)}

    @property
    def file_name(self) -> str:
        """Name of the file in `evaluation/`: `before.json`, `during-000120.json` or `after.json`."""
        return f"during-{self.step:06d}.json" if self.phase == "during" else f"{self.phase}.json"


def write_json_atomically(path: Path, content: Any) -> None:
    """Write strict JSON so that readers see the old file or the whole new one, never a part."""
    write_text_atomically(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text through a file beside the target, fsynced, then renamed over it; mode 0600."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}.partial")
    # Model output may hold half a surrogate pair, which UTF-8 cannot carry.
    data = text.encode("utf-8", errors="replace")
    with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, path)


def save_measurement(measurement: Measurement, folder: Path) -> Path:
    """Write a measurement into the run's `evaluation/` folder and return its path."""
    path = folder / measurement.file_name
    write_json_atomically(path, measurement.to_json())
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
    return {**content, "metrics": words_to_numbers(content.get("metrics") or {})}
