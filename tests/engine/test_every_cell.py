"""Every cell of the matrix that is allowed, as a whole run: plan, checks, steps, evaluation, export, parity, report.

What a method does to a model and that a stopped run is the straight one is `test_method_matrix.py`; here a cell counts
only if a person who takes it gets a model. About four seconds each, hence slow.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.catalog.matrix import cells
from engine.catalog.objectives import OBJECTIVES, ModelKind
from engine.runs.directory import RunDirectory
from tests.engine.label_rows import all_words, class_rows, tag_rows
from tests.engine.made_pairs import pair_rows
from tests.engine.made_runs import events_of, write_rows
from tests.engine.tiny_encoders import save_tiny_bert
from tests.engine.tiny_kinds import save_pair_model
from tests.engine.tiny_models import command_rows, save_tiny_model, text_rows
from tests.engine.whole_runs import finished

ROWS: dict[str, Callable[[], list[dict]]] = {
    "chat": lambda: command_rows(40),
    "domain-adaptation": lambda: text_rows(60),
    "classification": lambda: class_rows(60),
    "token-classification": lambda: tag_rows(60),
    "preference": lambda: pair_rows(40),
    "reward-model": lambda: pair_rows(40),
    "reinforcement-learning": lambda: command_rows(40),
    "text-to-text": lambda: command_rows(40),
}
READ, WRITTEN = {"max_rows": 4}, {"generate_rows": 2}
SECTIONS: dict[str, dict[str, Any]] = {
    "text-to-text": {"evaluation": {**READ, **WRITTEN, "max_new_tokens": 8}},
    "chat": {"evaluation": {**READ, **WRITTEN, "max_new_tokens": 8}},
    "domain-adaptation": {"training": {"max_length": 32}},
    "reinforcement-learning": {
        "reinforcement": {"rewards": ["exact_answer", "length"], "wished_length": 6, "max_completion": 8},
        "training": {"effective_batch": 8},
        "evaluation": WRITTEN,
    },
}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "qlora": {"rank": 4},
    "lora-8bit": {"rank": 4},
    "prompt-tuning": {"virtual_tokens": 4},
    "prefix-tuning": {"virtual_tokens": 4},
    "p-tuning": {"virtual_tokens": 4, "encoder_width": 16},
    "bottleneck": {"width": 4},
}
ALLOWED = [(objective, kind, method) for objective, kind, method, reason in cells() if not reason]
STEPS = 3


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[ModelKind, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return {
        "decoder": save_tiny_model(folder / "decoder"),
        "encoder": save_tiny_bert(folder / "encoder", all_words()),
        "encoder-decoder": save_pair_model(folder / "encoder-decoder"),
    }


def test_no_objective_is_left_out() -> None:
    assert set(ROWS) == {objective.name for objective in OBJECTIVES}


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "kind", "method"), ALLOWED, ids=["-".join(cell) for cell in ALLOWED])
def test_the_cell_is_a_run_that_leaves_a_model(
    objective: str, kind: ModelKind, method: str, models: dict[ModelKind, Path], tmp_path: Path
) -> None:
    sections = {name: dict(values) for name, values in SECTIONS.get(objective, {}).items()}
    steps = {"max_steps": STEPS, "effective_batch": 4, "micro_batch": 2, "evaluate_every": STEPS}
    sections["training"] = steps | sections.get("training", {})
    made = {
        **sections,
        "objective": objective,
        "model": {"base": str(models[kind])},
        "method": {"name": method, **METHODS.get(method, {})},
        "data": {"source": str(write_rows(tmp_path / "rows.jsonl", ROWS[objective]())), "held_out": 0.2},
        "evaluation": sections.get("evaluation", READ),
    }
    run, plan = finished(made, tmp_path)
    steps_logged = events_of(run, "step.logged")
    assert len(steps_logged) == STEPS
    assert all(math.isfinite(event["loss"]) for event in steps_logged)
    measured = json.loads((run.evaluation_folder / "after.json").read_text())
    assert set(plan.recipe.evaluation.metrics or ()) & set(measured["metrics"])
    assert not [event for event in events_of(run, "preflight.checked") if event["status"] == "blocked"]
    check_left(run, adapter=plan.recipe.method.facts.makes_adapter)


def check_left(run: RunDirectory, *, adapter: bool) -> None:
    """Look that the model lies there, and that its parity was measured."""
    folders = [folder for folder in (run.adapter_folder, run.merged_folder) if folder.is_dir()]
    assert folders
    assert run.adapter_folder.is_dir() == adapter
    for folder in folders:
        assert list(folder.glob("*.safetensors"))
        assert (folder / "README.md").is_file()
    assert events_of(run, "export.completed")
