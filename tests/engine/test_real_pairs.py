"""Real pairs on a real model: hh-rlhf's transcripts and a DPO demo in ShareGPT form, read, learnt from and scored."""

import os
from pathlib import Path

import pytest
from transformers import set_seed

from engine.data.pipeline import prepare
from engine.data.rendering import Renderer
from engine.evaluation.evaluate import measure
from engine.models.loading import load_model
from engine.models.reward import score_conversations
from engine.models.tokenizers import load_tokenizer
from engine.recipe.schema import Recipe
from engine.training.context import RunContext
from engine.training.references import prepare_references
from engine.training.run import train
from tests.engine.made_context import made_context
from tests.engine.made_pairs import pair_recipe
from tests.engine.made_runs import events_of

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
MODEL = ASSETS / "models" / "tinystories-656k"
TRANSCRIPTS = ASSETS / "preference" / "hh_helpful_base_2000.jsonl"
SHAREGPT = ASSETS / "preference" / "dpo_en_demo.json"
LENGTH, NUM_ROWS = 160, 24
pytestmark = [
    pytest.mark.assets,
    pytest.mark.slow,
    pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here"),
]


def real_recipe(objective: str, source: Path, **sections) -> Recipe:
    training = {
        "effective_batch": 8, "micro_batch": 4, "max_steps": 12, "learning_rate": 2e-3, "max_length": LENGTH,
        "warmup": 0.0,
    }  # fmt: skip
    method = {"name": "full"}
    recipe = pair_recipe(objective, training=training, method=method, **sections)
    data = recipe.data.model_copy(update={"source": str(source), "max_rows": 400})
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": str(MODEL)}), "data": data})


def real_context(folder: Path, recipe: Recipe) -> RunContext:
    """Return a run on the shortest of the first real rows, with the real model."""
    tokenizer = load_tokenizer(MODEL, recipe).tokenizer
    prepared = prepare(recipe)
    set_seed(recipe.training.seed)
    context = made_context(folder, recipe, model=None)
    task = context.plan.task
    context.model = load_model(recipe, "cpu", bits=None, task=task)
    if task.head == "sequence-classification":
        context.model.config.pad_token_id = tokenizer.pad_token_id
    context.tokenizer, context.renderer = tokenizer, Renderer(tokenizer, LENGTH, task=task)
    rows = sorted(prepared.train_rows, key=lambda row: len(str(row)))[:NUM_ROWS]
    context.rendered = context.renderer.render_rows(rows)
    context.held_out_rows = rows[:4]
    prepare_references(context)
    return context


@pytest.mark.parametrize("source", [TRANSCRIPTS, SHAREGPT], ids=["transcripts", "sharegpt"])
def test_a_real_model_comes_to_prefer_what_people_chose(source: Path, tmp_path: Path) -> None:
    context = real_context(tmp_path / "run", real_recipe("preference", source))
    train(context)
    told = [event["extra"] for event in events_of(context.run, "step.logged")]
    assert told[0]["reward_accuracy"] == 0.5
    last = sum(extra["reward_accuracy"] for extra in told[-3:]) / 3
    assert last > 0.7, told
    assert told[-1]["reward_margin"] > 0


def test_a_real_model_learns_to_reward_what_people_chose(tmp_path: Path) -> None:
    context = real_context(tmp_path / "run", real_recipe("reward-model", TRANSCRIPTS))
    train(context)
    found = measure(
        context.model, context.tokenizer, context.renderer, context.held_out_rows, context.recipe,
        phase="after", step=12,
    )  # fmt: skip
    told = [event["extra"] for event in events_of(context.run, "step.logged")]
    assert sum(extra["reward_accuracy"] for extra in told[-3:]) / 3 > 0.7, told
    row = context.held_out_rows[0]
    chosen, rejected = score_conversations(
        context.model, context.tokenizer, [[*row["prompt"], *row[side]] for side in ("chosen", "rejected")],
        max_length=LENGTH,
    )  # fmt: skip
    # The measurement and whoever asks the model later read the same number at the same place.
    assert found.samples[0].text == f"chosen {chosen:.3f}, rejected {rejected:.3f}"
