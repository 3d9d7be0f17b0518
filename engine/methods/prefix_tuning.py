"""Prefix tuning: learned keys and values in every layer (Li and Liang, https://arxiv.org/abs/2101.00190)."""

from typing import Any

import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.methods.virtual_tokens import DEFAULT_TOKENS, encoder_of, shared_settings
from engine.recipe.schema import Recipe

_INITIAL_SPREAD = 0.02


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PeftModel:
    """Freeze the model and put learned keys and values in front of those of every text; they learn in float32.

    Args:
        model: From `load_model`.
        recipe: `method.virtual_tokens` is read.
        tokenizer: Not read; every method has the same signature.
    """
    model.requires_grad_(False)
    config = PrefixTuningConfig(
        num_virtual_tokens=recipe.method.virtual_tokens or DEFAULT_TOKENS,
        **shared_settings(model, recipe, per_layer=True),
    )
    adapted: PeftModel = get_peft_model(model, config)
    encoder: Any = encoder_of(adapted)
    # The library draws from a spread of one, far wider than the keys and values of a model are.
    torch.nn.init.normal_(encoder.embedding.weight, std=_INITIAL_SPREAD)
    return adapted
