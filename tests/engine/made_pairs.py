"""Runs on answers that are compared: made pairs, answers marked good or bad, and a tiny model that learns from them."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)

from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.methods.apply import apply_method
from engine.recipe.schema import Recipe
from engine.training.context import RunContext
from engine.training.references import prepare_references
from tests.engine.made_context import made_context
from tests.engine.made_runs import made_recipe
from tests.engine.tiny_models import command_rows, tiny_llama, tiny_tokenizer


def pair_rows(count: int) -> list[Row]:
    """Return pairs: the right command is chosen, a polite refusal of varying length is rejected."""
    rows = []
    for index, row in enumerate(command_rows(count)):
        ask, answer = row["messages"]
        refusal = "no" + " thank you" * (index % 3)
        rejected = [{"role": "assistant", "content": refusal}]
        rows.append({"id": row["id"], "prompt": [ask], "chosen": [answer], "rejected": rejected})
    return rows


def marked_rows(count: int) -> list[Row]:
    """Return answers marked good or bad, by turns and with more good ones."""
    rows = []
    for index, pair in enumerate(pair_rows(count)):
        good = index % 3 != 0
        completion = pair["chosen"] if good else pair["rejected"]
        rows.append({"id": pair["id"], "prompt": pair["prompt"], "completion": completion, "label": good})
    return rows


def pair_recipe(objective: str = "preference", **sections: Any) -> Recipe:
    """Return a recipe of pairs with every value filled in."""
    metrics = ["reward_accuracy", "reward_margin"]
    evaluation = {"metrics": metrics, "max_rows": 4, **sections.pop("evaluation", {})}
    return made_recipe("model", "data", objective=objective, evaluation=evaluation, **sections)


def tiny_reward_llama(vocab_size: int) -> LlamaForSequenceClassification:
    """Return a tiny model with one output."""
    set_seed(7)
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, eos_token_id=2, num_labels=1,
    )  # fmt: skip
    return LlamaForSequenceClassification(config)


@cache
def _tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


def pairs_context(folder: Path, recipe: Recipe, rows: list[Row], *, references: bool = True) -> RunContext:
    """Return the context of a run on these rows, made at the first call and resumed at the next."""
    tokenizer = _tokenizer()
    rewards = recipe.goal.signal == "rewards"
    base: PreTrainedModel = tiny_reward_llama(len(tokenizer)) if rewards else tiny_llama(len(tokenizer))
    set_seed(recipe.training.seed)
    context = made_context(folder, recipe, model=apply_method(base, recipe))
    context.renderer = Renderer(tokenizer, recipe.training.max_length, task=context.plan.task)
    context.rendered = context.renderer.render_rows(rows)
    context.held_out_rows = rows[:4]
    if references:
        prepare_references(context)
    return context


def weights_of(context: RunContext) -> dict[str, torch.Tensor]:
    """Return a copy of every weight."""
    return {name: weight.detach().clone() for name, weight in context.model.named_parameters()}
