"""`evaluation/blind.json`: what a person judged without knowing which model wrote what. Written whole or not at all."""

import json
import random
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.disk import disk_problem, private_folder, write_atomically

Choice = Literal["first", "second", "tie"]
"""Which of the two sides was better; never which stood left or right."""
_CHOICES: tuple[Choice, ...] = ("first", "second", "tie")
_VERSION = 1
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judged prompt.

    Attributes:
        prompt_id: Its row.
        choice: The better side.
        swapped: The second side stood on the left.
        first: Answer of the first side.
        second: Answer of the second side.
        same: Both wrote the same, so nobody was asked: a tie.
    """

    prompt_id: str
    choice: Choice
    swapped: bool
    first: str
    second: str
    same: bool = False

    @property
    def win(self) -> float:
        """What the second side won."""
        return {"first": 0.0, "second": 1.0, "tie": 0.5}[self.choice]


@dataclass(frozen=True, slots=True)
class BlindTest:
    """The judgements of one pair of models.

    Attributes:
        sides: Keys of the two models, the one that is held against first.
        models: Mark of their files; other files are other models, and the test begins anew.
        seed: Of the order in which answers stand.
        judged: In the order of judging.
        result: Row of the win rate once all prompts are judged; empty before.
    """

    sides: tuple[str, str]
    models: str
    seed: int
    judged: tuple[Judgement, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)

    def swapped(self, prompt_id: str) -> bool:
        """Return whether the second side stands on the left for a prompt."""
        return random.Random(f"{self.seed} {prompt_id}").random() < 0.5

    def with_judgement(self, judgement: Judgement) -> "BlindTest":
        """Return the test with one more prompt judged."""
        return replace(self, judged=(*self.judged, judgement))


def blind_file(run: RunDirectory) -> Path:
    """Return where the judgements of a run lie."""
    return run.evaluation_folder / "blind.json"


def new_test(sides: tuple[str, str], models: str, seed: int | None = None) -> BlindTest:
    """Return a test in which nothing is judged."""
    return BlindTest(sides, models, secrets.randbelow(2**31) if seed is None else seed)


def load_test(run: RunDirectory, sides: tuple[str, str], models: str) -> BlindTest | None:
    """Return the test of these two models as it was left; None without one, or where the models are others now."""
    for record in _records(run):
        try:
            test = _from_json(record)
        except (KeyError, TypeError, ValueError):
            continue
        if test.sides == sides and test.models == models:
            return test
    return None


def save_test(run: RunDirectory, test: BlindTest) -> None:
    """Put a test in the place of an earlier one of the same models; tests of other pairs stay.

    Raises:
        ProblemError: The file cannot be written; what was there is untouched.
    """
    path = blind_file(run)
    others = [record for record in _records(run) if record.get("sides") != list(test.sides)]
    content = {"version": _VERSION, "tests": [*others, _to_json(test)]}
    private_folder(path.parent)
    try:
        write_atomically(path, json.dumps(content, indent=1).encode() + b"\n")
    except OSError as error:
        raise ProblemError(disk_problem(error, path, "keep what you judged")) from error


def models_mark(folders: Sequence[Path]) -> str:
    """Return a mark of the weights in folders: training goes on, and the mark is another; a copied run keeps it."""
    mark = 0
    for file in (file for folder in folders for file in sorted(folder.glob("*.safetensors"))):
        try:
            with file.open("rb") as weights:
                size = weights.seek(0, 2)
                weights.seek(max(0, size - _TAIL_BYTES))
                mark = zlib.crc32(weights.read(), zlib.crc32(str(size).encode(), mark))
        except OSError:
            continue
    return f"{mark:08x}"


def _records(run: RunDirectory) -> list[dict[str, Any]]:
    try:
        content = json.loads(blind_file(run).read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    tests = content.get("tests") if isinstance(content, dict) and content.get("version") == _VERSION else None
    return [record for record in tests if isinstance(record, dict)] if isinstance(tests, list) else []


def _to_json(test: BlindTest) -> dict[str, Any]:
    names = ("prompt_id", "choice", "swapped", "first", "second", "same")
    judged = [{name: getattr(judgement, name) for name in names} for judgement in test.judged]
    return {
        "sides": list(test.sides),
        "models": test.models,
        "seed": test.seed,
        "judged": judged,
        "result": dict(test.result),
    }


def _from_json(record: Mapping[str, Any]) -> BlindTest:
    first, second = record["sides"]
    judged = tuple(_judgement(one) for one in record["judged"])
    return BlindTest((str(first), str(second)), str(record["models"]), int(record["seed"]), judged, record["result"])


def _judgement(record: Mapping[str, Any]) -> Judgement:
    if record["choice"] not in _CHOICES:
        raise ValueError("a judgement names no side")
    return Judgement(
        str(record["prompt_id"]), record["choice"], bool(record["swapped"]),
        str(record["first"]), str(record["second"]), bool(record["same"]),
    )  # fmt: skip
