"""Predictions and results of the memory benchmark, shared by published figures and real runs."""

import datetime
import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.planning.plan import MemoryEstimate, Plan
from engine.planning.rehearsal import RehearsalResult
from engine.recipe.problems import ProblemError

LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate")
NO_TENSORS = frozenset({"process", "CUDA context", "slack", "allocator slack", "unused by the allocator"})
"""Components of an estimate that are no tensors."""


def of_training(peaks: dict[str, int], *, with_saving: bool) -> int | None:
    """Return the peak of training, or of training with its checkpoints; None when it is not known."""
    if "training" not in peaks:
        return None
    return max(peaks["training"], peaks.get("saving", 0) if with_saving else 0)


def formula_tensors(memory: MemoryEstimate, *, with_saving: bool = False) -> int:
    """Return the peak of tensors in training, without context and slack."""
    peak = of_training(memory.peaks, with_saving=with_saving)
    if peak is not None:
        return peak
    return sum(size for name, size in memory.components.items() if name not in NO_TENSORS)


def share_off(predicted: int | None, measured: int | None) -> float | None:
    """Return the error of a prediction as a share of the measurement; positive when too much was predicted."""
    if not predicted or not measured:
        return None
    return round(predicted / measured - 1, 5)


@dataclass(slots=True)
class Predictor:
    """Rehearses plans, each once; without rehearsals it leaves them out.

    Attributes:
        rehearsals: `engine.planning.rehearse.Rehearsals`, or None for the formula alone.
    """

    rehearsals: Any = None
    _known: dict[str, RehearsalResult] = field(default_factory=dict)

    def result(self, plan: Plan) -> RehearsalResult | None:
        """Return the rehearsal of a plan; None without rehearsals."""
        if self.rehearsals is None:
            return None
        key = plan.model_dump_json()
        if key not in self._known:
            self._known[key] = self.rehearsals.of_blocking(plan)
        return self._known[key]

    def rehearsed(self, plan: Plan) -> dict[str, Any]:
        """Return `{"rehearsal": ...}` for a record; empty without rehearsals, with the reason where one failed."""
        try:
            result = self.result(plan)
        except ProblemError as error:
            return {"rehearsal_failed": str(error)}
        if result is None:
            return {}
        kept = result.model_dump(
            mode="json", include={"peaks", "num_layers", "confidence", "notes", "smallest_card_bytes"}
        )
        band = [result.reserved_low_bytes, result.reserved_high_bytes]
        return {"rehearsal": kept | {"reserved_bytes": band, "cpu_s": round(result.cpu_s, 1)}}

    def estimates(self, plan: Plan) -> dict[str, MemoryEstimate]:
        """Return `{"rehearsal": estimate}`; empty without rehearsals."""
        try:
            result = self.result(plan)
        except ProblemError:
            return {}
        if result is None:
            return {}
        from engine.planning.rehearsed import estimate_from

        return {"rehearsal": estimate_from(result, plan)}

    def ranges(self, plan: Plan) -> dict[str, list[int]]:
        """Return `{prediction: [low, expected, high]}` of the whole process, in bytes."""
        estimates = {"formula": plan.memory} | self.estimates(plan)
        return {name: [found.low_bytes, found.expected_bytes, found.high_bytes] for name, found in estimates.items()}

    def demand(self, plan: Plan) -> int:
        """Return what a plan asks PyTorch's allocator to have, the CUDA context left out."""
        memory = self.estimates(plan).get("rehearsal", plan.memory)
        return memory.high_bytes - memory.components.get("CUDA context", 0)


@dataclass(slots=True)
class Results:
    """Results of one part of the benchmark in a file, written after each row, so that it can be stopped and resumed.

    Attributes:
        rows: `{name: record}`.
    """

    file: Path
    conditions: dict[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> "Results":
        """Return what the file holds, with the conditions that it was made under."""
        stored = json.loads(file.read_text(encoding="utf-8"))
        return cls(file, stored["conditions"], stored["rows"])

    @classmethod
    def open(cls, file: Path, *, fresh: bool) -> "Results":
        """Return what the file holds, or nothing yet; what is added is of this machine and this moment."""
        rows = cls.read(file).rows if file.exists() and not fresh else {}
        return cls(file, machine_conditions(), rows)

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Keep a record, on the disk too."""
        self.rows[name] = record
        self.save()

    def save(self) -> None:
        """Write the file: one line for each row, so that changes can be read."""
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(record)}" for name, record in self.rows.items())
        conditions = json.dumps(self.conditions, indent=1)
        text = f'{{\n"conditions": {conditions},\n"rows": {{\n{lines}\n}}\n}}\n'
        self.file.write_text(text, encoding="utf-8")


def machine_conditions() -> dict[str, Any]:
    """Return what a figure depends on beside the code."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "libraries": {name: version(name) for name in LIBRARIES},
    }
