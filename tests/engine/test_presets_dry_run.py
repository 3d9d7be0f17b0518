"""Every shipped preset carried through all stages: planned as its own recipe, on a tiny model of its family."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, set_seed

from engine.catalog.base_models import find_base_model
from engine.catalog.metrics import find_metric
from engine.catalog.objectives import OBJECTIVE_SETTINGS, find_objective
from engine.data.profile import profile_data
from engine.models.heads import AUTO_CLASSES, head_of
from engine.planning.model_profile import read_model_profile
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.recipe.presets import Preset, list_presets
from engine.recipe.read import check_recipe, dump_recipe
from engine.recipe.sources import flatten, lay, unflatten
from engine.runs.directory import RunDirectory, create_run
from engine.runs.home import HomeFolders
from tests.engine.forked import ForkedWorker
from tests.engine.label_rows import all_words, class_rows, tag_rows
from tests.engine.made_machine import machine_without_gpu
from tests.engine.made_pairs import pair_rows
from tests.engine.made_runs import events_of, write_rows
from tests.engine.tiny_encoders import wordpiece_tokenizer
from tests.engine.tiny_kinds import save_pair_model
from tests.engine.tiny_models import command_rows, text_rows, tiny_tokenizer

SHIPPED = list_presets(Path("no presets of a person"))
NUM_ROWS = 48
SHORT = {
    "training.max_steps": 2,
    "evaluation.max_rows": 3,
    "evaluation.generate_rows": 2,
    "evaluation.max_new_tokens": 4,
}
ROWS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "answers": command_rows,
    "text": text_rows,
    "labels": class_rows,
    "tags": tag_rows,
    "prompts": command_rows,
    "preferences": pair_rows,
    "rewards": pair_rows,
}


def tiny_relative(folder: Path, base: str) -> Path:
    """Write a tiny model of the family that `base` belongs to; wide enough for 4-bit blocks of 64 weights."""
    card = find_base_model(base)
    assert card is not None
    if card.profile.model_type == "t5":
        return save_pair_model(folder)
    reads = card.profile.kind == "encoder"
    tokenizer = wordpiece_tokenizer(all_words()) if reads else tiny_tokenizer()
    config = AutoConfig.for_model(
        card.profile.model_type,
        # Spare rows as in the real ones: a family's tokenizer class may add a token of its own.
        vocab_size=len(tokenizer) + 16,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=card.profile.tied_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **({"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id} if reads else {}),
    )
    set_seed(7)
    model = (AutoModelForMaskedLM if reads else AutoModelForCausalLM).from_config(config)
    assert type(model).__name__ == card.profile.architecture
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def filled(preset: Preset, tmp_path: Path) -> dict[str, Any]:
    """Return what a person types over a preset: its holes, and a tiny stand-in for a model that is downloaded."""
    goal = find_objective(preset.tree["objective"])
    card = find_base_model(preset.tree["model"]["base"])
    read = goal.settings if card is None else goal.settings_of(card.kind)
    # The plan refuses a setting that nothing reads.
    typed: dict[str, Any] = {
        path: n
        for path, n in SHORT.items()
        if (path in read or path not in OBJECTIVE_SETTINGS) and path not in goal.unread
    }
    if goal.plain_text or goal.signal == "preferences":
        typed.pop("evaluation.generate_rows", None)
    fillings = {"data.source": str(write_rows(tmp_path / "rows.jsonl", ROWS[goal.signal](NUM_ROWS)))}
    assert set(preset.holes) <= set(fillings), "a new kind of hole: say here what fills it"
    typed |= {path: fillings[path] for path in preset.holes}
    base = preset.tree["model"]["base"]
    if not base.startswith("builtin:"):
        typed["model.base"] = str(tiny_relative(tmp_path / "model", base))
    return typed


def planned(preset: Preset, typed: dict[str, Any], home: HomeFolders) -> Plan:
    """Return the plan of a machine without GPU, from facts measured as the front end measures them."""
    layered = lay(unflatten(typed), preset=preset.tree, preset_name=preset.name)
    recipe = check_recipe(layered.tree, name=preset.name)
    model = read_model_profile(recipe.model.base)
    return make_plan(
        layered, machine_without_gpu(home.runs), model, profile_data(recipe, folder=model.folder), home=home
    )


def check_plan(preset: Preset, typed: dict[str, Any], plan: Plan) -> None:
    """The plan runs, and holds each value of the preset that nobody typed over."""
    assert not plan.blocked, plan.findings
    values = flatten(plan.recipe.model_dump(mode="json"))
    for path, value in flatten(preset.tree).items():
        if path not in typed:
            assert (values[path], plan.sources[path].kind) == (value, "preset"), path


def check_training(run: RunDirectory, plan: Plan) -> None:
    """The trainer did what the recipe says: two steps of its batch at its rate, packed or not, with its method."""
    recipe = plan.recipe
    losses = [event["loss"] for event in events_of(run, "step.logged")]
    assert len(losses) == 2
    rewarded = recipe.goal.signal == "prompts"
    # Answers are compared with each other, so that the loss of rewards has no sign of its own.
    assert all(math.isfinite(loss) and (loss > 0 or rewarded) for loss in losses)
    # The one step of warm-up is over, and the second step is the first of the curve.
    assert events_of(run, "step.logged")[-1]["learning_rate"] == pytest.approx(recipe.training.learning_rate)
    (started,) = events_of(run, "training.started")
    assert started["micro_batch"] * started["accumulation"] == recipe.training.effective_batch
    (data,) = events_of(run, "data.prepared")
    reads = recipe.reinforcement.num_generations if rewarded else 1
    by_row = math.ceil(reads * data["num_train"] / recipe.training.effective_batch)
    assert (started["steps_per_epoch"] < by_row) == recipe.training.packing
    everything = recipe.goal.signal in ("text", "labels") and plan.task.head != "masked-lm"
    assert (data["trained_token_share"] == 1.0) == everything
    (model,) = events_of(run, "model.loaded")
    assert (model["trainable_params"] == model["num_params"]) == (recipe.method.name == "full")


def check_results(run: RunDirectory, plan: Plan) -> None:
    """What is left in the person's hands: scores before and after, the model in its forms, a report."""
    recipe, adapter = plan.recipe, plan.recipe.method.name != "full"
    asked = set(recipe.evaluation.metrics or ())
    for phase in ("before", "after"):
        measured = json.loads((run.evaluation_folder / f"{phase}.json").read_text())
        assert measured["num_rows"] == (2 if recipe.goal.signal == "prompts" else 3)
        assert asked <= {find_metric(name).choice for name in measured["metrics"]}
    assert run.adapter_folder.is_dir() == adapter
    if adapter:
        settings = json.loads((run.adapter_folder / "adapter_config.json").read_text())
        assert (settings["r"], settings["lora_alpha"]) == (recipe.method.rank, recipe.method.alpha)
    exported = json.loads((run.model_folder / "export.json").read_text())
    # Only a 4-bit base model has a gap to the one in full precision.
    assert (exported["quantization_gap"] is not None) == (recipe.method.name == "qlora")
    merged = AUTO_CLASSES[plan.task.head].from_pretrained(run.merged_folder)
    assert head_of(merged) == plan.task.head
    assert run.report_html_file.stat().st_size > 0
    assert run.report_markdown_file.stat().st_size > 0
    assert len(list(run.checkpoints_folder.glob("step-*"))) == min(2, recipe.training.keep_checkpoints)


# One of each trainer; the others are planned here and run by `make test-slow`.
EVERY_TIME = {"quickstart", "classify", "prefer", "gsm8k-grpo", "summarise-t5"}
RUN = [
    pytest.param(preset, id=preset.name, marks=[] if preset.name in EVERY_TIME else [pytest.mark.slow])
    for preset in SHIPPED
]


def test_the_presets_that_are_always_run_are_shipped() -> None:
    assert {preset.name for preset in SHIPPED} >= EVERY_TIME


@pytest.mark.parametrize("preset", SHIPPED, ids=lambda preset: preset.name)
def test_a_shipped_preset_is_planned(preset: Preset, tmp_path: Path) -> None:
    home = HomeFolders(tmp_path / "runs", tmp_path / "cache", tmp_path / "drafts")
    typed = filled(preset, tmp_path)
    check_plan(preset, typed, planned(preset, typed, home))


@pytest.mark.parametrize("preset", RUN)
def test_a_shipped_preset_runs_from_its_recipe_to_its_report(preset: Preset, tmp_path: Path) -> None:
    home = HomeFolders(tmp_path / "runs", tmp_path / "cache", tmp_path / "drafts")
    typed = filled(preset, tmp_path)
    plan = planned(preset, typed, home)
    check_plan(preset, typed, plan)
    run = create_run(home, dump_recipe(plan.recipe.model_dump(mode="json", exclude_none=True)), plan)
    worker = ForkedWorker(run)
    assert worker.wait() == 0, worker.log()[-3000:]
    assert json.loads(run.exit_file.read_text())["state"] == "finished"
    check_training(run, plan)
    check_results(run, plan)


def test_some_presets_are_shipped() -> None:
    assert SHIPPED
