"""What the methods with virtual tokens share, and how a model is read and written with them in front.

The library's own `generate` puts virtual tokens before the padding of a batch and drops positions, so that answers
depend on what else is in the batch. Here the tokens are turned into keys and values once; texts follow behind them
with positions of their own, padded on either side.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft import PeftModel
from transformers import DynamicCache, PreTrainedModel

from engine.models.heads import head_of
from engine.planning.virtual_prompt import DEFAULT_TOKENS, default_encoder_width
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe

__all__ = [
    "DEFAULT_TOKENS",
    "behind_virtual_tokens",
    "default_encoder_width",
    "encoder_of",
    "num_virtual_tokens",
    "shared_settings",
    "start_cache",
    "without_virtual_tokens",
]

ADAPTER = "default"


def shared_settings(model: PreTrainedModel, recipe: Recipe, *, per_layer: bool = False) -> dict[str, Any]:
    """Return what the library wants to know of a model, and finds only in families that it knows.

    Args:
        model: The base model.
        recipe: `model.revision` is read.
        per_layer: The virtual tokens are keys and values of every layer, not embeddings.

    Raises:
        ProblemError: The model does not write text from left to right.
    """
    if head_of(model) != "causal-lm":
        message = "Virtual tokens work with models that write text from left to right, and this one does not."
        raise ProblemError(Problem("method.virtual_tokens_head", message, "Choose the method lora.", "method.name"))
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    key_value_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    settings: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "num_transformer_submodules": 1,
        "num_layers": int(config.num_hidden_layers),
        "num_attention_heads": key_value_heads if per_layer else heads,
        "token_dim": key_value_heads * width if per_layer else model.get_input_embeddings().weight.shape[1],
    }
    return settings | ({"revision": recipe.model.revision} if recipe.model.revision else {})


def encoder_of(model: PeftModel) -> torch.nn.Module:
    """Return the module whose weights are the virtual tokens, or make them."""
    encoder: torch.nn.Module = model.prompt_encoder[ADAPTER]
    return encoder


def num_virtual_tokens(model: torch.nn.Module) -> int:
    """Return how many virtual tokens stand in front of a text; 0 for other models, and while they are switched off."""
    if not isinstance(model, PeftModel) or model._adapters_disabled:
        return 0
    config: Any = model.active_peft_config
    return int(config.num_virtual_tokens) if config.is_prompt_learning else 0


def start_cache(model: torch.nn.Module, num_rows: int) -> DynamicCache | None:
    """Return keys and values of the virtual tokens for so many rows; None for a model without them.

    Whoever reads with them gives an attention mask that covers them, and positions that begin behind them.
    """
    if not num_virtual_tokens(model):
        return None
    assert isinstance(model, PeftModel)
    learner: Any = model
    config: Any = model.active_peft_config
    if config.peft_type == "PREFIX_TUNING":
        prefix: DynamicCache = learner.get_prompt(num_rows)
        return prefix
    base: Any = model.get_base_model()
    prompts: torch.Tensor = learner.get_prompt(1)
    decoder: Any = base.get_decoder()
    cache: DynamicCache = decoder(inputs_embeds=prompts.to(base.dtype), use_cache=True).past_key_values
    cache.batch_repeat_interleave(num_rows)
    return cache


def behind_virtual_tokens(model: torch.nn.Module, attention_BT: torch.Tensor) -> dict[str, Any]:
    """Return what a model is given beside the ids of texts, so that it reads them behind its virtual tokens.

    Args:
        model: With its method applied.
        attention_BT: One for each token of a text, zero for padding, which may stand on either side.
    """
    count = num_virtual_tokens(model)
    if not count:
        return {"attention_mask": attention_BT}
    ahead = attention_BT.new_ones((len(attention_BT), count))
    return {
        "attention_mask": torch.cat([ahead, attention_BT], dim=1),
        "position_ids": count + (attention_BT.long().cumsum(dim=1) - 1).clamp(min=0),
        "past_key_values": start_cache(model, len(attention_BT)),
    }


@contextmanager
def without_virtual_tokens(model: torch.nn.Module) -> Iterator[None]:
    """Read the base model alone: untrained virtual tokens change what it says, other fresh adapters do not."""
    learner: Any = model
    with learner.disable_adapter() if num_virtual_tokens(model) else nullcontext():
        yield
